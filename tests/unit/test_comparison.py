"""What `marketfeed plan --against cluster` shows: changes of the feed, and no noise of the installation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from documents import changed
from marketfeed_operator.changes import ChangeClass
from marketfeed_operator.comparison import Comparison, compare, defaults_of, desired
from marketfeed_operator.describe import comparison_as_json, describe_comparison
from marketfeed_operator.diff import writes
from marketfeed_operator.objects import APPROVE, PAUSED, Manifest
from marketfeed_operator.observed import Observed
from marketfeed_operator.plan import Defaults, plan
from marketfeed_operator.render import Installation, Owner, render
from marketfeed_operator.spec import parse
from rendering import ALL_SERVED, UID
from server import Server

OTHER = Installation("registry.local/services:7", "registry.local/analytics:7", "Always", ("pull",))
ANALYTICS = {"spec.analytics": {"checkpoint": {"location": "s3a://bucket/path"}}}


def running(changes: Mapping[str, Any], secrets: Mapping[str, str | None], annotations: Manifest) -> Observed:
    """Return a cluster in which an operator with other images and other brokers runs the changed document."""
    feed, server = parse(changed(dict(changes))), Server()
    made = plan(feed, Defaults(bootstrap_servers="brokers.elsewhere:9092"))
    owner = Owner("spot", "feeds", UID)
    objects = render(made, feed, owner, OTHER, ALL_SERVED, holdings=made.holdings, secrets=secrets, nudge="3@1")
    metadata = {"name": "spot", "namespace": "feeds", "uid": UID, "annotations": dict(annotations)}
    body = {**changed(dict(changes)), "metadata": metadata}
    server.write(writes(objects, Observed(body, ALL_SERVED), UID))
    return Observed(body, ALL_SERVED, dict(server.objects), secrets=secrets)


def compared(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    annotations: Manifest | None = None,
    unreadable: tuple[str, ...] = (),
) -> Comparison:
    """Return what applying the document with `after` changes where it runs with `before`."""
    observed = running(before, {"timescale": "u:1"}, annotations or {})
    feed = parse(changed(dict(after)))
    if unreadable:
        observed = replace(observed, secrets=dict.fromkeys(unreadable))
    wanted = desired(feed, plan(feed, defaults_of(observed)), observed)
    return compare(feed, wanted, observed, unreadable)


def test_what_the_installation_decides_is_no_change() -> None:
    """Images, pull secrets, brokers and restarts of the job that are the operator's choice are left as they are."""
    assert compared(ANALYTICS, ANALYTICS).differences == ()


def test_a_feed_that_names_its_brokers_is_compared_with_them() -> None:
    """Brokers that the feed itself names, or no longer names, are a change."""
    named = {"spec.kafka": {"bootstrapServers": "mine:9092"}}
    (shard, consumer) = compared({}, named).differences
    assert shard.change is consumer.change is ChangeClass.ROLL
    assert "KAFKA_BOOTSTRAP_SERVERS" in shard.sentence


def test_secrets_that_may_not_be_read_are_not_compared() -> None:
    """Without leave to see a secret's version no change is claimed, and a note says so."""
    found = compared({}, {}, unreadable=("timescale",))
    assert found.differences == ()
    assert found.notes[0].startswith("the version of timescale may not be read")


def test_nothing_to_change_is_one_line_and_the_connections() -> None:
    """An unchanged feed is said to be so, with what it needs at the venue."""
    assert describe_comparison(compared({}, {})) == (
        "spot in namespace feeds: nothing changes\n"
        "\n"
        "NEEDS              NOW  MEANWHILE  THEN  LIMIT\n"
        "venue connections  1    1          1     300 new ones per 5m and address\n"
    )


def test_changes_are_listed_by_what_they_cost() -> None:
    """Each change has its class, object and sentence; the costliest comes last and stands in the first line."""
    symbols = {"spec.symbols": ["ADAUSDT", "BTCUSDT", "ETHUSDT", "XRPUSDT"]}
    after = {**symbols, "spec.sinks.0.replicas": 2, "spec.ingest.streamsPerShard": 2}
    lines = describe_comparison(compared(symbols, after)).splitlines()
    assert lines[0].endswith("changes, at most reshard: streams or keys move")
    assert lines[2].split() == ["CLASS", "OBJECT", "CHANGE"]
    classes = [line.split()[0] for line in lines[3 : lines.index("", 3)]]
    assert classes == sorted(classes, key=[str(each) for each in ChangeClass].index)
    assert "venue connections  1    2          2     300 new ones per 5m and address" in lines


def test_a_destructive_change_comes_with_the_command_that_approves_it() -> None:
    """The command is complete; with the annotation set, the change is said to be approved."""
    shorter = {"spec.kafka.topics": {"retention": "1d"}}
    found = compared({}, shorter)
    assert not found.approved
    command = f"kubectl annotate marketfeed spot -n feeds {APPROVE}={found.approval} --overwrite"
    assert f"\n  {command}\n" in describe_comparison(found)
    assert json.loads(comparison_as_json(found))["approval"] == {
        "hash": found.approval,
        "approved": False,
        "command": command,
    }
    approved = compared({}, shorter, {APPROVE: str(found.approval)})
    assert approved.approved
    assert command not in describe_comparison(approved)


def test_json_has_every_change() -> None:
    """Programs get the class of the whole, and each change with its object."""
    content = json.loads(comparison_as_json(compared({}, {"spec.symbols": ["BTCUSDT", "ETHUSDT"]})))
    assert (content["feed"], content["namespace"], content["class"]) == ("spot", "feeds", "live")
    assert content["changes"] == [
        {
            "class": "live",
            "group": "",
            "kind": "ConfigMap",
            "namespace": "feeds",
            "name": "spot-ingestor-0",
            "change": "shard spot-ingestor-0 takes 1 stream more, live",
        }
    ]
    assert content["approval"] == {"hash": None, "approved": False, "command": None}
    assert content["connections"]["now"] == content["connections"]["needed"] == 1


def test_what_keeps_the_operator_from_it_is_noted() -> None:
    """A paused feed and a cluster without topics are told."""
    found = compared({}, {}, {PAUSED: "true"})
    assert f"Warning: the feed is paused: nothing of this is done while its annotation {PAUSED} is true" in (
        describe_comparison(found)
    )
