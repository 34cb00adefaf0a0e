"""Topics without Strimzi: a feed on a real API server, its topics on a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane import ControlPlane
from helpers import wait_until
from marketfeed import topics
from marketfeed.kafka import admin
from marketfeed.local.kafka import EmbeddedKafka
from marketfeed.settings import KafkaSettings, Topic
from operators import SOON_S, Feeds, OperatorProcess

pytestmark = pytest.mark.kafka

DAY_MS = 86_400_000
SASL = {
    "protocol": "SASL_PLAINTEXT",
    "mechanism": "PLAIN",
    "credentialsSecretRef": {"name": "kafka-user", "usernameKey": "username", "passwordKey": "password"},
}


class DirectFeeds(Feeds):
    """Feeds whose topics are made directly on one broker, each beginning with the namespace's name."""

    kafka: KafkaSettings

    def spec(self, trade: str | None = None, **wanted: Any) -> dict[str, Any]:
        """Return a spec with a topic of trades and one of dead letters; `wanted` are partitions, retention..."""
        security = wanted.pop("security", {})
        names = {"trade": trade or f"{self.namespace}.trades"}
        made = {"provisioner": "direct", "partitions": 2, "replicas": 1, "retention": "3d", "names": names} | wanted
        return {
            "channels": ["trade"],
            "deadLetter": {"topic": f"{self.namespace}.dlq", "retention": "3d"},
            "kafka": {"bootstrapServers": self.kafka.bootstrap_servers, "topics": made, "security": security},
        }

    def topic(self, suffix: str = "trades") -> Topic | None:
        """Return a topic as the broker has it; None where there is none."""
        name = f"{self.namespace}.{suffix}"
        return topics._found(admin(self.kafka), self.kafka, [Topic(name, 0, 0, 0)]).get(name)

    def is_soon(self, partitions: int, days: int, suffix: str = "trades") -> None:
        """Wait until a topic has so many partitions and keeps its records for so many days."""
        wanted = Topic(f"{self.namespace}.{suffix}", partitions, 1, days * DAY_MS)
        wait_until(lambda: self.topic(suffix) == wanted, SOON_S, f"the broker to have {wanted}", every_s=0.2)

    def is_gone_soon(self, suffix: str) -> None:
        """Wait until there is no such topic."""
        name, client = f"{self.namespace}.{suffix}", admin(self.kafka)
        # By the list alone: a topic that is just going is in the list, and no longer to be asked about.
        wait_until(
            lambda: name not in client.list_topics(timeout=SOON_S).topics, SOON_S, f"{name} to be gone", every_s=0.2
        )


def direct_feeds(feeds: Feeds, kafka: KafkaSettings) -> DirectFeeds:
    """Return the feeds of a namespace, on these brokers."""
    made = DirectFeeds(feeds.plane, feeds.namespace, feeds.topic_namespace)
    made.kafka = kafka
    return made


@pytest.fixture
def direct(feeds: Feeds, kafka_settings: KafkaSettings) -> Iterator[DirectFeeds]:
    """Return this test's feeds on the shared broker; their topics are deleted afterwards."""
    made = direct_feeds(feeds, kafka_settings)
    yield made
    known = admin(kafka_settings).list_topics(timeout=10).topics
    topics.delete(kafka_settings, [name for name in known if name.startswith(feeds.namespace)])


def test_topics_are_made_grown_and_shortened_only_when_it_is_approved(
    direct: DirectFeeds, control_plane: ControlPlane
) -> None:
    """One life: made, grown, kept longer, asked about before records are lost, shortened after the annotation."""
    direct.apply(**direct.spec())
    direct.wait("TopicsReady", reason="AllReady")
    direct.is_soon(2, 3)
    direct.is_soon(2, 3, "dlq")
    assert "KafkaTopic" not in {kind for kind, _ in direct.children()}
    direct.apply(**direct.spec(partitions=4, retention="7d"))
    direct.is_soon(4, 7)
    direct.wait("TopicsReady")
    direct.apply(**direct.spec(partitions=4, retention="1d"))
    held = direct.wait("TopicsReady", "False", "ApprovalNeeded")["message"]
    assert f"topic {direct.namespace}.trades keeps its records for longer" in held
    direct.is_soon(4, 7)
    command = held[held.index("kubectl ") :].split()
    assert command[:4] == ["kubectl", "annotate", "marketfeed", "spot"]
    control_plane.kubectl(*command[1:])
    direct.is_soon(4, 1)
    direct.wait("TopicsReady")
    direct.wait("Ready")


