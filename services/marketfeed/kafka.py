"""Kafka clients, configured in this one place from `KafkaSettings` and `ProducerSettings`.

What does not live here: what is produced or consumed, and the topics themselves (`topics`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from marketfeed.errors import ConfigurationError, Unavailable
from marketfeed.logs import logger
from marketfeed.settings import KafkaSettings, ProducerSettings

ANSWER_TIMEOUT_S = 5.0
"""How long a broker may take to answer a question before it counts as unreachable."""

# A record costs librdkafka some 200 bytes beside its payload: this bounds what `queue_bytes` alone would not.
_QUEUE_MESSAGES = 100_000
_FETCHED_KBYTES = 16_384

_REPEAT_S = 10.0
_REMEMBERED_TEXTS = 100

# librdkafka says in several ways that nobody is there.
_NO_ANSWER = frozenset(
    {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}  # noqa: SLF001 - its public names for local errors
)

_NO_COORDINATOR = frozenset(
    {KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS}
)
_COORDINATOR_WAIT_S = 0.1

_Client = TypeVar("_Client")

_log = logger("kafka")


class _ClientLog:
    """What librdkafka itself has to say, as records of our log; a text that repeats is logged every 10 s at most."""

    def __init__(self) -> None:
        self._logged_at: dict[str, float] = {}

    def log(self, level: int, _format: str, facility: str, client: str, text: str) -> None:
        """Write one line of the client's; a refused connection alone comes many times a second."""
        what, now = text.partition(" (after ")[0], time.monotonic()
        if now - self._logged_at.get(what, -_REPEAT_S) < _REPEAT_S:
            return
        if len(self._logged_at) >= _REMEMBERED_TEXTS:
            self._logged_at.clear()
        self._logged_at[what] = now
        write = _log.warning if level >= logging.WARNING else _log.debug
        write("client_said", facility=facility, client=client, text=text)


def client_config(kafka: KafkaSettings) -> dict[str, Any]:
    """Return what every client needs: where the brokers are, and how connections are secured."""
    optional = {
        "sasl.mechanism": kafka.sasl_mechanism,
        "sasl.username": kafka.sasl_username,
        "sasl.password": kafka.sasl_password,
        "ssl.ca.location": kafka.ca_file,
    }
    return {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
        "client.id": "marketfeed",
        "reconnect.backoff.max.ms": 2_000,  # a broker that is back is found within seconds
        "logger": _ClientLog(),
        **{name: str(value) for name, value in optional.items() if value is not None},
    }


