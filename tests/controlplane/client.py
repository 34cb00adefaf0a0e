"""What people and tests do with an API server that runs, wherever that is: in a control plane, or in a whole node."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from controlplane import audit, kubeconfig
from marketfeed.errors import MarketfeedError
from marketfeed.local.files import write_atomically
from marketfeed.local.process import plain_environment

KUBECTL_TIMEOUT_S = 120.0

_TOKEN_VALID = "24h"


class KubectlFailed(MarketfeedError):
    """kubectl answered with an error; the message is what it said."""


def helm_environment(folder: Path, kubeconfig: Path) -> dict[str, str]:
    """Return the environment of a helm that knows one cluster, and none of the user's repositories and plug-ins.

    What it keeps is below `folder`; without a place for what the API server serves it would write to its directory.
    """
    homes = {f"HELM_{kind}_HOME": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
    return {**plain_environment(), **homes, "KUBECACHEDIR": str(folder / "kube"), "KUBECONFIG": str(kubeconfig)}


class Client(ABC):
    """An API server's administrator. `kubeconfig` is the file with the access; kubectl's cache is kept beside it.

    A context manager, which starts the server and ends it, or `start()` and `stop()`.
    """

    def __init__(self, kubeconfig: Path, kubectl: Path) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Start all that is to answer, and wait until it does."""

    @abstractmethod
    def stop(self) -> None:
        """End all of it."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the API server answers: https on loopback; the same over its restarts."""

    @property
    @abstractmethod
    def ca_file(self) -> Path:
        """The certificate (PEM) that clients trust."""

    @property
    @abstractmethod
    def audit_log(self) -> Path:
        """The API server's audit log: one JSON event a line, without contents of objects."""

    def kubectl(
        self,
        *arguments: str | Path,
        input: str | None = None,  # noqa: A002 - named as in subprocess
        check: bool = True,
        kubeconfig: Path | None = None,
        timeout_s: float = KUBECTL_TIMEOUT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator, or as `kubeconfig` says; raises KubectlFailed unless `check` is False."""
        command: list[str | Path] = [self._kubectl, f"--kubeconfig={kubeconfig or self.kubeconfig}"]
        command += [f"--cache-dir={self.kubeconfig.parent / 'kubectl-cache'}", *arguments]
        answer = subprocess.run(
            command,
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=plain_environment(),
            timeout=timeout_s,
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
