"""Deleting feeds while somebody is away: the operator, Strimzi, or the APIs themselves. Nothing hangs and no data goes.

Each test runs its own operator on the control plane where no other one works.
What does not live here: deletion where everybody is there (test_deletion).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from controlplane import ControlPlane, crds
from controlplane.install import install, own
from helpers import wait_until
from operators import Feeds, OperatorProcess
from released import COLLECTED_S, all_go, filled, kept, managed, resource, resources, topic_names, with_own_topics
from replicas import KAFKA, LATE_S, REPLICAS, replica
from standins.runner import Standins
from watching import watching

AT_ONCE_S = 5.0
Start = Callable[..., AbstractContextManager[OperatorProcess]]


@pytest.fixture(scope="module")
def strimzi(quiet_control_plane: ControlPlane) -> Iterator[Standins]:
    """Run the topic operator alone, so that no pod slows a namespace's end; it is there at the start of every test."""
    with Standins(quiet_control_plane.kubeconfig, topic_namespace=KAFKA, start=["topics"]) as running:
        yield running


@pytest.fixture
def start(quiet_control_plane: ControlPlane, strimzi: Standins, tmp_path: Path) -> Iterator[Start]:
    """Return how to run an operator: it waits 3 s for Strimzi, and finds out about new APIs every 2 s."""
    strimzi.topics.start()

    def run(name: str = REPLICAS[0]) -> AbstractContextManager[OperatorProcess]:
        return replica(quiet_control_plane, tmp_path, name, topic_patience_s=3.0, resync_s=2.0, lease_s=4.0)

    yield run
    strimzi.topics.delay_s = 0.2
    strimzi.topics.start()


def _delete(feeds: Feeds, *names: str) -> None:
    feeds.kubectl("delete", "marketfeed", *(names or ["spot"]), f"--timeout={AT_ONCE_S:g}s")


def _ready(feeds: Feeds, *names: str) -> None:
    for name in names or ["spot"]:
        feeds.wait("TopicsReady", name=name)


def test_topics_are_let_go_that_feeds_left_while_the_operator_was_away(
    start: Start, quiet_feeds: Feeds, strimzi: Standins
) -> None:
    """Without an operator feeds go at once, with finalizers of nobody; on its return it follows the recorded policy."""
    quiet_feeds.apply(suspend=True)
    gone = with_own_topics(quiet_feeds, "gone", deletionPolicy="Delete", suspend=True)
    stays = with_own_topics(quiet_feeds, "stays", suspend=True)
    with start() as first:
        for document in (gone, stays):
            quiet_feeds.apply(document)
        _ready(quiet_feeds, "spot", "gone", "stays")
        ids = {name: filled(quiet_feeds, strimzi, name) for name in (None, "gone", "stays")}
        assert first.terminate() == 0
    assert [item for item in quiet_feeds.items("marketfeeds,deployments") if item["metadata"].get("finalizers")] == []
    _delete(quiet_feeds, "spot", "gone")
    assert len(resources(quiet_feeds)) == 9
    with start():
        wait_until(lambda: len(resources(quiet_feeds)) == 3, LATE_S, "six KafkaTopics to go", every_s=0.2)
        assert kept(strimzi, ids[None])
        assert not set(ids["gone"]) & set(strimzi.topics.topics)
        assert kept(strimzi, ids["stays"])
        assert all(managed(topic) for topic in resources(quiet_feeds))


def test_a_killed_operator_finishes_what_it_began(
    start: Start, quiet_feeds: Feeds, strimzi: Standins, tmp_path: Path
) -> None:
    """Killed with -9 between the marks of a release and again before its end: data stays, the resource goes."""
    strimzi.topics.delay_s = 1.5
    trades = topic_names(quiet_feeds)[0]
    with start() as first:
        quiet_feeds.apply(suspend=True)
        _ready(quiet_feeds)
        ids = filled(quiet_feeds, strimzi)
        with watching(quiet_feeds.plane, tmp_path, "kafkatopic", trades, KAFKA) as seen:
            _delete(quiet_feeds)
            wait_until(lambda: not managed(seen.events[-1].object), LATE_S, "the mark", every_s=0.02)
            first.kill()
    assert resource(quiet_feeds, trades)
    wait_until(lambda: "Unmanaged" in json.dumps(resource(quiet_feeds, trades)), LATE_S, "Strimzi", every_s=0.2)
    with start() as second:
        wait_until(lambda: not all(map(managed, resources(quiet_feeds))), LATE_S, "the operator's return", every_s=0.05)
        wait_until(lambda: second.entries("releasing"), LATE_S, "a step", every_s=0.02)
        second.kill()
    with start():
        all_go(quiet_feeds)
    assert kept(strimzi, ids)


