"""A running control plane, and what people and tests do with it."""

from __future__ import annotations

import secrets
import subprocess
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from controlplane import audit, binaries, kubeconfig
from controlplane.servers import CONTROLLER_MANAGER, ApiServer, ControllerManager, Etcd
from marketfeed.errors import MarketfeedError
from marketfeed.local.files import write_atomically
from marketfeed.local.process import plain_environment

_KUBECTL_TIMEOUT_S = 120
_TOKEN_VALID = "24h"


class KubectlFailed(MarketfeedError):
    """kubectl answered with an error; the message is what it said."""


class ControlPlane:
    """etcd, kube-apiserver and kube-controller-manager in `directory`; they end with this process at the latest.

    A context manager, or `start()` and `stop()`. Nothing is taken up again: each start is a new, empty cluster.
    """

    def __init__(self, directory: Path, programs: binaries.Programs | None = None) -> None:
        self.directory = directory.absolute()
        self.programs = programs or binaries.provide()
        self.token = secrets.token_urlsafe(24)
        manager_token = secrets.token_urlsafe(24)
        tokens = {
            self.token: ("admin", "system:masters"),
            manager_token: (CONTROLLER_MANAGER, "system:authenticated"),
        }
        self.etcd = Etcd(self.directory / "etcd", self.programs.etcd)
        self.apiserver = ApiServer(self.directory / "apiserver", self.programs.apiserver, self.etcd.url, tokens)
        self.controller_manager = ControllerManager(
            self.directory / "controller-manager", self.programs.controller_manager, self.apiserver, manager_token
        )
        self.kubeconfig = self.directory / "admin.kubeconfig"

    @property
    def url(self) -> str:
        """Where the API server answers: https on loopback; the same over its restarts."""
        return self.apiserver.url

    @property
    def ca_file(self) -> Path:
        """The certificate (PEM) that clients trust."""
        return self.apiserver.ca_file

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: one JSON event a line, without contents of objects."""
        return self.apiserver.audit_log

    @property
    def pids(self) -> list[int]:
        """The process ids of the servers that run."""
        servers = (self.etcd, self.apiserver, self.controller_manager)
        return [server.pid for server in servers if server.pid is not None]

    @property
    def is_whole(self) -> bool:
        """Whether all its servers run."""
        return len(self.pids) == 3

    def start(self) -> None:
        """Start all and wait until Pods can be created; raises ServerFailed with the end of a log when it cannot."""
        try:
            self.etcd.start()
            self.apiserver.start()
            write_atomically(self.kubeconfig, self._render(self.token))
            self.controller_manager.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all; what the cluster held is worthless afterwards."""
        for server in (self.controller_manager, self.apiserver, self.etcd):
            server.kill()

    def kill_apiserver(self) -> None:
        """End the API server alone with SIGKILL: an outage."""
        self.apiserver.kill()

    def start_apiserver(self) -> None:
        """Start the API server again, on the same port and with the same data; returns when it is ready."""
        self.apiserver.start()

    def kubectl(
        self,
        *arguments: str | Path,
        input: str | None = None,  # noqa: A002 - named as in subprocess
        check: bool = True,
        kubeconfig: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator, or as `kubeconfig` says; raises KubectlFailed unless `check` is False."""
        command: list[str | Path] = [self.programs.kubectl, f"--kubeconfig={kubeconfig or self.kubeconfig}"]
        command += [f"--cache-dir={self.directory / 'kubectl-cache'}", *arguments]
        answer = subprocess.run(
            command,
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=plain_environment(),
            timeout=_KUBECTL_TIMEOUT_S,
            check=False,
        )
        if check and answer.returncode:
            raise KubectlFailed(f"kubectl {' '.join(map(str, arguments))}: {answer.stderr.strip()}")
        return answer

    def service_account_kubeconfig(self, namespace: str, name: str, path: Path, *, valid: str = _TOKEN_VALID) -> Path:
        """Write to `path` how to reach the API server as a service account that exists, and return `path`.

        valid: how long, as 24h.
        """
        token = self.kubectl("create", "token", name, f"--namespace={namespace}", f"--duration={valid}").stdout
        write_atomically(path, self._render(token.strip(), namespace))
        return path

    def requests(self, user: str, since: datetime | None = None) -> list[audit.Request]:
        """Return what `user` asked of the API server, the oldest first; `since` an aware time, all when None.

        A service account is the user "system:serviceaccount:NAMESPACE:NAME".
        """
        with self.audit_log.open() as log:
            found = [request for request in audit.requests(log) if request.user == user]
        return [request for request in found if since is None or request.at >= since]

    def writes(self, user: str, since: datetime | None = None) -> list[audit.Request]:
        """Return those of `requests` that were accepted and could change something."""
        return [request for request in self.requests(user, since) if request.is_write]

    def _render(self, token: str, namespace: str = "default") -> str:
        return kubeconfig.render(self.url, self.ca_file.read_text(), token, namespace)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
