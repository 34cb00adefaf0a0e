"""Which replica of the operator leads, as its Lease says."""

from __future__ import annotations

from stand.cluster import Cluster, Object


def holder(cluster: Cluster, namespace: str) -> str:
    """Return the name of the pod that holds the operator's Lease, empty where nobody does.

    The identity in the Lease is the pod's name, `_` and a word of the process's own.
    """
    leases = [one["spec"] for one in cluster.items("leases.coordination.k8s.io", namespace) if "spec" in one]
    return next((str(one.get("holderIdentity") or "").rpartition("_")[0] for one in leases), "")


def leader(cluster: Cluster, namespace: str) -> Object | None:
    """Return the pod that leads, None where none does."""
    found = holder(cluster, namespace)
    return next((pod for pod in cluster.pods(namespace) if pod["metadata"]["name"] == found), None)
