"""Overlays on pod templates: what a person writes wins, and what he does not write stays."""

from typing import Any

import pytest

from marketfeed_operator.render.overlay import merged

OURS = {
    "spec": {
        "terminationGracePeriodSeconds": 30,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "ingestor",
                "image": "ours",
                "command": ["marketfeed", "ingest"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "ports": [{"name": "http", "containerPort": 8081}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/data"}],
            }
        ],
    }
}


def container(overlay: dict[str, Any]) -> Any:
    """Return our container under an overlay on it."""
    return merged(OURS, {"spec": {"containers": [{"name": "ingestor", **overlay}]}})["spec"]["containers"][0]


def test_maps_are_merged_deep() -> None:
    """A value inside changes, its neighbours stay."""
    made = merged(OURS, {"spec": {"securityContext": {"runAsUser": 1000}}})["spec"]
    assert made["securityContext"] == {**OURS["spec"]["securityContext"], "runAsUser": 1000}  # type: ignore[dict-item]
    assert made["containers"] == OURS["spec"]["containers"]


def test_variables_and_containers_are_merged_by_name() -> None:
    """A variable of the same name changes in its place, another one is added, and so are containers."""
    env = container({"env": [{"name": "C", "value": "3"}, {"name": "A", "value": "9"}]})["env"]
    assert env == [{"name": "A", "value": "9"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}]
    made = merged(OURS, {"spec": {"containers": [{"name": "sidecar", "image": "theirs"}]}})
    assert [item["name"] for item in made["spec"]["containers"]] == ["ingestor", "sidecar"]


def test_mounts_and_ports_are_told_apart_by_what_makes_them_one() -> None:
    """A second mount of a volume, or a port without a name, is added to ours."""
    made = container({"volumeMounts": [{"name": "tmp", "mountPath": "/var/run"}], "ports": [{"containerPort": 9000}]})
    assert [mount["mountPath"] for mount in made["volumeMounts"]] == ["/data", "/var/run"]
    assert [port["containerPort"] for port in made["ports"]] == [8081, 9000]


def test_plain_lists_are_replaced() -> None:
    """A command is one thing: half of ours and half of theirs would run nothing."""
    assert container({"command": ["sh"]})["command"] == ["sh"]


def test_null_takes_a_value_out() -> None:
    """What a person sets to null is as if we had never set it, and is not passed on."""
    made = merged(OURS, {"spec": {"terminationGracePeriodSeconds": None, "affinity": {"nodeAffinity": None}}})
    assert "terminationGracePeriodSeconds" not in made["spec"]
    assert made["spec"]["affinity"] == {}


@pytest.mark.parametrize("junk", ["text", [1], [{"image": "no name"}], [{"name": ["a"]}], None])
def test_what_makes_no_sense_is_passed_on_for_the_api_server_to_refuse(junk: Any) -> None:
    """Nothing fails here, and nothing is guessed."""
    assert merged(OURS, {"spec": {"containers": junk}})["spec"].get("containers") == junk
