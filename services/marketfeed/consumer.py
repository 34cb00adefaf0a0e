"""`marketfeed consume`: topics into a sink, at least once from Kafka and exactly once in the table.

One thread reads, decodes and commits offsets; writers store. This module holds the reading side and the process around
it. The pure decisions are in `batches`, storing in `writer` and `sinks`, dead letters in `dead_letters`.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

import click
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from prometheus_client import CollectorRegistry

from marketfeed import codec, kafka
from marketfeed.batches import Batch, Offsets, Partition, due, reject, writer_of
from marketfeed.database import Pool
from marketfeed.dead_letters import DeadLetters
from marketfeed.errors import BadRecord, MarketfeedError, Unavailable
from marketfeed.logs import configure, logger
from marketfeed.metrics import ConsumerMetrics
from marketfeed.migrate import migrate
from marketfeed.policies import backoff_s
from marketfeed.server import Pulse, Reason, Server
from marketfeed.settings import ConsumerSettings
from marketfeed.sinks.postgres import PostgresSink
from marketfeed.writer import Writer

_READ_MESSAGES = 1000
_READ_TIMEOUT_S = 0.05
_COMMIT_EVERY_S = 0.1
_LOOK_EVERY_S = 1.0
_WRITER_WAIT_S = 0.1  # how long reading waits for a slow writer before its partitions are paused
_BACKLOG_BATCHES = 2  # per writer: one that is being stored, and one that waits
_BACKLOG_ROWS_MIN = 2000
_REVOKE_TIMEOUT_S = 10.0
_STATEMENT_TIMEOUT_S = 30.0
_STUCK_AFTER_S = 60.0
_ANSWER_TIMEOUT_S = 1.0

_log = logger("consumer")


@dataclass(slots=True)
class State:
    """What the loop last saw; written by the loop, read by the HTTP thread."""

    starting: str | None = "waiting for the database"
    broker_problem: str | None = None
    beat: float = 0.0
    errors: int = 0
    committed_at: float | None = None
    lag_records: int = 0


class ConsumerService:
    """One consumer process: an HTTP server, writers, and the loop that reads."""

    def __init__(self, settings: ConsumerSettings, stop: Event) -> None:
        self._settings = settings
        self._stop = stop
        self._registry = CollectorRegistry()
        self._metrics = ConsumerMetrics(self._registry)
        self._state = State(beat=time.monotonic())
        self._done: SimpleQueue[Batch] = SimpleQueue()
        self._pool = Pool(
            settings.dsn, "marketfeed-consume", settings.writers, statement_timeout_s=_STATEMENT_TIMEOUT_S
        )
        letters = DeadLetters(settings)
        self._writers = [
            Writer(
                f"writer-{index}",
                settings=settings,
                sink=PostgresSink(self._pool),
                dead_letters=letters,
                metrics=self._metrics,
                done=self._done,
            )
            for index in range(settings.writers)
        ]
        self._open: list[Batch | None] = [None] * settings.writers
        self._paused: set[int] = set()
        self._offsets = Offsets()
        self._committed_until: dict[Partition, int] = {}
        self._backlog_rows = max(_BACKLOG_ROWS_MIN, _BACKLOG_BATCHES * settings.batch_rows)

    def run(self) -> None:
        """Run until `stop` is set, then store and commit what was read. Raises MarketfeedError for what is fatal."""
        server = Server(self._settings.http, Pulse(self._live, self._ready, self._stats), self._registry)
        _log.info("listening", url=server.url, feed=self._settings.feed, sink=self._settings.sink)
        try:
            self._prepare()
            if not self._stop.is_set():
                self._consume()
        finally:
            self._pool.close()
            server.close()

    def _prepare(self) -> None:
        """Bring the schema up to date, waiting for the database as long as it takes."""
        attempt = 0
        while not self._stop.is_set():
            self._state.beat = time.monotonic()
            try:
                outcome = migrate(self._settings.dsn)
            except Unavailable as error:
                if attempt == 0:
                    _log.warning("waiting_for_database", reason=str(error))
                self._state.starting = f"waiting for the database: {error}"
                self._stop.wait(backoff_s(attempt, 0.2, 5.0, random.random()))  # noqa: S311 - jitter, not cryptography
                attempt += 1
            else:
                _log.info("migrated", dialect=outcome.dialect, applied=outcome.applied)
                return

    def _consume(self) -> None:
        for writer in self._writers:
            writer.start()
        self._state.starting = "joining the consumer group"
        consumer = kafka.consumer(self._config())
        consumer.subscribe(
            [*self._settings.topics], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        try:
            self._loop(consumer)
            self._drain(consumer)
        finally:
            consumer.close()

    def _config(self) -> dict[str, Any]:
        settings = self._settings
        return {
            **kafka.consumer_config(settings.kafka, settings.group, settings.auto_offset_reset),
            "error_cb": self._client_error,
            "on_commit": self._commit_ended,
            "topic.metadata.refresh.interval.ms": 10_000,  # topics that appear, and partitions that are added
        }

    # Reading

    def _loop(self, consumer: Consumer) -> None:
        looked_at = commit_at = 0.0
        while not self._stop.is_set():
            self._take(consumer.consume(_READ_MESSAGES, _READ_TIMEOUT_S))
            now = self._state.beat = time.monotonic()
            self._hand_over(now)
            self._collect()
            self._balance(consumer)
            if now >= commit_at:
                self._commit(consumer)
                commit_at = now + _COMMIT_EVERY_S
            if now >= looked_at + _LOOK_EVERY_S:
                self._look(consumer)
                looked_at = now

    def _take(self, messages: Sequence[Message]) -> None:
        """Decode messages into the open batches of their writers."""
        settings, opened = self._settings, self._open
        read: dict[str, int] = {}
        for message in messages:
            if message.error() is not None:
                self._message_error(message)
                continue
            partition: Partition = (message.topic() or "", message.partition() or 0)
            read[partition[0]] = read.get(partition[0], 0) + 1
            index = writer_of(partition, settings.writers)
            batch = opened[index]
            if batch is None:
                batch = opened[index] = Batch(time.monotonic())
            add(batch, message, partition)
            if len(batch) >= settings.batch_rows:
                self._give(index)
        for topic, count in read.items():
            self._metrics.consumed.labels(topic).inc(count)
        if read:
            self._state.broker_problem = None

    def _hand_over(self, now: float) -> None:
        """Give the writers the batches that are due."""
        settings = self._settings
        for index, batch in enumerate(self._open):
            if batch is not None and due(batch, now, settings.batch_rows, settings.batch_max_delay_ms / 1000):
                self._give(index)

    def _give(self, index: int) -> None:
        batch, self._open[index] = self._open[index], None
        if batch is not None:
            self._writers[index].give(batch)

    def _collect(self, wait_s: float = 0.0) -> None:
        """Note what writers have stored, waiting up to `wait_s` for the first; raises what ended a writer."""
        for writer in self._writers:
            if writer.failure is not None:
                raise MarketfeedError(f"the sink failed: {writer.failure!r}") from writer.failure
        try:
            batch = self._done.get(timeout=wait_s) if wait_s else self._done.get_nowait()
            while True:
                self._offsets.stored(batch.offsets)
                batch = self._done.get_nowait()
        except Empty:
            return

    def _balance(self, consumer: Consumer) -> None:
        """Stop reading for writers that are behind, and start again when they have caught up.

        A short wait comes first: pausing throws away what the client has fetched already.
        """
        behind = {index for index, writer in enumerate(self._writers) if writer.backlog > self._backlog_rows}
        if behind - self._paused:
            self._collect(_WRITER_WAIT_S)
            behind = {index for index in behind if self._writers[index].backlog > self._backlog_rows}
        for index in behind - self._paused:
            consumer.pause(self._partitions_of(index))
            self._paused.add(index)
        for index in self._paused - behind:
            if self._writers[index].backlog <= self._backlog_rows // 2:
                consumer.resume(self._partitions_of(index))
                self._paused.discard(index)

    def _partitions_of(self, index: int) -> list[TopicPartition]:
        return [
            TopicPartition(*partition)
            for partition in self._offsets.assigned
            if writer_of(partition, self._settings.writers) == index
        ]

    # Committing

    def _commit(self, consumer: Consumer, *, wait: bool = False) -> None:
        """Commit the offsets of what is stored; with `wait`, only return when the broker has answered."""
        offsets = self._offsets.take()
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
            self._offsets.failed(offsets)
            self._count_error("", error.args[0])

    def _commit_ended(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Note how a commit ended; called by the client from within `consume`."""
        offsets = {(part.topic, part.partition): part.offset for part in partitions if part.offset >= 0}
        if error is not None:
            self._offsets.failed(offsets)
            self._count_error("", error)
            return
        self._state.committed_at = time.monotonic()
        for topic in {topic for topic, _ in offsets}:
            self._metrics.commits.labels(topic).inc()

    # The group

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._offsets.assign((part.topic, part.partition) for part in partitions)
        self._paused.clear()  # new partitions come unpaused: look again at every writer
        if self._state.starting is not None and not self._state.starting.startswith("the topic"):
            self._state.starting = None
        if partitions:
            self._state.starting = None
        _log.info("assigned", partitions=_names(partitions))

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Store and commit what is buffered before others take over; what cannot be stored now is theirs to store."""
        self._finish_batches(_REVOKE_TIMEOUT_S)
        self._commit(consumer, wait=True)
        self._offsets.revoke((part.topic, part.partition) for part in partitions)
        _log.info("revoked", partitions=_names(partitions))

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Forget partitions that the group took away: somebody else may hold them already."""
        self._offsets.revoke((part.topic, part.partition) for part in partitions)
        _log.warning("lost", partitions=_names(partitions))

    def _finish_batches(self, timeout_s: float) -> None:
        """Hand over every open batch and wait for the writers, except for one whose sink is away."""
        for index in range(len(self._writers)):
            self._give(index)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and any(
            writer.backlog and writer.problem is None for writer in self._writers
        ):
            self._collect(_WRITER_WAIT_S)
        self._collect()

    def _drain(self, consumer: Consumer) -> None:
        """Store and commit what was read, within the time there is; the rest is read again by the next process."""
        for index in range(len(self._writers)):
            self._give(index)
        deadline = time.monotonic() + self._settings.drain_timeout_s
        complete = [writer.finish(max(0.0, deadline - time.monotonic())) for writer in self._writers]
        self._collect()
        self._commit(consumer, wait=True)
        _log.info("drained", complete=all(complete), rows=sum(writer.rows_new for writer in self._writers))

    # What goes wrong

    def _message_error(self, message: Message) -> None:
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            return
        if error.fatal():
            raise MarketfeedError(f"the Kafka client gave up: {error.str()}")
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            if not self._offsets.assigned:
                self._state.starting = f"the topic {message.topic()} does not exist yet"
            return
        self._count_error(message.topic() or "", error)

    def _client_error(self, error: KafkaError) -> None:
        """Take what the client says outside any message; called from within `consume`."""
        if error.fatal():
            raise MarketfeedError(f"the Kafka client gave up: {error.str()}")
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
            self._state.broker_problem = f"no Kafka broker answers at {self._settings.kafka.bootstrap_servers}"
        self._count_error("", error)

    def _count_error(self, topic: str, error: KafkaError) -> None:
        self._state.errors += 1
        self._metrics.errors.labels(topic).inc()
        _log.warning("kafka_error", topic=topic, code=error.name(), reason=error.str())

    # What is shown

    def _look(self, consumer: Consumer) -> None:
        """Measure the lag, and find out whether a broker that was away is back."""
        if self._state.broker_problem is not None:
            try:
                consumer.list_topics(self._settings.topics[0], timeout=_ANSWER_TIMEOUT_S)
                self._state.broker_problem = None
            except KafkaException:
                return
        total = 0
        for topic, number in self._offsets.assigned:
            behind = self._lag(consumer, (topic, number))
            self._metrics.lag_records.labels(topic, number).set(behind)
            total += behind
        self._state.lag_records = total

    def _lag(self, consumer: Consumer, partition: Partition) -> int:
        """Return how many records of the partition are not stored, as far as the client knows its end."""
        position = TopicPartition(*partition)
        watermarks = consumer.get_watermark_offsets(position, cached=True)
        if watermarks[1] < 0:
            return 0
        following = self._offsets.next_offset(partition)
        if following is None:
            following = self._first_position(consumer, partition)
        return max(0, watermarks[1] - max(following, watermarks[0]))

    def _first_position(self, consumer: Consumer, partition: Partition) -> int:
        """Return the group's committed offset, asked for once; 0 before the group's first commit."""
        if partition not in self._committed_until:
            try:
                found = consumer.committed([TopicPartition(*partition)], timeout=_ANSWER_TIMEOUT_S)
            except KafkaException:
                return 0
            self._committed_until[partition] = max(0, found[0].offset)
        return self._committed_until[partition]

    def _live(self) -> Reason:
        """Return why the loop hangs; a database or a broker that is away does not count."""
        silent_s = time.monotonic() - self._state.beat
        return f"the loop has not turned for {silent_s:.0f} s" if silent_s > _STUCK_AFTER_S else None

    def _ready(self) -> Reason:
        if self._state.starting is not None:
            return f"starting: {self._state.starting}"
        problems = [writer.problem for writer in self._writers if writer.problem is not None]
        return problems[0] if problems else self._state.broker_problem

    def _stats(self) -> Mapping[str, Any]:
        state, writers = self._state, self._writers
        lags = [writer.lag_s for writer in writers if writer.lag_s is not None]
        return {
            "feed": self._settings.feed,
            "sink": self._settings.sink,
            "rows_stored": sum(writer.rows_new for writer in writers),
            "rows_duplicate": sum(writer.rows_duplicate for writer in writers),
            "dead_letters": sum(writer.letters for writer in writers),
            "error_count": state.errors,
            "lag_records": state.lag_records,
            "lag_seconds": round(max(lags), 3) if lags else None,
            "last_commit_age_s": None
            if state.committed_at is None
            else round(time.monotonic() - state.committed_at, 3),
            "assigned_partitions": len(self._offsets.assigned),
        }


def add(batch: Batch, message: Message, partition: Partition) -> None:
    """Decode one message into its batch; what cannot be decoded is kept for quarantine."""
    try:
        record = codec.decode(message.value() or b"")
    except BadRecord as error:
        batch.rejected.append(reject(message, error))
    else:
        batch.records.append(record)
        batch.sources.append(message)
    batch.offsets[partition] = (message.offset() or 0) + 1


def _names(partitions: Sequence[TopicPartition]) -> list[str]:
    return [f"{part.topic}[{part.partition}]" for part in partitions]


@click.command("consume")
def command() -> None:
    """Store the records of a feed's topics in its sink, until SIGTERM.

    Settings come from the environment. Exits 0 after a drain, 2 when the configuration is wrong, 1 for anything else.
    """
    configure()
    settings = ConsumerSettings.from_env(os.environ, lambda path: Path(path).read_text("utf-8"))
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ConsumerService(settings, stop).run()
