"""What the reading side of a consumer makes of what its Kafka client says; nothing is connected."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, Message, TopicPartition
from prometheus_client import CollectorRegistry

from marketfeed.metrics import ConsumerMetrics
from marketfeed.settings import ConsumerSettings, KafkaSettings, Secret
from marketfeed.store.intake import Intake
from marketfeed.store.lanes import Lanes

SETTINGS = ConsumerSettings(
    feed="test",
    sink="postgres",
    sink_type="postgresql",
    topics=("trades",),
    group="test",
    dsn=Secret(),
    dead_letter_topic="dlq",
    kafka=KafkaSettings(bootstrap_servers="broker:9092"),
)


def test_records_fetched_before_do_not_hide_that_the_broker_is_gone() -> None:
    """The client says once that no broker answers; records that it had fetched before then say nothing about it."""
    intake = Intake(SETTINGS, Lanes(), [], ConsumerMetrics(CollectorRegistry()))
    intake._client_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    intake._take([Message(topic="trades", partition=0, offset=0, value=b"fetched before")])
    assert intake.state.broker_problem == "no Kafka broker answers at broker:9092"


@pytest.mark.parametrize("again", [[], [TopicPartition("trades", 1)]])
def test_lost_partitions_are_missed_until_the_group_has_spoken(again: list[TopicPartition]) -> None:
    """Whoever lost its partitions is starting again, until an assignment comes, be it an empty one."""
    intake = Intake(SETTINGS, Lanes(), [], ConsumerMetrics(CollectorRegistry()))
    client: Any = None
    intake._assigned(client, [TopicPartition("trades", 0), TopicPartition("trades", 1)])
    assert intake.state.starting is None
    intake._lost(client, [TopicPartition("trades", 0), TopicPartition("trades", 1)])
    assert "joining the consumer group again" in str(intake.state.starting)
    assert not intake.offsets.assigned
    intake._assigned(client, again)
    assert intake.state.starting is None
