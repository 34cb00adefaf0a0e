"""A real Kubernetes node on this machine, without Docker: for tests, and for `make cluster`.

containerd, kubelet, kube-proxy, a scheduler and a control plane run in namespaces of their own, with CoreDNS and a
default storage class; from outside only its API server is reached, through a door on loopback. Debian's packages bring
the container runtime, Go modules the rest. See Node, and `python -m node up`.
"""

from node.errors import NodeFailed
from node.needs import missing
from node.node import Node

__all__ = ["Node", "NodeFailed", "missing"]
