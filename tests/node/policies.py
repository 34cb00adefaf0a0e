"""What enforces network policies on the node: the firewall of kube-router, by rules of iptables and sets of ipset.

The CNI plug-ins of Debian enforce none. Of kube-router only its policy controller runs; pods' addresses and routes stay
the plug-ins', services kube-proxy's. What the node itself sends to a pod passes whatever the policies say, so that the
kubelet's probes do; a connection that a policy refuses is answered with an ICMP error, so that it fails at once. Ports
are those behind a Service: a rule for DNS names the port that CoreDNS listens on, one for the API server that server's.
A pod is open from its start until its address is known and the rules are made, some tenths of a second.
What does not live here: the program (controlplane.binaries), and the policies (the charts).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from controlplane.servers import Server, get
from marketfeed.local.process import plain_environment

ACCESS = Path(__file__).with_name("files") / "policies.yaml"  # the role of USER, to be applied before the start
USER = "system:kube-router"
HEALTH_PORT = 20244

_CHAIN = "KUBE-NWPLCY-DEFAULT"  # the last that is made before the first policies are looked at
_IPTABLES_TIMEOUT_S = 10


class Policies(Server):
    """kube-router's policy controller. The Node must be registered when it starts: it ends where it finds none.

    kubeconfig: an access that may do what ACCESS says; node_name: the Node's name; services: the range of the
    services' addresses.
    """

    name: ClassVar[str] = "kube-router"

    def __init__(self, directory: Path, program: Path, kubeconfig: Path, node_name: str, services: str) -> None:
        super().__init__(directory, program)
        self._options = options(kubeconfig, node_name, services)

    def options(self) -> Mapping[str, str | Path]:
        """Return kube-router's options."""
        return self._options

    def answers(self) -> bool:
        """Ask /healthz, and whether this network namespace has the rules; /healthz alone is well before that."""
        return get(f"http://127.0.0.1:{HEALTH_PORT}/healthz") is not None and _in_force()


def options(kubeconfig: Path, node_name: str, services: str) -> dict[str, str | Path]:
    """Return the options that leave of kube-router its policy controller alone."""
    return {
        "kubeconfig": kubeconfig,
        "hostname-override": node_name,
        "service-cluster-ip-range": services,
        "run-firewall": "true",
        "run-router": "false",
        "run-service-proxy": "false",
        "run-loadbalancer": "false",
        "enable-cni": "false",
        "health-port": str(HEALTH_PORT),
        "metrics-port": "0",  # none: it is the node's own
    }


def _in_force() -> bool:
    answer = subprocess.run(
        ["iptables", "--wait", "-S", _CHAIN],  # noqa: S607 - the PATH's, as kube-router takes it
        env=plain_environment(),
        capture_output=True,
        timeout=_IPTABLES_TIMEOUT_S,
        check=False,
    )
    return answer.returncode == 0
