"""The benchmarks' own look at Kafka: topics, and how many records their partitions hold."""

from __future__ import annotations

from collections.abc import Collection

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from benchmarks.services import wait_for
from marketfeed import topics
from marketfeed.kafka import admin
from marketfeed.settings import KafkaSettings, Topic

PARTITIONS = 3
_DEADLINE_S = 30.0


class Topics:
    """Some topics, created if need be; `ends` counts what the broker has taken into each partition."""

    def __init__(self, kafka: KafkaSettings, names: Collection[str]) -> None:
        topics.ensure(kafka, [Topic(name, PARTITIONS, 1, None) for name in sorted(set(names))])
        self._admin = admin(kafka)
        self._partitions = [TopicPartition(name, number) for name in sorted(set(names)) for number in range(PARTITIONS)]
        wait_for(self._have_leaders, "leaders of new topics", _DEADLINE_S)

    def ends(self) -> list[int]:
        """Return each partition's end."""
        asked = self._admin.list_offsets({partition: OffsetSpec.latest() for partition in self._partitions})
        return [int(answer.result().offset) for answer in asked.values()]

    def _have_leaders(self) -> bool:
        try:
            self.ends()
        except KafkaException:
            return False
        return True
