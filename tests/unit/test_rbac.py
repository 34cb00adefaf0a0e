"""The operator's own permissions: nothing too much, nothing missing, and printed so that kubectl takes them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from marketfeed_operator import rbac
from marketfeed_operator.objects import ALWAYS_SERVED, SOMETIMES_SERVED

NARROW = ["--namespaces", "feeds, more", "--topic-namespaces", "kafka,feeds"]


def printed(*arguments: str) -> list[dict[str, Any]]:
    """Return the objects that the command prints."""
    outcome = CliRunner().invoke(rbac.main, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return list(yaml.safe_load_all(outcome.output))


def named(objects: list[dict[str, Any]], kind: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the objects of a kind by namespace (empty: none) and name."""
    found = [each for each in objects if each["kind"] == kind]
    return {(each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in found}


def resources(role: dict[str, Any]) -> set[str]:
    """Return what a role says anything about."""
    return {resource for rule in role["rules"] for resource in rule["resources"]}


def test_what_is_printed_is_what_the_tests_give_their_operators() -> None:
    """The command hides and adds nothing."""
    assert printed() == rbac.manifests("marketfeed-operator", "marketfeed")


def test_the_charts_rules_are_up_to_date() -> None:
    """The operator's chart grants what the operator asks for now, each rule where it is needed."""
    text = rbac.CHART_FILE.read_text(encoding="utf-8")
    assert text == rbac.rules_text(), f"{rbac.CHART_FILE} is stale: run `make generate`"
    assert printed("--rules") == [
        {
            "feed": rbac.feed_rules(),
            "cluster": rbac.cluster_rules(),
            "lease": rbac.lease_rules(),
            "topics": rbac.topic_rules(),
        }
    ]


@pytest.mark.parametrize("arguments", [[], NARROW])
def test_every_binding_gives_a_printed_role_to_the_account(arguments: list[str]) -> None:
    """No reference leads nowhere, no role is without a binding, and no two objects have one name."""
    objects = printed(*arguments)
    accounts = named(objects, "ServiceAccount")
    for kind in ("ClusterRole", "Role"):
        roles, bindings = named(objects, kind), named(objects, f"{kind}Binding")
        assert roles.keys() == bindings.keys()
        for (namespace, _), binding in bindings.items():
            assert (namespace, binding["roleRef"]["name"]) in roles
            assert binding["roleRef"]["kind"] == kind
            (subject,) = binding["subjects"]
            assert (subject["namespace"], subject["name"]) in accounts
    keys = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(keys) == len(set(keys))


def test_an_operator_of_some_namespaces_can_write_nowhere_else() -> None:
    """It has no cluster-wide role; in a namespace of topics it has topics alone."""
    objects = printed(*NARROW)
    assert named(objects, "ClusterRole") == {}
    roles = named(objects, "Role")
    assert {place for place, _ in roles} == {"feeds", "more", "kafka", "marketfeed"}
    assert resources(roles["kafka", "marketfeed-operator-topics"]) == {"kafkatopics"}
    assert resources(roles["marketfeed", "marketfeed-operator-lease"]) == {"leases"}
    assert roles["feeds", "marketfeed-operator"]["rules"] == rbac.feed_rules()


def test_feeds_in_the_operators_own_namespace_leave_it_its_lease() -> None:
    """Both roles are there: neither replaces the other."""
    roles = named(printed("--namespaces", "marketfeed"), "Role")
    assert {"leases", "marketfeeds"} <= resources(roles["marketfeed", "marketfeed-operator"]) | resources(
        roles["marketfeed", "marketfeed-operator-lease"]
    )


def test_no_rule_is_a_wildcard_and_no_secret_is_listed() -> None:
    """Secrets are read by name alone."""
    rules = [*rbac.feed_rules(), *rbac.cluster_rules(), *rbac.lease_rules()]
    assert not [rule for rule in rules if "*" in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])]
    assert [rule["verbs"] for rule in rules if "secrets" in rule["resources"]] == [["get"]]


def test_every_kind_of_child_may_be_written_and_removed() -> None:
    """What the operator makes, it can also change and take away."""
    rights = {
        (group, resource): set(rule["verbs"])
        for rule in rbac.feed_rules()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if (group, resource) != ("", "pods") and "patch" in rule["verbs"]
    }
    for kind in (*ALWAYS_SERVED, *SOMETIMES_SERVED):
        assert {"get", "list", "watch", "create", "patch", "delete"} <= rights[kind.group, kind.plural], kind