def producer_config(kafka: KafkaSettings, producer: ProducerSettings) -> dict[str, Any]:
    """Return a producer that keeps order, never gives a record up, and calls back only for failures."""
    idempotent = producer.acks in ("all", "-1")
    return {
        **client_config(kafka),
        "acks": producer.acks,
        "enable.idempotence": idempotent,
        "compression.type": producer.compression,
        "linger.ms": producer.linger_ms,
        "batch.size": producer.batch_bytes,
        "batch.num.messages": 100_000,  # `batch_bytes` is the bound; the default of 10,000 would undercut it
        "max.in.flight.requests.per.connection": producer.max_in_flight,
        "retries": producer.retries,
        "queue.buffering.max.kbytes": max(1, producer.queue_bytes // 1024),
        "queue.buffering.max.messages": _QUEUE_MESSAGES,
        "partitioner": "murmur2_random",  # the Java clients' hash: a key's partition is the same for every producer
        "message.timeout.ms": 0,  # wait for the broker as long as it takes; the queue's bounds push back instead
        "delivery.report.only.error": True,
    }


def consumer_config(kafka: KafkaSettings, group: str, offset_reset: str) -> dict[str, Any]:
    """Return a consumer of `group` that commits only when it is told to.

    `offset_reset` (`earliest` or `latest`) says where a group without offsets starts.
    """
    return {
        **client_config(kafka),
        "group.id": group,
        "auto.offset.reset": offset_reset,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # A member that joins or leaves stops only the partitions that move.
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": 10_000,  # how long a killed member's partitions lie idle
        "heartbeat.interval.ms": 3_000,
        # The default of 1,000 ms stalls a consumer that empties its queue faster than it is filled.
        "fetch.queue.backoff.ms": 10,
        "queued.max.messages.kbytes": _FETCHED_KBYTES,
    }


def admin(kafka: KafkaSettings) -> AdminClient:
    """Return an admin client; raises ConfigurationError for settings that librdkafka refuses."""
    return _make(AdminClient, client_config(kafka))


def producer(config: Mapping[str, Any]) -> Producer:
    """Return a producer; raises ConfigurationError for settings that librdkafka refuses."""
    return _make(Producer, config)


def consumer(config: Mapping[str, Any]) -> Consumer:
    """Return a consumer; raises ConfigurationError for settings that librdkafka refuses."""
    return _make(Consumer, config)


def group_lag(kafka: KafkaSettings, group: str, topics: Sequence[str]) -> int:
    """Return the records between the group's committed offsets and the topics' ends, as the broker has them.

    A partition without a committed offset counts from its first record. Raises Unavailable.
    """
    # A consumer that never subscribes only asks. The admin API's list_consumer_group_offsets is no choice: in
    # confluent-kafka 2.16 it ends the process with a segmentation fault where the broker has no coordinator yet.
    asking = consumer(consumer_config(kafka, group, "earliest"))
    try:
        with answered(kafka):
            known = asking.list_topics(timeout=ANSWER_TIMEOUT_S).topics
            partitions = [
                TopicPartition(name, number) for name in topics if name in known for number in known[name].partitions
            ]
            return sum(_behind(asking, partition) for partition in _committed(asking, partitions))
    finally:
        asking.close()


def topic_ends(kafka: KafkaSettings, topics: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return where each topic ends: per partition, as text, the offset of the next record. Raises Unavailable."""
    asking = consumer(consumer_config(kafka, "marketfeed-ends", "earliest"))
    try:
        with answered(kafka):
            known = asking.list_topics(timeout=ANSWER_TIMEOUT_S).topics
            return {
                name: {str(number): _end(asking, name, number) for number in known[name].partitions}
                for name in topics
                if name in known
            }
    finally:
        asking.close()


@contextmanager
def answered(kafka: KafkaSettings) -> Iterator[None]:
    """Turn a broker's silence or refusal into Unavailable, in one sentence that names the broker."""
    try:
        yield
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
        where = kafka.bootstrap_servers
        if error.code() in _NO_ANSWER:
            raise Unavailable(f"no Kafka broker answers at {where} within {ANSWER_TIMEOUT_S:g} s") from None
        raise Unavailable(f"Kafka at {where} refuses: {error.str().strip()}") from None


def _committed(asking: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """Ask for committed offsets; the broker may need a moment to find, or to make, the group's coordinator."""
    end = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        try:
            return list(asking.committed(partitions, timeout=ANSWER_TIMEOUT_S))
        except KafkaException as failure:
            if failure.args[0].code() not in _NO_COORDINATOR or time.monotonic() > end:
                raise
            time.sleep(_COORDINATOR_WAIT_S)


def _behind(asking: Consumer, committed: TopicPartition) -> int:
    """Return the records of one partition past its committed offset; a negative offset is none."""
    first, end = asking.get_watermark_offsets(committed, timeout=ANSWER_TIMEOUT_S)
    start = committed.offset if committed.offset >= 0 else first
    return max(0, end - start)


def _end(asking: Consumer, topic: str, partition: int) -> int:
    _first, end = asking.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_TIMEOUT_S)
    return int(end)


def _make(client: Callable[[dict[str, Any]], _Client], config: Mapping[str, Any]) -> _Client:
    try:
        return client(dict(config))
    except KafkaException as error:
        raise ConfigurationError(f"Kafka settings (variables KAFKA_*): {error.args[0].str().strip()}") from None
