"""Topics that are made as they are wanted, changed and deleted, on a real broker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from helpers import wait_until
from marketfeed import topics
from marketfeed.errors import ConfigurationError, Unavailable
from marketfeed.kafka import admin
from marketfeed.settings import KafkaSettings, Topic
from marketfeed.topics import Outcome

pytestmark = pytest.mark.kafka

SOON_S = 20.0
DAY_MS = 86_400_000


def found(kafka: KafkaSettings, name: str) -> Topic | None:
    """Return what the broker has."""
    client = admin(kafka)
    metadata = client.list_topics(timeout=SOON_S).topics.get(name)
    if metadata is None:
        return None
    return topics.existing(metadata, topics._retentions_ms(client, [name])[name])


def names(kafka: KafkaSettings, beginning: str) -> set[str]:
    """Return the topics whose names begin so."""
    return {name for name in admin(kafka).list_topics(timeout=SOON_S).topics if name.startswith(beginning)}


@pytest.fixture
def wanted(kafka_settings: KafkaSettings, topic_name: str) -> Topic:
    """Return a topic that exists."""
    topic = Topic(topic_name, 2, 1, 3 * DAY_MS)
    assert topics.reconcile(kafka_settings, [topic]) == Outcome(created=(topic_name,))
    wait_until(lambda: found(kafka_settings, topic_name) == topic, SOON_S, "the topic")
    return topic


def test_a_topic_that_is_as_wanted_is_left_alone(kafka_settings: KafkaSettings, wanted: Topic) -> None:
    """Once it is there, nothing is done; more partitions than are wanted, or no wish for a retention, are fine too."""
    for wish in (wanted, replace(wanted, partitions=1), replace(wanted, retention_ms=None)):
        assert topics.reconcile(kafka_settings, [wish]) == Outcome()
    assert found(kafka_settings, wanted.name) == wanted


def test_partitions_are_added(kafka_settings: KafkaSettings, wanted: Topic) -> None:
    """A topic with fewer partitions than are wanted gets the rest, and keeps its retention."""
    more = replace(wanted, partitions=5)
    assert topics.reconcile(kafka_settings, [more]) == Outcome(grown=(wanted.name,))
    wait_until(lambda: found(kafka_settings, wanted.name) == more, SOON_S, "five partitions")
    assert topics.reconcile(kafka_settings, [more]) == Outcome()


@pytest.mark.parametrize("retention_ms", [DAY_MS, 30 * DAY_MS, -1])
def test_the_retention_is_set_and_nothing_else(kafka_settings: KafkaSettings, wanted: Topic, retention_ms: int) -> None:
    """Shorter, longer or for ever: it is set, and what somebody else has set of the topic stays."""
    entry = ConfigEntry("segment.bytes", "1048576", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, wanted.name, incremental_configs=[entry])
    client = admin(kafka_settings)
    (foreign,) = client.incremental_alter_configs([resource]).values()
    foreign.result(SOON_S)
    other = replace(wanted, retention_ms=retention_ms)
    assert topics.reconcile(kafka_settings, [other], shorten=True) == Outcome(retained=(wanted.name,))
    wait_until(lambda: found(kafka_settings, wanted.name) == other, SOON_S, "the retention")
    (config,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, wanted.name)]).values()
    assert config.result(SOON_S)["segment.bytes"].value == "1048576"


def test_records_are_not_thrown_away_unasked(kafka_settings: KafkaSettings, wanted: Topic) -> None:
    """A shorter retention is told and not set, unless the caller says that it may be."""
    outcome = topics.reconcile(kafka_settings, [replace(wanted, retention_ms=DAY_MS)])
    assert outcome == Outcome(held=(wanted.name,))
    assert found(kafka_settings, wanted.name) == wanted


def test_several_topics_are_several_changes(kafka_settings: KafkaSettings, wanted: Topic) -> None:
    """One call creates one topic, grows another and changes how long its records are kept, and says which is which."""
    new = Topic(f"{wanted.name}.new", 1, 1, None)
    other = replace(wanted, partitions=3, retention_ms=DAY_MS)
    outcome = topics.reconcile(kafka_settings, [other, new], shorten=True)
    assert outcome == Outcome(created=(new.name,), grown=(wanted.name,), retained=(wanted.name,))


def test_replicas_cannot_be_added(kafka_settings: KafkaSettings, wanted: Topic) -> None:
    """A topic with fewer replicas is refused in words that name a way out, before any other topic is touched."""
    new = Topic(f"{wanted.name}.new", 1, 1, None)
    with pytest.raises(ConfigurationError, match="has 1 replicas, 3 are wanted: reassign"):
        topics.reconcile(kafka_settings, [new, replace(wanted, replicas=3, retention_ms=DAY_MS)])
    assert names(kafka_settings, wanted.name) == {wanted.name}
    assert found(kafka_settings, wanted.name) == wanted


def test_what_the_broker_refuses_is_named(kafka_settings: KafkaSettings, topic_name: str) -> None:
    """More replicas than there are brokers is bad configuration, with the topic's name."""
    with pytest.raises(ConfigurationError, match=f"topic {topic_name}: .*replicat"):
        topics.reconcile(kafka_settings, [Topic(topic_name, 1, 3, None)])


def test_deleting_twice_is_deleting_once(kafka_settings: KafkaSettings, wanted: Topic) -> None:
    """Deleted topics are named, one that is not there is no failure, and no topic means no question."""
    assert topics.delete(kafka_settings, [wanted.name, f"{wanted.name}.nothing", wanted.name]) == [wanted.name]
    wait_until(lambda: not names(kafka_settings, wanted.name), SOON_S, "the topic to be gone")
    assert topics.delete(kafka_settings, [wanted.name]) == []
    assert topics.delete(KafkaSettings(bootstrap_servers="127.0.0.1:1"), []) == []


@pytest.mark.parametrize(
    "work",
    [lambda kafka: topics.reconcile(kafka, [Topic("x", 1, 1, None)]), lambda kafka: topics.delete(kafka, ["x"])],
    ids=["reconcile", "delete"],
)
def test_without_a_broker_it_is_to_be_tried_again(work: Callable[[KafkaSettings], object]) -> None:
    """No broker is something to wait for, in one sentence that names it."""
    with pytest.raises(Unavailable, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
        work(KafkaSettings(bootstrap_servers="127.0.0.1:1"))
