"""Deleting feeds on a real API server: what becomes of topics and their data, and that nothing is left or hangs.

Strimzi is a stand-in whose broker holds topics with data. What does not live here: an operator, Strimzi or an API that
is away meanwhile (test_deletion_alone).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane import ControlPlane
from helpers import wait_until
from operators import SOON_S, USER, Feeds, OperatorProcess
from released import all_go, claimed, filled, kept, managed, resource, resources, topic_names, with_own_topics
from standins.runner import Standins
from watching import Event, watching

AT_ONCE_S = 5.0
GRANTED_S = 10.0
"""Within which a feed learns that another one has let go of what it waits for."""


@pytest.fixture
def neighbours(control_plane: ControlPlane, kafka_namespace: str, feeds: Feeds) -> Feeds:
    """Return feeds of a second namespace, whose topics are in the same one."""
    made = Feeds(control_plane, kafka_namespace, feeds.topic_namespace)
    made.secret()
    return made


def test_a_deleted_feed_leaves_its_topics_and_data_and_nothing_else(
    feeds: Feeds, standins: Standins, tmp_path: Path
) -> None:
    """Under Retain each KafkaTopic is first not managed, then Unmanaged, then gone; the broker keeps topic and data."""
    feeds.apply()
    feeds.wait("Ready")
    ids = filled(feeds, standins)
    trades = topic_names(feeds)[0]
    with watching(feeds.plane, tmp_path, "kafkatopic", trades, feeds.topic_namespace) as seen:
        feeds.kubectl("delete", "marketfeed", "spot", f"--timeout={AT_ONCE_S:g}s")
        all_go(feeds)
        states = list(dict.fromkeys(map(_state, seen.events)))
    assert states == ["Ready", "asked", "Unmanaged", "going", "gone"]
    assert kept(standins, ids)


def _state(event: Event) -> str:
    """Return how far the release has come."""
    found = event.object
    if event.type == "DELETED":
        return "gone"
    if "deletionTimestamp" in found["metadata"]:
        assert not managed(found), "it was deleted while Strimzi managed it: the data would be lost"
        return "going"
    said = [one["type"] for one in (found.get("status") or {}).get("conditions", ()) if one["status"] == "True"]
    if "Unmanaged" in said:
        return "Unmanaged"
    return "Ready" if managed(found) else "asked"


def test_the_last_policy_counts(feeds: Feeds, standins: Standins) -> None:
    """Delete takes topics and data along; a policy that is changed in the breath before the deletion counts."""
    feeds.apply(with_own_topics(feeds, "kept", deletionPolicy="Delete"))
    feeds.apply()
    feeds.wait("TopicsReady", name="kept")
    feeds.wait("TopicsReady")
    ids = filled(feeds, standins) | filled(feeds, standins, "kept")
    for name, policy in (("kept", "Retain"), ("spot", "Delete")):
        feeds.kubectl("patch", "mf", name, "--type=merge", "-p", json.dumps({"spec": {"deletionPolicy": policy}}))
        feeds.kubectl("delete", "mf", name, f"--timeout={AT_ONCE_S:g}s")
    all_go(feeds)
    there = standins.topics.topics
    for name in ids:
        assert (name in there) == (".kept." in name), f"{name} was {'kept' if name in there else 'deleted'}"
    assert kept(standins, {name: made for name, made in ids.items() if ".kept." in name})


def test_a_topic_of_two_feeds_outlives_the_first(feeds: Feeds, neighbours: Feeds, standins: Standins) -> None:
    """Feeds of two namespaces share topics: one goes, even under Delete, and the other keeps them managed and ready."""
    shared: dict[str, Any] = {"kafka": {"topics": feeds.topics()}, "deadLetter": {"topic": f"{feeds.namespace}.dlq"}}
    for one in (feeds, neighbours):
        one.apply(deletionPolicy="Delete", **shared)
        one.wait("TopicsReady")
    ids = filled(feeds, standins)
    name = topic_names(feeds)[0]
    wait_until(lambda: len(claimed(feeds, name)) == 2, SOON_S, "both claims", every_s=0.2)
    feeds.kubectl("delete", "mf", "spot", f"--timeout={AT_ONCE_S:g}s")
    wait_until(lambda: len(claimed(feeds, name)) == 1, SOON_S, "one claim to go", every_s=0.2)
    assert claimed(feeds, name) == [f"{neighbours.namespace}_spot"]
    # The one that stays still says what the topic is like, also where the other said the same.
    longer = feeds.topics(retention="14d")
    neighbours.apply(deletionPolicy="Delete", **(shared | {"kafka": {"topics": longer}}))
    neighbours.wait("TopicsReady")
    wait_until(lambda: _retention(standins, name) == "1209600000", SOON_S, "the broker's retention", every_s=0.2)
    assert managed(resource(feeds, name))
    assert {name: standins.topics.topics[name].id for name in ids} == ids
    neighbours.kubectl("delete", "mf", "spot", f"--timeout={AT_ONCE_S:g}s")
    wait_until(lambda: not set(ids) & set(standins.topics.topics), SOON_S, "the topics to go", every_s=0.2)


def _retention(standins: Standins, topic: str) -> str | None:
    return standins.topics.topics[topic].config.get("retention.ms")


def test_feeds_that_disagree_on_a_topic_are_told_and_do_not_fight(
    feeds: Feeds, neighbours: Feeds, operator: OperatorProcess
) -> None:
    """The second feed is refused with TopicConflict, the first is served, and nobody writes to and fro.

    When the first feed goes, the second one's wish is granted.
    """
    feeds.apply()
    feeds.wait("Ready")
    wishes: dict[str, Any] = {
        "kafka": {"topics": feeds.topics(retention="14d")},
        "deadLetter": {"topic": f"{feeds.namespace}.dlq"},
    }
    neighbours.apply(**wishes)
    refused = neighbours.wait("TopicsReady", "False", "TopicConflict")
    assert f"{feeds.namespace}/spot" in refused["message"]
    assert "retention.ms" in refused["message"]
    samples = operator.metric("marketfeed_operator_samples_total")
    since = datetime.now(UTC)
    wait_until(
        lambda: operator.metric("marketfeed_operator_samples_total") >= samples + 8, SOON_S, "samples", every_s=0.5
    )
    names = topic_names(feeds)
    assert [item for item in feeds.plane.writes(USER, since) if item.name in names] == []
    assert feeds.condition("TopicsReady")["status"] == "True"
    feeds.kubectl("delete", "mf", "spot", f"--timeout={AT_ONCE_S:g}s")
    wait_until(
        lambda: resource(feeds, names[0])["spec"]["config"]["retention.ms"] == 14 * 86_400_000,
        GRANTED_S,
        "the second feed's wish",
        every_s=0.2,
    )
    neighbours.wait("TopicsReady")
    assert claimed(feeds, names[0]) == [f"{neighbours.namespace}_spot"]


def test_a_feed_that_is_made_again_takes_its_topics_back(feeds: Feeds, standins: Standins, tmp_path: Path) -> None:
    """Made again in the middle of its deletion, a feed gets the very KafkaTopics, managed, and all becomes ready."""
    feeds.apply()
    feeds.wait("Ready")
    ids = filled(feeds, standins)
    trades = topic_names(feeds)[0]
    standins.topics.delay_s = 3.0
    try:
        with watching(feeds.plane, tmp_path, "kafkatopic", trades, feeds.topic_namespace) as seen:
            feeds.kubectl("delete", "mf", "spot", f"--timeout={AT_ONCE_S:g}s")
            wait_until(lambda: not managed(seen.events[-1].object), SOON_S, "the release to begin", every_s=0.05)
            feeds.apply()
            wait_until(lambda: managed(seen.events[-1].object), SOON_S, "the topic to be taken back", every_s=0.1)
            uids = {event.object["metadata"]["uid"] for event in seen.events}
    finally:
        standins.topics.delay_s = 0.2
    feeds.wait("Ready")
    live = resource(feeds, trades)
    assert uids == {live["metadata"]["uid"]}
    assert managed(live)
    wait_until(lambda: len(claimed(feeds, trades)) == 1, SOON_S, "the old feed's claim to go", every_s=0.2)
    assert kept(standins, ids)


def test_a_namespace_can_be_deleted_first(feeds: Feeds, standins: Standins) -> None:
    """The feed's namespace goes with all that is in it; its topics, which are elsewhere, are let go with their data.

    The feed is suspended: a namespace is slow to go where pods run, whoever made them.
    """
    feeds.apply(suspend=True)
    feeds.wait("TopicsReady")
    ids = filled(feeds, standins)
    feeds.plane.kubectl("delete", "namespace", feeds.namespace, f"--timeout={SOON_S:g}s")
    wait_until(lambda: not resources(feeds), SOON_S, "the KafkaTopics to go", every_s=0.2)
    assert kept(standins, ids)