def test_a_feed_goes_at_once_where_strimzi_is_gone(start: Start, quiet_feeds: Feeds, strimzi: Standins) -> None:
    """Feeds and their whole namespace go. Under Retain a KafkaTopic is left, not managed and nobody's, after a while.

    When Strimzi comes back the data is there, but for the feed that wanted it deleted. The same feed, made anew, takes
    its topics up again.
    """
    with start() as process:
        quiet_feeds.apply(suspend=True)
        quiet_feeds.apply(with_own_topics(quiet_feeds, "gone", deletionPolicy="Delete", suspend=True))
        _ready(quiet_feeds, "spot", "gone")
        ids, lost = filled(quiet_feeds, strimzi), filled(quiet_feeds, strimzi, "gone")
        trades = topic_names(quiet_feeds)[0]
        strimzi.topics.stop()
        _delete(quiet_feeds, "spot", "gone")
        quiet_feeds.plane.kubectl("delete", "namespace", quiet_feeds.namespace, "--timeout=60s")
        wait_until(
            lambda: all(_nobodys(topic) for topic in _staying(quiet_feeds)),
            LATE_S,
            "the KafkaTopics to be nobody's",
            every_s=0.2,
        )
        assert sorted(topic["metadata"]["name"] for topic in _staying(quiet_feeds)) == sorted(ids)
        assert len(resources(quiet_feeds)) == len(ids) + len(lost)
        assert process.get("/livez")[0] == 200
        strimzi.topics.start()
        wait_until(lambda: not set(lost) & set(strimzi.topics.topics), LATE_S, "the deletion", every_s=0.2)
        wait_until(lambda: "Unmanaged" in json.dumps(resource(quiet_feeds, trades)), LATE_S, "Strimzi", every_s=0.2)
        assert kept(strimzi, ids)
        quiet_feeds.plane.kubectl("create", "namespace", quiet_feeds.namespace)
        quiet_feeds.secret()
        quiet_feeds.apply(suspend=True)
        _ready(quiet_feeds)
        assert all(map(managed, resources(quiet_feeds)))
        assert kept(strimzi, ids)


def _staying(feeds: Feeds) -> list[dict[str, Any]]:
    """Return the KafkaTopics that are not being deleted."""
    return [topic for topic in resources(feeds) if "deletionTimestamp" not in topic["metadata"]]


def _nobodys(topic: dict[str, Any]) -> bool:
    """Tell whether a KafkaTopic is not managed, and nothing of ours."""
    ours = [name for name in topic["metadata"]["labels"] if "marketfeed" in name or name.endswith("managed-by")]
    return not managed(topic) and not ours


def test_an_api_that_goes_and_comes_back(
    start: Start, quiet_feeds: Feeds, quiet_control_plane: ControlPlane, strimzi: Standins
) -> None:
    """Without KafkaTopic feeds say NotServed, without MarketFeed the operator waits; both work again afterwards.

    Feeds that went with their API leave no children, and topics go by their policy.
    """
    topics, feeds = crds.kafka_topic(), own()
    with start() as process:
        try:
            quiet_feeds.apply(suspend=True)
            _ready(quiet_feeds)
            quiet_control_plane.kubectl("delete", "-f", topics, "--timeout=30s")
            quiet_feeds.wait("TopicsReady", "False", "NotServed")
            assert process.get("/livez")[0] == 200
            install(quiet_control_plane, [topics])
            _ready(quiet_feeds)
            ids = filled(quiet_feeds, strimzi)
            _await_collector(quiet_feeds)
            quiet_control_plane.kubectl("delete", *(f"--filename={path}" for path in feeds), "--timeout=30s")
            wait_until(lambda: not resources(quiet_feeds), LATE_S, "the KafkaTopics to go", every_s=0.2)
            assert kept(strimzi, ids)
            wait_until(lambda: not quiet_feeds.items("deployments"), COLLECTED_S, "the children", every_s=0.2)
            process.assert_alive()
        finally:
            install(quiet_control_plane, [topics, *feeds])
        quiet_feeds.apply(suspend=True)
        _ready(quiet_feeds)
        assert kept(strimzi, ids)
        process.assert_alive()


def _await_collector(feeds: Feeds) -> None:
    """Wait until the garbage collector knows MarketFeeds: children of a kind that goes before that stay for good."""
    feeds.apply(with_own_topics(feeds, "collected", suspend=True))
    feeds.wait("TopicsReady", name="collected")
    _delete(feeds, "collected")
    wait_until(
        lambda: not feeds.items("deployments", "marketfeed.dev/feed=collected"), COLLECTED_S, "them", every_s=0.2
    )
