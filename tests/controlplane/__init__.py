"""A real Kubernetes control plane on this machine, without Docker: for tests, and for `make control-plane`.

etcd, kube-apiserver and kube-controller-manager, built once from Go modules (`modules/`) and kept in the cache. There
is no scheduler and no node: Deployments become Pods, and nothing runs them.
"""

from controlplane.audit import Request
from controlplane.plane import ControlPlane, KubectlFailed

__all__ = ["ControlPlane", "KubectlFailed", "Request"]
