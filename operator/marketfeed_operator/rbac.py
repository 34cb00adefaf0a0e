"""What the operator may do: the rules of its role, and nothing that it does not use.

Pure. Two roles: one for the namespaces whose feeds it looks after, one for its own namespace, where its Lease is.
What does not live here: roles of the feeds' own pods (render.access).
"""

from __future__ import annotations

from typing import Any

from marketfeed_operator.objects import (
    ALWAYS_SERVED,
    CUSTOM_RESOURCE,
    EVENT,
    LEASE,
    MARKETFEED,
    POD,
    SECRET,
    SOMETIMES_SERVED,
    Manifest,
)
from marketfeed_operator.render.access import ANALYTICS_RULES

Rule = dict[str, Any]

_LOOK = ("get", "list", "watch")
_WRITE = ("create", "patch", "delete")


def feed_rules() -> list[Rule]:
    """Return the rules for every namespace that holds feeds or their topics."""
    children = dict.fromkeys((kind.group, kind.plural) for kind in (*ALWAYS_SERVED, *SOMETIMES_SERVED))
    return [
        rule(MARKETFEED.group, [MARKETFEED.plural], _LOOK),
        rule(MARKETFEED.group, [f"{MARKETFEED.plural}/status"], ("patch",)),
        *(rule(group, _plurals(children, group), (*_LOOK, *_WRITE)) for group in dict.fromkeys(g for g, _ in children)),
        rule(POD.group, [POD.plural], (*_LOOK, "patch")),
        # Versions of secrets that feeds name, as metadata only; values only for topics made over SASL.
        rule(SECRET.group, [SECRET.plural], ("get",)),
        rule(EVENT.group, [EVENT.plural], ("create", "patch")),
        # Nobody may hand out what he does not have: the rules that the streaming job's driver gets.
        *ANALYTICS_RULES,
    ]


def cluster_rules() -> list[Rule]:
    """Return what needs a cluster-wide role: to learn which APIs are installed."""
    return [rule(CUSTOM_RESOURCE.group, [CUSTOM_RESOURCE.plural], _LOOK)]


def lease_rules() -> list[Rule]:
    """Return the rules for the operator's own namespace."""
    return [rule(LEASE.group, [LEASE.plural], ("get", "create", "update", "patch"))]


def rule(group: str, resources: list[str], verbs: tuple[str, ...]) -> Rule:
    """Return one rule of a role."""
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}


def manifests(name: str, namespace: str) -> list[Manifest]:
    """Return the service account, roles and bindings of an operator that looks after every namespace."""
    account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return [
        _object("v1", "ServiceAccount", name, namespace, {}),
        _object(_RBAC, "ClusterRole", name, None, {"rules": [*feed_rules(), *cluster_rules()]}),
        _object(
            _RBAC, "ClusterRoleBinding", name, None, {"roleRef": _reference("ClusterRole", name), "subjects": [account]}
        ),
        _object(_RBAC, "Role", name, namespace, {"rules": lease_rules()}),
        _object(_RBAC, "RoleBinding", name, namespace, {"roleRef": _reference("Role", name), "subjects": [account]}),
    ]


_RBAC = "rbac.authorization.k8s.io/v1"


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}


def _object(api_version: str, kind: str, name: str, namespace: str | None, content: dict[str, Any]) -> Manifest:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def _plurals(children: dict[tuple[str, str], None], group: str) -> list[str]:
    return [plural for of, plural in children if of == group]
