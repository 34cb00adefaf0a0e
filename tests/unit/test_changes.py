"""Changes: what a write would do, in the right class, in words; what would lose records waits for a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from documents import SINK
from marketfeed_operator.changes import ChangeClass, Difference, approval_hash, classify, hold_back, worst
from marketfeed_operator.diff import WISH_PREFIX, writes
from marketfeed_operator.objects import CLAIM_PREFIX, Key, Manifest, claims_of
from rendering import UID, desired, observed, server_with
from server import Server

SYMBOLS = ["ADAUSDT", "BNBUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]
TOPIC = Key("kafka.strimzi.io", "KafkaTopic", "kafka", "binance.trades")
TWO_SHARDS = {"spec.symbols": SYMBOLS, "spec.ingest": {"streamsPerShard": 3}}


def differences(server: Server, changes: Mapping[str, Any], policy: str = "Retain") -> tuple[Difference, ...]:
    """Return what the changed document would change."""
    return classify(desired(changes), observed(server), UID, policy)


def told(found: tuple[Difference, ...]) -> list[tuple[str, str]]:
    """Return class and sentence of each."""
    return [(str(difference.change), difference.sentence) for difference in found]


def test_an_unchanged_feed_changes_nothing() -> None:
    """What was applied is found as it is."""
    assert differences(server_with({}), {}) == ()


def test_a_new_feed_adds_processes_and_destroys_nothing() -> None:
    """Every object is there as created; the worst of it is that processes are added."""
    found = differences(Server(), {})
    assert worst(found) is ChangeClass.SCALE
    assert {
        ("scale", "shard spot-ingestor-0 is added with 1 process"),
        ("live", "topic binance.trades is created with 3 partitions"),
    } <= set(told(found))
    assert [difference.key for difference in found] == [
        write.key for write in writes(desired({}), observed(Server()), UID)
    ]


def test_a_symbol_more_is_taken_live() -> None:
    """Streams that are added to a shard with room are one live change, and nothing else changes."""
    found = differences(server_with({}), {"spec.symbols": SYMBOLS[:3]})
    assert told(found) == [("live", "shard spot-ingestor-0 takes 2 streams more, live")]


def test_a_symbol_less_is_dropped_live() -> None:
    """A stream that nobody wants any more is one live change."""
    found = differences(server_with({"spec.symbols": SYMBOLS[:3]}), {"spec.symbols": SYMBOLS[:2]})
    assert told(found) == [("live", "shard spot-ingestor-0 drops 1 stream, live")]


def test_streams_that_move_between_shards_are_told_from_both_sides() -> None:
    """A second shard takes streams over and the first hands them over; processes are added."""
    found = differences(server_with({"spec.symbols": SYMBOLS}), TWO_SHARDS)
    sentences = {sentence: change for change, sentence in told(found)}
    assert sentences["shard spot-ingestor-1 takes over 3 streams from spot-ingestor-0, live"] == "reshard"
    assert sentences["shard spot-ingestor-0 hands 3 streams over to spot-ingestor-1, live"] == "reshard"
    assert sentences["shard spot-ingestor-1 is added with 1 process"] == "scale"
    assert worst(found) is ChangeClass.RESHARD


def test_a_shard_that_leaves_hands_its_streams_over() -> None:
    """The shard that is no longer needed is removed, and its streams move."""
    found = told(differences(server_with(TWO_SHARDS), {"spec.symbols": SYMBOLS}))
    assert ("scale", "shard spot-ingestor-1 is removed") in found
    assert ("reshard", "shard spot-ingestor-0 takes over 3 streams from spot-ingestor-1, live") in found
    assert ("reshard", "shard spot-ingestor-1 hands 3 streams over to spot-ingestor-0, live") in found


def test_more_replicas_scale_a_consumer() -> None:
    """A number of processes alone replaces none of them."""
    found = differences(server_with({}), {"spec.sinks.0.replicas": 3})
    assert told(found)[0] == ("scale", "consumer spot-consumer-timescale runs 3 processes instead of 1")
    assert worst(found) is ChangeClass.SCALE


def test_suspending_stops_processes() -> None:
    """A suspended feed keeps its objects and runs nothing."""
    found = told(differences(server_with({}), {"spec.suspend": True}))
    assert ("scale", "shard spot-ingestor-0 runs 0 processes instead of 1") in found
    assert {change for change, _ in found} == {"scale"}


def test_another_setting_replaces_the_processes_that_read_it() -> None:
    """A change of a process's environment is named by its variables; only that consumer is replaced."""
    (found,) = differences(server_with({}), {"spec.sinks.0.batch": {"rows": 100}})
    assert found.change is ChangeClass.ROLL
    assert found.sentence == "consumer spot-consumer-timescale is replaced: consumer.env.MARKETFEED_BATCH_ROWS"


