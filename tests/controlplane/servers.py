"""The three servers of a control plane: how each is started, and how to tell that it is ready.

What does not live here: where their programs come from (binaries), and what they are together (plane).
"""

from __future__ import annotations

import json
import shutil
import signal
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from controlplane import audit, kubeconfig
from marketfeed.local.embedded import START_TIMEOUT_S, EmbeddedServer
from marketfeed.local.files import write_atomically
from marketfeed.local.ports import free_port
from marketfeed.local.process import TiedProcess, plain_environment

SERVICE_RANGE = "10.0.0.0/24"
CONTROLLER_MANAGER = "system:kube-controller-manager"  # the user that Kubernetes' own roles are bound to

_ANSWER_S = 3


class Server(EmbeddedServer):
    """A server that keeps nothing worth an orderly end: SIGKILL is how it stops.

    changes: options that are added, or taken in place of those of `options`; one whose value is None is left out.
    """

    stop_signals: ClassVar[tuple[signal.Signals, ...]] = ()

    def __init__(
        self, directory: Path, program: Path, *, changes: Mapping[str, str | Path | None] | None = None
    ) -> None:
        super().__init__(directory)
        self._program = program
        self._changes = changes or {}

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start and wait until it answers; see EmbeddedServer."""
        self.prepare()
        chosen = {**self.options(), **self._changes}
        options = [f"--{name}={value}" for name, value in chosen.items() if value is not None]
        process = TiedProcess(
            [self._program, *options], log=self.log, directory=self.directory, environment=plain_environment()
        )
        self._run(process, timeout_s)

    def prepare(self) -> None:
        """Write the files that the server reads."""
        self.directory.mkdir(parents=True, exist_ok=True)

    def options(self) -> Mapping[str, str | Path]:
        """Return the command line's options by name; no secret is among them."""
        raise NotImplementedError


class Etcd(Server):
    """The database behind the API server; on loopback, without TLS, and it trusts the disk to be slow, not broken."""

    name = "etcd"

    def __init__(self, directory: Path, program: Path) -> None:
        super().__init__(directory, program)
        self.url = f"http://127.0.0.1:{free_port()}"
        self._peer_url = f"http://127.0.0.1:{free_port()}"

    def options(self) -> Mapping[str, str | Path]:
        """Return etcd's options."""
        return {
            "data-dir": self.directory / "data",
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": self._peer_url,
            "initial-advertise-peer-urls": self._peer_url,
            "initial-cluster": f"default={self._peer_url}",
            "unsafe-no-fsync": "true",  # what it holds is thrown away
            "log-level": "warn",
        }

    def answers(self) -> bool:
        """Ask whether it leads its cluster of one."""
        answer = get(f"{self.url}/health")
        return answer is not None and json.loads(answer)["health"] == "true"


