"""What the operator may do: the rules of its role, and nothing that it does not use.

`python -m marketfeed_operator.rbac | kubectl apply -f -` gives an operator its account and its roles.
Two roles: one for the namespaces whose feeds it looks after, one for its own namespace, where its Lease is.
What does not live here: roles of the feeds' own pods (render.access).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from marketfeed_operator.manifests import as_yaml
from marketfeed_operator.objects import (
    ALWAYS_SERVED,
    CUSTOM_RESOURCE,
    EVENT,
    KAFKA_TOPIC_V1,
    LEASE,
    MANAGER,
    MARKETFEED,
    POD,
    SECRET,
    SOMETIMES_SERVED,
    Manifest,
)
from marketfeed_operator.render.access import ANALYTICS_RULES

Rule = dict[str, Any]

_FOLLOW = ("list", "watch")
_LOOK = ("get", *_FOLLOW)
_WRITE = ("create", "patch", "delete")


def feed_rules() -> list[Rule]:
    """Return the rules for every namespace that holds feeds or their topics."""
    children = dict.fromkeys((kind.group, kind.plural) for kind in (*ALWAYS_SERVED, *SOMETIMES_SERVED))
    return [
        rule(MARKETFEED.group, [MARKETFEED.plural], _FOLLOW),
        rule(MARKETFEED.group, [f"{MARKETFEED.plural}/status"], ("patch",)),
        *(rule(group, _plurals(children, group), (*_LOOK, *_WRITE)) for group in dict.fromkeys(g for g, _ in children)),
        rule(POD.group, [POD.plural], (*_FOLLOW, "patch")),
        # Versions of secrets that feeds name, as metadata only; values only for topics made over SASL.
        rule(SECRET.group, [SECRET.plural], ("get",)),
        rule(EVENT.group, [EVENT.plural], ("create", "patch")),
        # Nobody may hand out what he does not have: the rules that the streaming job's driver gets.
        *ANALYTICS_RULES,
    ]


def cluster_rules() -> list[Rule]:
    """Return what an operator of all namespaces needs beside: kopf follows which kinds there are."""
    return [rule(CUSTOM_RESOURCE.group, [CUSTOM_RESOURCE.plural], _FOLLOW)]


def lease_rules() -> list[Rule]:
    """Return the rules for the operator's own namespace."""
    return [rule(LEASE.group, [LEASE.plural], ("get", "create", "update"))]


def rule(group: str, resources: list[str], verbs: tuple[str, ...]) -> Rule:
    """Return one rule of a role."""
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}


def topic_rules() -> list[Rule]:
    """Return the rules for a namespace that holds topics and no feeds."""
    return [rule(KAFKA_TOPIC_V1.group, [KAFKA_TOPIC_V1.plural], (*_LOOK, *_WRITE))]


def manifests(
    name: str, namespace: str, namespaces: Sequence[str] = (), topic_namespaces: Sequence[str] = ()
) -> list[Manifest]:
    """Return the service account, roles and bindings of an operator that looks after the feeds of `namespaces`.

    None means all of them. Otherwise there is no cluster-wide role, and `topic_namespaces` are where else KafkaTopics
    may be written to; operators that share one need names of their own. All the namespaces must exist.
    """
    account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    everywhere = () if namespaces else _granted("ClusterRole", name, None, [*feed_rules(), *cluster_rules()], account)
    far = [place for place in dict.fromkeys(topic_namespaces) if place not in namespaces] if namespaces else []
    return [
        _object("v1", "ServiceAccount", name, namespace, {}),
        *everywhere,
        *_granted("Role", f"{name}-lease", namespace, lease_rules(), account),
        *(each for place in dict.fromkeys(namespaces) for each in _granted("Role", name, place, feed_rules(), account)),
        *(each for place in far for each in _granted("Role", f"{name}-topics", place, topic_rules(), account)),
    ]


_RBAC = "rbac.authorization.k8s.io/v1"


def _granted(
    kind: str, name: str, namespace: str | None, rules: list[Rule], account: dict[str, str]
) -> tuple[Manifest, Manifest]:
    """Return a role and the binding that gives it to the account."""
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    bound = {"roleRef": reference, "subjects": [account]}
    return (
        _object(_RBAC, kind, name, namespace, {"rules": rules}),
        _object(_RBAC, f"{kind}Binding", name, namespace, bound),
    )


def _object(api_version: str, kind: str, name: str, namespace: str | None, content: dict[str, Any]) -> Manifest:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def _plurals(children: dict[tuple[str, str], None], group: str) -> list[str]:
    return [plural for of, plural in children if of == group]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--name", default=MANAGER, show_default=True, help="Name of the account and of its roles.")
@click.option(
    "--namespace",
    default="marketfeed",
    show_default=True,
    help="The account's namespace, and the Lease's; it must exist.",
)
@click.option(
    "--namespaces",
    default="",
    help="Namespaces whose feeds are looked after, comma-separated, as in OPERATOR_WATCH_NAMESPACES.  [default: all]",
)
@click.option(
    "--topic-namespaces",
    default="kafka",
    show_default=True,
    help="Where else KafkaTopics are written, as in OPERATOR_TOPIC_NAMESPACES; only read with --namespaces.",
)
def main(name: str, namespace: str, namespaces: str, topic_namespaces: str) -> None:
    """Print the service account that the operator runs under, its roles and their bindings, as YAML."""
    click.echo(as_yaml(manifests(name, namespace, _split(namespaces), _split(topic_namespaces))), nl=False)


def _split(text: str) -> list[str]:
    return [part for each in text.split(",") if (part := each.strip())]


if __name__ == "__main__":
    main()