def test_what_is_taken_away_is_a_change_too() -> None:
    """A field that is rendered no more replaces the pods, though everything that is rendered is there."""
    overlaid = {"spec.sinks": [{**SINK, "podTemplate": {"spec": {"nodeSelector": {"disk": "fast"}}}}]}
    assert told(differences(server_with(overlaid), {})) == [
        ("roll", "consumer spot-consumer-timescale is replaced: what is no longer asked for is taken away")
    ]


def test_more_partitions_move_keys() -> None:
    """Partitions that are added are told with what they do to the order of a symbol's records."""
    found = differences(server_with({}), {"spec.kafka.topics": {"partitions": 6}})
    assert {difference.change for difference in found} == {ChangeClass.RESHARD}
    assert found[0].sentence.startswith("topic binance.trades gets 6 partitions instead of 3: symbols move")


def test_shorter_retention_is_destructive_and_longer_is_not() -> None:
    """Kafka deletes what is older than a shorter retention; a longer one costs nothing."""
    shorter = differences(server_with({}), {"spec.kafka.topics": {"retention": "1d"}})
    assert told(shorter) == [
        ("destructive", "topic binance.trades keeps records for 1d instead of 7d: Kafka deletes the older ones")
    ]
    longer = differences(server_with({}), {"spec.kafka.topics": {"retention": "30d"}})
    assert told(longer) == [("live", "topic binance.trades has retention.ms 30d instead of 7d")]


RENAMED = {"spec.kafka.topics": {"names": {"trade": "prints"}}}


@pytest.mark.parametrize(
    ("policy", "told_of_it"),
    [
        ("Delete", ("destructive", "topic binance.trades is deleted with its records")),
        ("Retain", ("live", "topic binance.trades is let go: Kafka keeps it and its records")),
    ],
)
def test_a_topic_that_is_no_longer_wanted_goes_by_the_policy(policy: str, told_of_it: tuple[str, str]) -> None:
    """Under Delete its records go with it, under Retain they stay."""
    assert told_of_it in told(differences(server_with({}), RENAMED, policy))


def test_a_topic_that_others_want_is_left_to_them() -> None:
    """No policy deletes a topic that another feed claims."""
    server = server_with({})
    server.edit(TOPIC, lambda live: live["metadata"]["labels"].update({f"{CLAIM_PREFIX}u-2": "futures"}))
    assert ("live", "topic binance.trades is left to feed futures") in told(differences(server, RENAMED, "Delete"))


def test_what_is_on_its_way_out_is_no_change() -> None:
    """An object that is being deleted is neither changed nor removed by us."""
    server = server_with({})
    for key in server.objects:
        server.edit(key, lambda live: live["metadata"].update(deletionTimestamp="now"))
    assert differences(server, {"spec.sinks": [], "spec.suspend": True}, "Delete") == ()


def test_what_another_owns_is_told_and_not_changed() -> None:
    """An object of the name that another controller owns has a row of class none that says so."""
    server = server_with({})
    key = Key("apps", "Deployment", "feeds", "spot-ingestor-0")
    other = [{"kind": "Rollout", "name": "canary", "uid": "x", "controller": True}]
    server.edit(key, lambda live: live["metadata"].update(ownerReferences=other, labels={}))
    assert told(differences(server, {})) == [
        ("none", "Deployment feeds/spot-ingestor-0 belongs to Rollout canary: rename one of the two")
    ]


# Holding back


SHORTER = {"spec.kafka.topics": {"retention": "1d", "partitions": 6}, "spec.sinks.0.replicas": 3}


def held(
    server: Server, changes: Mapping[str, Any], approved: str | None, policy: str = "Retain"
) -> tuple[tuple[Manifest, ...], tuple[Difference, ...]]:
    """Return what may be applied and what waits."""
    wanted = desired(changes)
    seen = observed(server)
    return hold_back(wanted, seen, classify(wanted, seen, UID, policy), approved)


def retention(server: Server) -> int:
    """Return the retention of the trades' topic, ms."""
    kept: int = server.objects[TOPIC]["spec"]["config"]["retention.ms"]
    return kept


def test_only_what_is_destructive_waits() -> None:
    """Everything else of a change is applied; the topic keeps how long it keeps records."""
    server = server_with({})
    allowed, waiting = held(server, SHORTER, None)
    server.write(writes(allowed, observed(server), UID))
    assert [difference.key for difference in waiting] == [TOPIC]
    assert server.objects[TOPIC]["spec"]["partitions"] == 6
    assert retention(server) == 7 * 86_400_000
    assert told(differences(server, SHORTER)) == told(waiting), "only that is left to do"
    again, _ = held(server, SHORTER, None)
    assert writes(again, observed(server), UID) == ()


