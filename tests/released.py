"""Looking at what feeds leave behind: their objects, their KafkaTopics, and the topics of the stand-in's broker."""

from __future__ import annotations

from typing import Any

import pytest

from helpers import wait_until
from operators import Feeds
from standins.runner import Standins

_OURS = "app.kubernetes.io/managed-by=marketfeed-operator"
_KINDS = "deployments,replicasets,pods,configmaps,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets"
COLLECTED_S = 75.0
"""The garbage collector learns only every 30 s of new kinds: in a fresh cluster it does not know MarketFeeds yet."""
_CLAIM = "claim.marketfeed.dev/"


def topic_names(feeds: Feeds, name: str | None = None) -> list[str]:
    """Return the topics of a test's usual feed, or of one with topics of its own name; trades first."""
    prefix = f"{feeds.namespace}.{name}" if name else feeds.namespace
    return [f"{prefix}.trades", f"{prefix}.book", f"{prefix}.dlq"]


def with_own_topics(feeds: Feeds, name: str, **spec: Any) -> dict[str, Any]:
    """Return the usual feed of another name, with topics of its own."""
    prefix = f"{feeds.namespace}.{name}"
    return feeds.document(
        name, **{"kafka": {"topics": feeds.topics(prefix)}, "deadLetter": {"topic": f"{prefix}.dlq"}, **spec}
    )


def filled(feeds: Feeds, standins: Standins, name: str | None = None) -> dict[str, str]:
    """Put data into a feed's topics; return topic → its id in the broker."""
    names = topic_names(feeds, name)
    for topic in names:
        standins.topics.fill(topic)
    return {topic: standins.topics.topics[topic].id for topic in names}


def kept(standins: Standins, ids: dict[str, str]) -> bool:
    """Tell whether the broker has still these very topics, with their data."""
    there = standins.topics.topics
    return all(name in there and there[name].id == made and there[name].data for name, made in ids.items())


def resource(feeds: Feeds, topic: str) -> dict[str, Any]:
    """Return a KafkaTopic, which is empty where there is none."""
    return feeds.get("kafkatopic", topic, feeds.topic_namespace) or {}


def resources(feeds: Feeds) -> list[dict[str, Any]]:
    """Return the KafkaTopics of this test's topics."""
    found = feeds.items("kafkatopics", namespace=feeds.topic_namespace)
    return [item for item in found if item["metadata"]["name"].startswith(f"{feeds.namespace}.")]


def left(feeds: Feeds) -> list[str]:
    """Return what is there of a test's feeds: what bears our label in their namespace, and their KafkaTopics."""
    near = feeds.items(_KINDS, _OURS)
    return [f"{item['kind']} {item['metadata']['name']}" for item in (*near, *resources(feeds))]


def all_go(feeds: Feeds) -> None:
    """Wait until nothing is left; fail with what is."""
    there: list[str] = []

    def gone() -> bool:
        there[:] = left(feeds)
        return not there

    try:
        wait_until(gone, COLLECTED_S, "everything of the feeds to go", every_s=0.2)
    except pytest.fail.Exception as failure:
        pytest.fail(f"{failure}: {', '.join(there)}")


def managed(topic: dict[str, Any]) -> bool:
    """Tell whether Strimzi manages a KafkaTopic."""
    return (topic["metadata"].get("annotations") or {}).get("strimzi.io/managed") != "false"


def claimed(feeds: Feeds, topic: str) -> list[str]:
    """Return the feeds that claim a KafkaTopic, as namespace_name."""
    labels = (resource(feeds, topic).get("metadata") or {}).get("labels") or {}
    return sorted(feed for label, feed in labels.items() if label.startswith(_CLAIM))