def test_existing_topics_are_adopted_and_kept_when_the_feed_goes(direct: DirectFeeds) -> None:
    """A topic that is there with more than is asked for is taken as it is; Retain, the default, deletes nothing."""
    topics.ensure(direct.kafka, [Topic(f"{direct.namespace}.trades", 6, 1, 3 * DAY_MS)])
    direct.is_soon(6, 3)
    direct.apply(**direct.spec())
    direct.wait("TopicsReady")
    direct.is_soon(6, 3)
    after = {**direct.spec(f"{direct.namespace}.after"), "deletionPolicy": "Delete"}
    after["deadLetter"] = {"topic": f"{direct.namespace}.after.dlq"}
    direct.apply(direct.document("after", **after))
    direct.wait("TopicsReady", name="after")
    for name in ("spot", "after"):  # what was left by the second is looked at after what was left by the first
        direct.kubectl("delete", "marketfeed", name)
    direct.is_gone_soon("after")
    direct.is_soon(6, 3)
    direct.is_soon(2, 3, "dlq")


def test_delete_takes_the_topics_but_for_those_that_another_feed_wants(direct: DirectFeeds) -> None:
    """Two feeds share the topic of trades: it outlives the first of them, and goes with the second."""
    spec = direct.spec() | {"deletionPolicy": "Delete"}
    direct.apply(direct.document("first", **spec))
    other = {**spec, "deadLetter": {"topic": f"{direct.namespace}.dlq2", "retention": "3d"}}
    direct.apply(direct.document("second", **other))
    for name in ("first", "second"):
        direct.wait("TopicsReady", name=name)
    direct.kubectl("delete", "marketfeed", "first")
    direct.is_gone_soon("dlq")
    assert direct.topic("trades") is not None
    direct.kubectl("delete", "marketfeed", "second")
    direct.is_gone_soon("trades")
    direct.is_gone_soon("dlq2")


def test_a_broker_that_is_away_is_named_and_found(feeds: Feeds, tmp_path: Path) -> None:
    """While no broker answers the status says so, and the rest of the feed is made; it recovers by itself."""
    broker = EmbeddedKafka(tmp_path)
    direct = direct_feeds(feeds, broker.settings)
    direct.apply(**direct.spec())
    said = direct.wait("TopicsReady", "False", "KafkaError")
    assert f"no Kafka broker answers at {broker.bootstrap}" in said["message"]
    direct.wait("IngestReady")
    with broker:
        direct.wait("TopicsReady")
        direct.is_soon(2, 3)


def test_credentials_are_used_and_never_shown(direct: DirectFeeds, operator: OperatorProcess) -> None:
    """A broker that wants no SASL refuses it: the sentence, the log and every object are without the password."""
    direct.apply(**direct.spec(security=SASL))
    missing = direct.wait("TopicsReady", "False", "KafkaError")["message"]
    assert "Secret kafka-user is missing" in missing
    direct.secret("kafka-user", username="writer", password="c0rrecthorse")

    def refused() -> str:
        said = str(direct.condition("TopicsReady")["message"])
        return "" if "kafka-user" in said else said

    sentence = wait_until(refused, SOON_S, "the Secret to be used", every_s=0.2)
    assert direct.kafka.bootstrap_servers in sentence
    everything = direct.kubectl("get", "deployments,configmaps,marketfeeds,events,pods", "-o", "yaml")
    for text in (sentence, everything, operator.log):
        assert "c0rrecthorse" not in text