class ApiServer(Server):
    """kube-apiserver with RBAC; it signs its own certificate, whose key also signs service accounts' tokens.

    tokens: bearer token → (user, group). They are read from a file, so none is on a command line.
    """

    name = "kube-apiserver"

    def __init__(
        self,
        directory: Path,
        program: Path,
        etcd_url: str,
        tokens: Mapping[str, tuple[str, str]],
        *,
        port: int | None = None,
        changes: Mapping[str, str | Path | None] | None = None,
    ) -> None:
        super().__init__(directory, program, changes=changes)
        self._etcd_url = etcd_url
        self._tokens = tokens
        self._port = port or free_port()
        self.certificates = self.directory / "certificates"
        self.certificate = self.certificates / "apiserver.crt"
        self.key = self.certificates / "apiserver.key"
        self.ca_file = self.certificates / "ca.crt"
        self.audit_log = self.directory / "audit.log"

    @property
    def url(self) -> str:
        """Where clients reach it; the same over restarts."""
        return f"https://127.0.0.1:{self._port}"

    def prepare(self) -> None:
        """Write the audit policy and the tokens."""
        super().prepare()
        (self.directory / "audit-policy.yaml").write_text(audit.POLICY)
        rows = [f'{token},{user},{user},"{group}"\n' for token, (user, group) in self._tokens.items()]
        write_atomically(self.directory / "tokens.csv", "".join(rows))

    def options(self) -> Mapping[str, str | Path]:
        """Return the API server's options."""
        return {
            "etcd-servers": self._etcd_url,
            "bind-address": "127.0.0.1",
            "secure-port": str(self._port),
            "advertise-address": "127.0.0.1",
            "endpoint-reconciler-type": "none",  # a loopback address is refused as the Service's endpoint
            "cert-dir": self.certificates,
            "token-auth-file": self.directory / "tokens.csv",
            "authorization-mode": "Node,RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": self.key,
            "service-account-signing-key-file": self.key,
            "service-cluster-ip-range": SERVICE_RANGE,
            "audit-policy-file": self.directory / "audit-policy.yaml",
            "audit-log-path": self.audit_log,
            "audit-log-maxsize": "10000",  # MB: one file for all that a run asks
            "allow-privileged": "true",
        }

    def answers(self) -> bool:
        """Ask /readyz; the first answer also yields the authority that clients are to trust."""
        if not self.certificate.exists():
            return False
        if not self.ca_file.exists():
            chain = self.certificate.read_text()
            if chain.count("END CERTIFICATE") < 2:
                return False
            self.ca_file.write_text(kubeconfig.authority(chain))
        return get(f"{self.url}/readyz", self.ca_file) is not None


class ControllerManager(Server):
    """kube-controller-manager: Deployments to Pods, garbage collection, namespaces, service accounts and the rest."""

    name = "kube-controller-manager"

    def __init__(
        self,
        directory: Path,
        program: Path,
        server: ApiServer,
        token: str,
        *,
        changes: Mapping[str, str | Path | None] | None = None,
    ) -> None:
        super().__init__(directory, program, changes=changes)
        self._server = server
        self._token = token
        self._kubeconfig = self.directory / "controller-manager.kubeconfig"

    def prepare(self) -> None:
        """Write how it reaches the API server."""
        super().prepare()
        write_atomically(
            self._kubeconfig, kubeconfig.render(self._server.url, self._server.ca_file.read_text(), self._token)
        )

    def options(self) -> Mapping[str, str | Path]:
        """Return the controller manager's options."""
        return {
            "kubeconfig": self._kubeconfig,
            "authentication-kubeconfig": self._kubeconfig,
            "authorization-kubeconfig": self._kubeconfig,
            "use-service-account-credentials": "true",
            "service-account-private-key-file": self._server.key,
            "root-ca-file": self._server.ca_file,
            "leader-elect": "false",
            "secure-port": "0",
            # Pods' addresses are loopback ones here, which are refused as a Service's endpoints.
            "controllers": "*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
            "kube-api-qps": "200",  # its default of 20 is what tests would wait for
            "kube-api-burst": "400",
        }

    def answers(self) -> bool:
        """Ask for what it creates first in a new cluster: without this account no Pod can be created."""
        account = f"{self._server.url}/api/v1/namespaces/default/serviceaccounts/default"
        return get(account, self._server.ca_file, self._token) is not None


def get(url: str, ca_file: Path | None = None, token: str = "") -> bytes | None:
    """Return what `url` answers with; None when it does not answer, or not with success."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - loopback, from our own servers
    context = ssl.create_default_context(cafile=str(ca_file)) if ca_file else None
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),  # loopback is never reached through a proxy
        *([urllib.request.HTTPSHandler(context=context)] if context else []),
    )
    try:
        with opener.open(request, timeout=_ANSWER_S) as answer:
            content: bytes = answer.read()
            return content
    except (OSError, ValueError):
        return None


def remove(directory: Path) -> None:
    """Remove what servers left."""
    shutil.rmtree(directory, ignore_errors=True)
