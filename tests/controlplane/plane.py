"""A running control plane, and what people and tests do with it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controlplane import binaries
from controlplane.client import Client, KubectlFailed
from controlplane.servers import CONTROLLER_MANAGER, ApiServer, ControllerManager, Etcd
from marketfeed.local.files import write_atomically

__all__ = ["ControlPlane", "KubectlFailed", "Setting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a control plane stands: by default alone, on loopback, with no node.

    port: the API server's, a free one when None; tokens: bearer token → (user, group), beside the administrator's and
    the controller manager's; apiserver, controller_manager: options that are added, or taken in place of ours; one
    whose value is None is left out.
    """

    port: int | None = None
    tokens: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    apiserver: Mapping[str, str | Path | None] = field(default_factory=dict)
    controller_manager: Mapping[str, str | Path | None] = field(default_factory=dict)


ALONE = Setting()


class ControlPlane(Client):
    """etcd, kube-apiserver and kube-controller-manager in `directory`; they end with this process at the latest.

    A context manager, or `start()` and `stop()`. Nothing is taken up again: each start is a new, empty cluster.
    """

    def __init__(self, directory: Path, programs: binaries.Programs | None = None, *, setting: Setting = ALONE) -> None:
        self.directory = directory.absolute()
        self.programs = programs or binaries.provide()
        self.token = secrets.token_urlsafe(24)
        super().__init__(self.directory / "admin.kubeconfig", self.programs.kubectl)
        manager_token = secrets.token_urlsafe(24)
        tokens = {
            self.token: ("admin", "system:masters"),
            manager_token: (CONTROLLER_MANAGER, "system:authenticated"),
            **setting.tokens,
        }
        self.etcd = Etcd(self.directory / "etcd", self.programs.etcd)
        self.apiserver = ApiServer(
            self.directory / "apiserver",
            self.programs.apiserver,
            self.etcd.url,
            tokens,
            port=setting.port,
            changes=setting.apiserver,
        )
        self.controller_manager = ControllerManager(
            self.directory / "controller-manager",
            self.programs.controller_manager,
            self.apiserver,
            manager_token,
            changes=setting.controller_manager,
        )

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