def test_an_approval_is_for_this_change_of_this_object() -> None:
    """The hash lets the change pass, and neither another value, another topic nor another state of the topic."""
    server = server_with({})
    approved = approval_hash(differences(server, SHORTER))
    assert held(server, SHORTER, approved) == (desired(SHORTER), ())
    assert held(server, {"spec.kafka.topics": {"retention": "2d"}}, approved)[1]
    server.edit(TOPIC, lambda live: live["metadata"].update(generation=2))
    assert held(server, SHORTER, approved)[1]
    server.edit(TOPIC, lambda live: live["metadata"].update(generation=None, uid="made anew"))
    assert held(server, SHORTER, approved)[1]


def test_nothing_destructive_has_no_hash() -> None:
    """There is nothing to approve where nothing is lost."""
    found = differences(server_with({}), {"spec.sinks.0.replicas": 3})
    assert approval_hash(found) is None
    assert approval_hash((*found, replace(found[0], change=ChangeClass.DESTRUCTIVE))) is not None


def test_a_topic_that_waits_for_its_deletion_stays_claimed() -> None:
    """Until it is approved the topic is among what is desired, as it is, and causes no writes for ever."""
    server = server_with({})
    for _ in range(3):
        allowed, waiting = held(server, RENAMED, None, "Delete")
        found = writes(allowed, observed(server), UID)
        server.write(found)
    assert found == ()
    assert [difference.key for difference in waiting] == [TOPIC]
    assert claims_of(server.objects[TOPIC]).keys() == {UID}
    assert TOPIC not in {
        write.key for write in writes(held(server, RENAMED, approval_hash(waiting), "Delete")[0], observed(server), UID)
    }


def test_a_topic_of_other_feeds_is_shared_and_not_taken_from_them() -> None:
    """Who wants what another feed has already, in the same way, is told whose it is."""
    server = server_with({})

    def anothers(live: dict[str, Any]) -> None:
        labels, annotations = live["metadata"]["labels"], live["metadata"]["annotations"]
        labels[f"{CLAIM_PREFIX}u-2"] = labels.pop(f"{CLAIM_PREFIX}{UID}").replace("spot", "other")
        annotations[f"{WISH_PREFIX}u-2"] = annotations.pop(f"{WISH_PREFIX}{UID}")

    server.edit(TOPIC, anothers)
    assert ("live", "topic binance.trades, which is there, is shared with feed feeds/other") in told(
        differences(server, {})
    )


def test_a_topic_that_is_adopted_keeps_its_partitions_and_its_records() -> None:
    """A topic that was there before, larger and with longer retention, is taken over without loss."""
    spec = {"partitions": 12, "replicas": 3, "config": {"retention.ms": -1}}
    made = {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {"name": TOPIC.name, "namespace": "kafka"},
        "spec": spec,
    }
    server = Server()
    server.apply(made, "kubectl", force=True)
    found = told(differences(server, {}))
    assert ("none", "topic binance.trades keeps its 12 partitions: Kafka cannot take any away") in found
    assert ("live", "topic binance.trades, which is there, is taken over") in found
    assert (
        "destructive",
        "topic binance.trades keeps records for 7d instead of ever: Kafka deletes the older ones",
    ) in found
    for _ in range(2):
        allowed, _ = held(server, {}, None)
        found_writes = writes(allowed, observed(server), UID)
        server.write(found_writes)
    assert found_writes == ()
    assert server.objects[TOPIC]["spec"]["partitions"] == 12
    assert server.objects[TOPIC]["spec"]["config"]["retention.ms"] == -1
    assert claims_of(server.objects[TOPIC]).keys() == {UID}


def test_a_topic_without_retention_of_its_own_is_not_cut_unasked() -> None:
    """How long the brokers keep records is not known, so a first retention waits too."""
    server = Server()
    made = {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {"name": TOPIC.name, "namespace": "kafka"},
        "spec": {"partitions": 3},
    }
    server.apply(made, "kubectl", force=True)
    allowed, waiting = held(server, {}, None)
    assert [difference.sentence for difference in waiting] == [
        "topic binance.trades keeps records for 7d instead of as long as the brokers say: Kafka deletes the older ones"
    ]
    server.write(writes(allowed, observed(server), UID))
    assert "retention.ms" not in server.objects[TOPIC]["spec"]["config"]


def test_the_worst_class_is_the_costliest() -> None:
    """Classes are ordered by what they cost; nothing is `none`."""
    assert worst(()) is ChangeClass.NONE
    assert worst(Difference(TOPIC, change, "") for change in ChangeClass) is ChangeClass.DESTRUCTIVE
