"""What an account of a cluster may do, as its roles say.

What does not live here: what it did (controlplane.client reads the audit log), and comparing the two (rights).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from marketfeed_operator.objects import (
    KAFKA_TOPIC_V1,
    POD_MONITOR,
    Kind,
)
from marketfeed_operator.rbac import rule
from marketfeed_operator.render.access import ANALYTICS_RULES
from rights import Right, of_rules
from stand.cluster import Cluster, Object

_ALL = ("get", "list", "watch", "create", "patch", "delete")


def _of(kinds: Iterable[Kind], verbs: tuple[str, ...], why: str) -> dict[Right, str]:
    return dict.fromkeys(of_rules([rule(kind.group, [kind.plural], verbs) for kind in kinds]), why)


UNSEEN: Mapping[Right, str] = {
    **_of((KAFKA_TOPIC_V1, POD_MONITOR), _ALL, "their APIs are not served on this node"),
    **dict.fromkeys(of_rules(ANALYTICS_RULES), "nobody may hand out what he does not have: for the streaming job"),
}
"""Rights that no scenario on this node needs, and why; tests/operator uses them."""


def account(cluster: Cluster, namespace: str) -> str:
    """Return the user that the operator's pods are to the API server."""
    (deployment,) = cluster.items("deployments", namespace)
    return f"system:serviceaccount:{namespace}:{deployment['spec']['template']['spec']['serviceAccountName']}"


def allowed(cluster: Cluster, user: str) -> set[Right]:
    """Return what the roles that are bound to a service account allow."""
    roles = [role for kind in ("clusterrolebindings", "rolebindings") for role in _roles(cluster, kind, user)]
    return of_rules(each for role in roles for each in role["rules"])


def _roles(cluster: Cluster, bindings: str, user: str) -> Iterator[Object]:
    _, _, namespace, name = user.split(":")
    for binding in cluster.items(bindings):
        subjects = binding.get("subjects") or ()
        if any(
            (one["kind"], one.get("namespace"), one["name"]) == ("ServiceAccount", namespace, name) for one in subjects
        ):
            reference = binding["roleRef"]
            where = "" if reference["kind"] == "ClusterRole" else str(binding["metadata"]["namespace"])
            role = cluster.get(reference["kind"].lower(), reference["name"], where)
            assert role is not None, f"{binding['metadata']['name']} binds a role that is not there"
            yield role
