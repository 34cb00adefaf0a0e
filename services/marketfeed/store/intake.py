"""The reading side of a consumer: one thread that reads, decodes, hands batches to writers, and commits offsets.

Offsets are committed only for batches that their writer has completed. What does not live here: storing (`writer`,
`sinks`), the process around it (`consumer`), and the decisions that need no client (`batches`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from marketfeed import kafka
from marketfeed.errors import MarketfeedError
from marketfeed.logs import logger
from marketfeed.metrics import ConsumerMetrics
from marketfeed.pace import Pace
from marketfeed.settings import ConsumerSettings
from marketfeed.store.batches import Batch, Offsets, Partition, due
from marketfeed.store.lanes import Lanes
from marketfeed.store.writer import Writer

_READ_MESSAGES = 1000
_READ_TIMEOUT_S = 0.05
_COMMIT_EVERY_S = 0.1
_LOOK_EVERY_S = 1.0
_ANSWER_TIMEOUT_S = 1.0
_REVOKE_TIMEOUT_S = 10.0

# How many rows may wait in all lanes: two batches for each writer; more when they are small, because records come in
# runs of one partition, and writers need batches of several to work side by side.
_WAITING_BATCHES = 2
_WAITING_ROWS_MIN = 10_000
_WRITER_WAIT_S = 1.0  # how long reading waits for writers before the partitions of long lanes are paused
_COLLECT_WAIT_S = 0.05

# Topics that appear, and partitions that are added, are found this soon.
_METADATA_REFRESH_MS = 10_000

# Bound what is fetched ahead: records come compressed, and cost the client several times their bytes.
_FETCHED_KBYTES = 4096
_FETCH_BYTES = 262_144
# While full partitions leave only empty ones to ask for, a fetch waits this long at the broker, and nothing is
# fetched of the others meanwhile: with the default of 500 ms, a consumer that catches up runs dry.
_FETCH_WAIT_MS = 50

_log = logger("intake")


@dataclass(slots=True)
class State:
    """What the reading thread last saw, for the HTTP thread to show."""

    beat: float = field(default_factory=time.monotonic)  # when the loop last turned
    starting: str | None = "joining the consumer group"
    broker_problem: str | None = None
    errors: int = 0
    committed_at: float | None = None
    lag_records: int = 0
    rows_per_second: float = 0.0  # that were new, over the last ten seconds


class Intake:
    """Reads the topics of one consumer into its writers."""

    def __init__(
        self, settings: ConsumerSettings, lanes: Lanes, writers: Sequence[Writer], metrics: ConsumerMetrics
    ) -> None:
        self.state = State()
        self.offsets = Offsets()
        self._settings = settings
        self._lanes = lanes
        self._writers = writers
        self._metrics = metrics
        self._open: dict[Partition, Batch] = {}
        self._paused: set[Partition] = set()
        self._committed_before: dict[Partition, int] = {}
        self._pace = Pace()
        self._told: set[str] = set()  # the errors that were logged since something was read
        self._waiting_rows = max(_WAITING_ROWS_MIN, _WAITING_BATCHES * len(writers) * settings.batch_rows)

    def run(self, stop: Event) -> None:
        """Read until `stop` is set, then store and commit what was read.

        Raises MarketfeedError when the client or a writer gave up, ConfigurationError for settings it cannot take.
        """
        consumer = kafka.consumer(self._config())
        consumer.subscribe(
            [*self._settings.topics], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        try:
            self._loop(consumer, stop)
            self._drain(consumer)
        finally:
            consumer.close()

    def _config(self) -> dict[str, Any]:
        settings = self._settings
        return {
            **kafka.consumer_config(settings.kafka, settings.group, settings.auto_offset_reset),
            "error_cb": self._client_error,
            "on_commit": self._commit_ended,
            "topic.metadata.refresh.interval.ms": _METADATA_REFRESH_MS,
            "queued.max.messages.kbytes": _FETCHED_KBYTES,
            "fetch.message.max.bytes": _FETCH_BYTES,
            "fetch.wait.max.ms": _FETCH_WAIT_MS,
        }

    def _loop(self, consumer: Consumer, stop: Event) -> None:
        commit_at = look_at = 0.0
        while not stop.is_set():
            self._take(consumer.consume(_READ_MESSAGES, _READ_TIMEOUT_S))
            now = self.state.beat = time.monotonic()
            self._give_due(now)
            self._collect()
            self._balance(consumer)
            if now >= commit_at:
                self._commit(consumer)
                commit_at = now + _COMMIT_EVERY_S
            if now >= look_at:
                self._look(consumer)
                look_at = now + _LOOK_EVERY_S

    def _take(self, messages: Sequence[Message]) -> None:
        """Decode messages into the open batches of their partitions; give away those that are full."""
        rows = self._settings.batch_rows
        read: Counter[str] = Counter()
        for message in messages:
            if message.error() is not None:
                self._message_error(message)
                continue
            partition: Partition = (message.topic() or "", message.partition() or 0)
            batch = self._open.get(partition)
            if batch is None:
                batch = self._open[partition] = Batch(partition, time.monotonic())
            if batch.add(message) >= rows:
                self._give([partition])
            read[partition[0]] += 1
        for topic, count in read.items():
            self._metrics.consumed.labels(topic).inc(count)
        if read:
            self._told.clear()

    def _give_due(self, now: float) -> None:
        settings = self._settings
        max_delay_s = settings.batch_max_delay_ms / 1000
        self._give([part for part, batch in self._open.items() if due(batch, now, settings.batch_rows, max_delay_s)])

    def _give(self, partitions: Iterable[Partition]) -> None:
        """Put the open batches of these partitions into their lanes."""
        for partition in partitions:
            batch = self._open.pop(partition, None)
            if batch is not None:
                self._lanes.put(batch)

    def _collect(self, wait_s: float = 0.0) -> None:
        """Note what writers have completed, waiting up to `wait_s` for the first; raises what ended a writer."""
        for writer in self._writers:
            if writer.failure is not None:
                raise MarketfeedError(f"the sink failed: {writer.failure!r}") from writer.failure
        for batch in self._lanes.collect(wait_s):
            self.offsets.stored(batch.partition, batch.next_offset)

    # Back-pressure

    def _balance(self, consumer: Consumer) -> None:
        """Wait for lanes that are long; stop reading into those that stay so, and start again when they are short.

        Waiting comes first, for pausing is dear: what the client has fetched is thrown away, and the next fetch waits
        behind the one under way.
        """
        deadline = time.monotonic() + _WRITER_WAIT_S
        while (long := self._long_lanes() - self._paused) and not self._problem() and time.monotonic() < deadline:
            self._collect(_COLLECT_WAIT_S)
        if long:
            consumer.pause([TopicPartition(*partition) for partition in long])
            self._paused |= long
        short = self._paused - self._long_lanes()
        if short:
            consumer.resume([TopicPartition(*partition) for partition in short])
            self._paused -= short

    def _long_lanes(self) -> set[Partition]:
        """Return the partitions that take more than their share of the room there is; none while there is room."""
        if self._lanes.total() <= self._waiting_rows:
            return set()
        share = self._waiting_rows / len(self.offsets.assigned or (None,))
        return {part for part in self.offsets.assigned if self._lanes.rows(part) > share}

    def _problem(self) -> str | None:
        return next((writer.problem for writer in self._writers if writer.problem is not None), None)

    # Committing

    def _commit(self, consumer: Consumer, *, wait: bool = False) -> None:
        """Commit the offsets of what is stored; with `wait`, only return when the broker has answered."""
        offsets = self.offsets.take()
        if not offsets:
            return
        positions = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
        try:
            if wait:
                consumer.commit(offsets=positions, asynchronous=False)
            else:
                consumer.commit(offsets=positions, asynchronous=True)
        except KafkaException as error:
            # The rows are stored. If this was the last word, they are read and recognised once more.
            self.offsets.failed(offsets)
            self._count_error("", error.args[0])

    def _commit_ended(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Note how a commit ended; the client calls it from within `consume`, `commit` and `close`."""
        offsets = {(part.topic, part.partition): part.offset for part in partitions if part.offset >= 0}
        if error is not None:
            self.offsets.failed(offsets)
            self._count_error("", error)
            return
        self.state.committed_at = time.monotonic()
        for topic in {topic for topic, _ in offsets}:
            self._metrics.commits.labels(topic).inc()

    # The group

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.offsets.assign(_keys(partitions))
        self.state.starting = None
        _log.info("assigned", partitions=_names(partitions))

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Store and commit what is buffered before others take over; what cannot be stored now is theirs to store."""
        gone = _keys(partitions)
        self._give(gone)
        deadline = time.monotonic() + _REVOKE_TIMEOUT_S
        while any(map(self._lanes.rows, gone)) and not self._problem() and time.monotonic() < deadline:
            self._collect(_COLLECT_WAIT_S)
        self._collect()
        self._commit(consumer, wait=True)
        self._forget(gone)
        _log.info("revoked", partitions=_names(partitions))

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Drop partitions that the group took away: somebody else may hold them already.

        Nothing is read until the group assigns some again, or says that there are none for us.
        """
        self._forget(_keys(partitions))
        if not self.offsets.assigned:
            self.state.starting = "joining the consumer group again, which has given our partitions away"
        _log.warning("lost", partitions=_names(partitions))

    def _forget(self, gone: Sequence[Partition]) -> None:
        self.offsets.revoke(gone)
        self._paused.difference_update(gone)
        for partition in gone:
            self._open.pop(partition, None)
            self._committed_before.pop(partition, None)
            self._metrics.lag_records.labels(*partition).set(0)

    def _drain(self, consumer: Consumer) -> None:
        """Store and commit what was read, within the time there is; the rest is read again by the next process."""
        self._give([*self._open])
        self._lanes.close()
        deadline = time.monotonic() + self._settings.drain_timeout_s
        for writer in self._writers:
            writer.finish(max(0.0, deadline - time.monotonic()))
        self._collect()
        self._commit(consumer, wait=True)
        _log.info("drained", rows_left=self._lanes.total(), rows=sum(writer.rows_new for writer in self._writers))

    # What goes wrong

    def _message_error(self, message: Message) -> None:
        """Take an error that comes in a record's place."""
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            return
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and not self.offsets.assigned:
            self.state.starting = f"waiting for the topic {message.topic()} to be created"
            return
        self._client_error(error, message.topic() or "")

    def _client_error(self, error: KafkaError, topic: str = "") -> None:
        """Take what the client says of itself; it calls this from within `consume`."""
        if error.fatal():
            raise MarketfeedError(f"the Kafka client gave up: {error.str()}")
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
            self.state.broker_problem = f"no Kafka broker answers at {self._settings.kafka.bootstrap_servers}"
        self._count_error(topic, error)

    def _count_error(self, topic: str, error: KafkaError) -> None:
        self.state.errors += 1
        self._metrics.errors.labels(topic).inc()
        if error.name() not in self._told:  # a broker that is away is reported several times a second
            _log.warning("kafka_error", topic=topic, code=error.name(), reason=error.str())
        self._told.add(error.name())

    # What is shown

    def _look(self, consumer: Consumer) -> None:
        """Measure pace and lag, and find out whether a broker that was away is back."""
        rows = sum(writer.rows_new for writer in self._writers)
        self.state.rows_per_second = self._pace.update(rows, self.state.beat)
        if self.state.broker_problem is not None and not self._broker_answers(consumer):
            return
        self.state.broker_problem = None
        lags = {partition: self._lag(consumer, partition) for partition in self.offsets.assigned}
        for (topic, number), lag in lags.items():
            self._metrics.lag_records.labels(topic, number).set(lag)
        self.state.lag_records = sum(lags.values())

    def _broker_answers(self, consumer: Consumer) -> bool:
        try:
            consumer.list_topics(self._settings.topics[0], timeout=_ANSWER_TIMEOUT_S)
        except KafkaException:
            return False
        return True

    def _lag(self, consumer: Consumer, partition: Partition) -> int:
        """Return how many records of the partition are not stored, as far as the client knows its end."""
        first, end = consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
        if end < 0:
            return 0
        following = self.offsets.next_offset(partition)
        if following is None:
            following = self._committed(consumer, partition)
        return int(max(0, end - max(following, first)))

    def _committed(self, consumer: Consumer, partition: Partition) -> int:
        """Return the group's committed offset, asked for once; 0 before the group's first commit."""
        if partition not in self._committed_before:
            try:
                found = consumer.committed([TopicPartition(*partition)], timeout=_ANSWER_TIMEOUT_S)
            except KafkaException:
                return 0
            self._committed_before[partition] = max(0, found[0].offset)
        return self._committed_before[partition]


def _keys(partitions: Sequence[TopicPartition]) -> list[Partition]:
    return [(part.topic, part.partition) for part in partitions]


def _names(partitions: Sequence[TopicPartition]) -> list[str]:
    return [f"{part.topic}[{part.partition}]" for part in partitions]
