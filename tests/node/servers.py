"""What runs on the node beside the control plane: containerd, kubelet, kube-proxy, and the scheduler.

All of it runs inside the node's namespaces, by the paths that are usual there; see `inside`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import debian
from controlplane.servers import Server, get
from marketfeed.local.process import plain_environment
from node.errors import NodeFailed

FILES = Path(__file__).with_name("files")
RUN = Path("/run/marketfeed")  # in the node's own /run
SOCKET = Path("/run/containerd/containerd.sock")
READY = "ready"  # what the inside writes when all answer
NAME = "marketfeed-node"
ADDRESS = "10.77.0.1"
API_PORT = 6443  # inside; what policies for the API server name everywhere
PODS = "10.88.0.0/16"
SERVICES = "10.96.0.0/16"

_CTR_TIMEOUT_S = 600


class Containerd(Server):
    """The container runtime."""

    name: ClassVar[str] = "containerd"

    def options(self) -> Mapping[str, str | Path]:
        """Return containerd's options."""
        return {"config": FILES / "containerd.toml"}

    def answers(self) -> bool:
        """Ask for its version."""
        return SOCKET.exists() and ctr("version").returncode == 0


class Kubelet(Server):
    """The node's agent. Its access is read from kubelet.kubeconfig in RUN."""

    name: ClassVar[str] = "kubelet"

    def __init__(self, directory: Path, program: Path, cgroup: str) -> None:
        super().__init__(directory, program)
        self._cgroup = cgroup

    def options(self) -> Mapping[str, str | Path]:
        """Return the kubelet's options; most stand in kubelet.yaml."""
        return {
            "config": FILES / "kubelet.yaml",
            "kubeconfig": RUN / "kubelet.kubeconfig",
            "cgroup-root": f"/{self._cgroup}",
            "hostname-override": NAME,
            "node-ip": ADDRESS,
            "v": "1",
        }

    def answers(self) -> bool:
        """Ask /healthz."""
        return get("http://127.0.0.1:10248/healthz") is not None


class KubeProxy(Server):
    """Services' addresses, as iptables rules."""

    name: ClassVar[str] = "kube-proxy"

    def options(self) -> Mapping[str, str | Path]:
        """Return kube-proxy's options."""
        return {"config": FILES / "kube-proxy.yaml"}

    def answers(self) -> bool:
        """Ask /livez."""
        return get("http://127.0.0.1:10256/livez") is not None


class Scheduler(Server):
    """Puts pods on the node. It serves nothing: that it works shows in the first pod."""

    name: ClassVar[str] = "kube-scheduler"

    def options(self) -> Mapping[str, str | Path]:
        """Return the scheduler's options."""
        access = RUN / "kube-scheduler.kubeconfig"
        return {
            "kubeconfig": access,
            "authentication-kubeconfig": access,
            "authorization-kubeconfig": access,
            "leader-elect": "false",
            "secure-port": "0",
            "kube-api-qps": "200",
            "kube-api-burst": "400",
        }

    def answers(self) -> bool:
        """Tell that it runs."""
        return self.running()


def ctr(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run containerd's own client on the images and containers that Kubernetes sees; inside the node."""
    return subprocess.run(
        [debian.on_path("ctr"), f"--address={SOCKET}", "--namespace=k8s.io", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=plain_environment(),
        timeout=_CTR_TIMEOUT_S,
        check=False,
    )


def import_image(archive: Path) -> None:
    """Give containerd the images of an archive; inside the node. Raises NodeFailed."""
    answer = ctr("images", "import", archive)
    if answer.returncode:
        raise NodeFailed(f"containerd refused {archive}: {answer.stderr.strip()}")
