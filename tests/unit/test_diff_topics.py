"""Topics that feeds share: one wish is applied, different ones leave the topic as it is, and nothing is stuck."""

from __future__ import annotations

from typing import Any

from marketfeed_operator.diff import Apply, refusals, stamp, writes
from marketfeed_operator.objects import CLAIM_PREFIX, Manifest, annotations_of, claims_of, key_of
from marketfeed_operator.observed import Observed
from server import Server

DAY_MS = 86_400_000


def topic(uid: str, feed: str, days: int = 7, **spec: Any) -> Manifest:
    """Return the topic as the feed wants it."""
    labels = {"strimzi.io/cluster": "kafka", f"{CLAIM_PREFIX}{uid}": feed}
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {"name": "binance.trades", "namespace": "kafka", "labels": labels},
        "spec": {"partitions": 3, "replicas": 3, "config": {"retention.ms": days * DAY_MS}, **spec},
    }


def empty(uid: str) -> Manifest:
    """Return the topic with nothing that the feed wants, which gives up what the feed alone owns."""
    return {name: value for name, value in topic(uid, uid).items() if name in ("apiVersion", "kind")} | {
        "metadata": {"name": "binance.trades", "namespace": "kafka"}
    }


KEY = key_of(topic("a", "first"))


def observed(server: Server, uid: str, feed: str) -> Observed:
    """Return what a feed sees."""
    return Observed({"metadata": {"name": feed, "uid": uid}}, children=dict(server.objects))


def reconcile(server: Server, uid: str, feed: str, days: int, **spec: Any) -> int:
    """Write what one feed wants; return the number of writes."""
    wanted = [topic(uid, feed, days, **spec)]
    found = writes(wanted, observed(server, uid, feed), uid)
    server.write(found)
    return len(found)


def days_kept(server: Server) -> float:
    """Return how long the topic's records are kept, days."""
    return float(server.objects[KEY]["spec"]["config"]["retention.ms"] / DAY_MS)


def test_feeds_that_want_the_same_share_a_topic() -> None:
    """Both claim it, neither conflicts with the other, and the second look writes nothing."""
    server = Server()
    assert [reconcile(server, uid, uid, 7) for uid in ("a", "b", "a", "b")] == [1, 1, 0, 0]
    assert claims_of(server.objects[KEY]) == {"a": "a", "b": "b"}


def test_a_different_wish_leaves_the_topic_as_it_is_and_is_told() -> None:
    """The second feed only claims the topic; the first goes on owning it; neither writes again and again."""
    server = Server()
    assert [reconcile(server, *who) for who in (("a", "a", 7), ("b", "b", 1), ("a", "a", 7), ("b", "b", 1))] == [
        1,
        1,
        0,
        0,
    ]
    assert days_kept(server) == 7
    assert claims_of(server.objects[KEY]) == {"a": "a", "b": "b"}
    assert refusals([topic("b", "b", 1)], observed(server, "b", "b"), "b", "b") == {
        KEY: "feed a wants the topic binance.trades otherwise (retention.ms): let all its feeds ask for the same, "
        "or name another topic"
    }
    assert refusals([topic("a", "a", 7)], observed(server, "a", "a"), "a", "a") == {}


def test_the_feed_whose_wish_a_topic_has_still_mends_it() -> None:
    """Drift is mended by the first feed while the second one disagrees."""
    server = Server()
    for who in (("a", "a", 7), ("b", "b", 1)):
        reconcile(server, *who)
    server.edit(KEY, lambda live: live["spec"]["config"].update({"retention.ms": 5}))
    reconcile(server, "b", "b", 1)
    assert days_kept(server) != 7
    reconcile(server, "a", "a", 7)
    assert days_kept(server) == 7


def test_feeds_that_change_their_wish_one_after_the_other_are_not_stuck() -> None:
    """The topic changes when the last of its feeds asks for the new value, and nothing is lost in between."""
    server = Server()
    for who in (("a", "a", 7), ("b", "b", 7), ("a", "a", 3), ("b", "b", 7), ("a", "a", 3)):
        reconcile(server, *who)
        assert days_kept(server) == 7
        assert server.objects[KEY]["spec"]["partitions"] == 3
    assert [reconcile(server, *who) for who in (("b", "b", 3), ("a", "a", 3), ("b", "b", 3), ("a", "a", 3))] == [
        1,
        1,
        0,
        0,
    ]
    assert days_kept(server) == 3
    server.apply(empty("b"), "marketfeed-operator-b", force=False)
    assert server.objects[KEY]["spec"] == topic("a", "a", 3)["spec"], "both own it"


def test_a_change_of_mind_by_the_only_owner_loses_no_field() -> None:
    """The feed whose wish the topic has may change it while another one disagrees; the topic keeps its spec."""
    server = Server()
    for who in (("a", "a", 7), ("b", "b", 1), ("a", "a", 3), ("b", "b", 1)):
        reconcile(server, *who)
    assert server.objects[KEY]["spec"] == topic("a", "a", 7)["spec"]


def test_a_feed_alone_forces_its_wish() -> None:
    """With no other claim the feed takes fields from whoever edited them; an unseen topic is not forced."""
    server = Server()
    (made,) = writes([topic("a", "a")], observed(server, "a", "a"), "a")
    assert isinstance(made, Apply)
    assert (made.manager, made.force) == ("marketfeed-operator-a", False)
    reconcile(server, "a", "a", 7)
    (changed,) = writes([topic("a", "a", 3)], observed(server, "a", "a"), "a")
    assert isinstance(changed, Apply)
    assert changed.force


def test_a_topic_of_either_version_is_one_object() -> None:
    """A topic that is stored as v1beta2 and rendered as v1 is as it should be."""
    live = {**stamp(topic("a", "a")), "apiVersion": "kafka.strimzi.io/v1beta2"}
    found = Observed({"metadata": {"name": "a", "uid": "a"}}, children={key_of(live): live})
    assert writes([topic("a", "a")], found, "a") == ()


def test_wishes_do_not_depend_on_who_has_them() -> None:
    """Two feeds that want the same leave the same mark, so that both may own it."""
    ours, theirs = stamp(topic("a", "first")), stamp(topic("b", "second"))
    assert set(annotations_of(ours).values()) == set(annotations_of(theirs).values())
    assert len(set(annotations_of(ours).values())) == 1
