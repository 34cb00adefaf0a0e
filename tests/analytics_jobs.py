"""`marketfeed analytics` as a process on topics and a database of a test's own, and what its tables must hold.

Records are made by hand: produced as an ingestor does, stored as a consumer does. What is expected is computed here
from the stored rows, in plain Python with exact decimals: no code of the job takes part.
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg2.errors
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from analytics_records import basis_points
from helpers import wait_until
from marketfeed import codec, kafka, topics
from marketfeed.database import Pool
from marketfeed.events import BookTicker, Record, Trade
from marketfeed.local.spark import provide
from marketfeed.migrate import migrate
from marketfeed.settings import AnalyticsSettings, HttpSettings, KafkaSettings, ProducerSettings, Secret, Topic
from marketfeed.sinks.postgres import PostgresSink
from pipeline import Service, query
from records import START_US

TRADE_WINDOW_MS = 5_000
SPREAD_WINDOW_MS = 2_000
PARTITION_UA = -1
"""Lets the key decide, as librdkafka calls it."""

SETTLED_S = 240.0
"""How long a start of Spark, its first batches and a correction may take together on a busy machine."""

_EXACT = Context(prec=200)
_HEAP = "512m"

Windows = dict[tuple[str, int], tuple[Any, ...]]
"""By symbol and start (µs): the figures of a window, in the order of its table's columns."""

_TRADES = """
SELECT symbol, (extract(epoch FROM event_time) * 1000000)::bigint, trade_id, price, quantity, side,
       coalesce(last_trade_id - first_trade_id + 1, 1)
FROM trades WHERE channel = '{channel}'
"""
_QUOTES = """
SELECT symbol, (extract(epoch FROM event_time) * 1000000)::bigint, update_id, bid_price, ask_price FROM book_ticker
"""
_HELD_TRADES = """
SELECT symbol, (extract(epoch FROM window_start) * 1000000)::bigint,
       (extract(epoch FROM window_end - window_start) * 1000)::bigint, channel, record_count, trade_count, first_id,
       last_id, open, high, low, close, volume, quote_volume, taker_buy_volume, price_sum, price_square_sum
FROM trade_metrics
"""
_HELD_SPREADS = """
SELECT symbol, (extract(epoch FROM window_start) * 1000000)::bigint,
       (extract(epoch FROM window_end - window_start) * 1000)::bigint, quote_updates, first_id, last_id, spread_sum,
       min_spread, max_spread, spread_bps_sum, min_spread_bps, max_spread_bps
FROM spread_metrics
"""


def print_of(number: int, after_us: int, *, symbol: str = "BTCUSDT", price: str = "", quantity: str = "") -> Trade:
    """Return the print with this number; unless they are given, its digits follow from the number."""
    return Trade(
        "binance",
        symbol,
        number,
        price or f"{39_000 + number * 7 % 900}.{number * 13 % 100:02}000000",
        quantity or f"0.{number * 31 % 99_999 + 1:05}",
        "buy" if number % 3 else "sell",
        START_US + after_us,
        START_US + after_us + 7,
    )


def quote_of(number: int, after_us: int, *, symbol: str = "BTCUSDT") -> BookTicker:
    """Return the update with this number; its digits follow from the number."""
    at = START_US + after_us
    bid = 39_000 + number * 7 % 900
    return BookTicker("binance", symbol, number, f"{bid}.10", "1.5", f"{bid}.{10 + number % 89}", "2", at, at)


class Job:
    """One job with its topics; leaving the block kills what still runs."""

    def __init__(
        self, folder: Path, kafka_settings: KafkaSettings, dsn: Secret, name: str, partitions: int = 2
    ) -> None:
        self.kafka, self.dsn = kafka_settings, dsn
        self.trade_topic, self.quote_topic = f"{name}.trades", f"{name}.book_ticker"
        self.checkpoint = folder / "checkpoint"
        self.thresholds = folder / "thresholds.json"
        self._folder = folder
        self._partitions = partitions
        self._services: list[Service] = []
        scratch = folder / "spark"
        scratch.mkdir()
        environment = provide().environment(heap=_HEAP, scratch=scratch)
        # The best of Java's compilers takes longer than these tests do.
        environment["SPARK_SUBMIT_OPTS"] += " -XX:TieredStopAtLevel=1"
        self._environment = environment

    @property
    def settings(self) -> AnalyticsSettings:
        """How the job is set: short windows and triggers."""
        return AnalyticsSettings(
            feed="test",
            exchange="binance",
            sink="postgres",
            dsn=self.dsn,
            trade_topic=self.trade_topic,
            quote_topic=self.quote_topic,
            trade_window_ms=TRADE_WINDOW_MS,
            spread_window_ms=SPREAD_WINDOW_MS,
            watermark_ms=1_000,
            trigger_ms=500,
            checkpoint=str(self.checkpoint),
            kafka=self.kafka,
            http=HttpSettings(host="127.0.0.1", port=0),
        )

    def prepare(self) -> None:
        """Create the topics and the tables."""
        names = (self.trade_topic, self.quote_topic)
        topics.ensure(self.kafka, [Topic(name, self._partitions, replicas=1, retention_ms=None) for name in names])
        migrate(self.dsn)

    def start(self, **changes: Any) -> Service:
        """Start the process; `changes` are fields of its settings."""
        settings = replace(self.settings, **changes)
        environment = {**self._environment, **settings.to_env(), settings.variable("dsn"): settings.dsn}
        service = Service(f"analytics-{len(self._services)}", ["analytics"], environment, self._folder)
        self._services.append(service)
        return service

    def feed(self, records: Sequence[Record]) -> None:
        """Produce the records, and store them as a consumer does."""
        self.produce(records)
        self.store(records)

    def produce(self, records: Sequence[Record], *, partition: int = PARTITION_UA) -> None:
        """Produce the records, by their symbols' partitions unless one is given."""
        producer = Producer(kafka.producer_config(self.kafka, ProducerSettings(linger_ms=5)))
        for record in records:
            topic = self.quote_topic if isinstance(record, BookTicker) else self.trade_topic
            producer.produce(topic, codec.encode(record), record.symbol.encode(), partition)
            producer.poll(0)
        assert producer.flush(10) == 0

    def produce_bytes(self, topic: str, values: Iterable[bytes | None]) -> None:
        """Produce values as they are."""
        producer = Producer(kafka.producer_config(self.kafka, ProducerSettings(linger_ms=5)))
        for value in values:
            producer.produce(topic, value, b"BTCUSDT")
        assert producer.flush(10) == 0

    def store(self, records: Sequence[Record]) -> None:
        """Store the records with their ledger, on a connection of its own: the database may have been away."""
        with closing(Pool(self.dsn, "test", 1, statement_timeout_s=30.0)) as pool:
            PostgresSink(pool).store(records)

    def wait_until_processed(self, service: Service) -> None:
        """Wait until the job says that it has processed the topics to the ends that the broker names."""

        def done() -> bool:
            service.assert_alive()
            return self.ends().items() <= processed(service).items()

        wait_until(done, SETTLED_S, "every record to be processed", every_s=0.1)

    def wait_until_right(self, service: Service, channel: str = "trade") -> None:
        """Wait until every window is as the stored rows make it, and no minute is left to be looked at."""
        marks = f"SELECT FROM late_minutes WHERE channel IN ('{channel}', 'bookTicker')"

        def done() -> bool:
            service.assert_alive()
            return not self.differences(channel) and not query(self.dsn, marks)

        try:
            wait_until(done, SETTLED_S, "the windows to be right", every_s=0.2)
        except pytest.fail.Exception as error:
            pytest.fail(f"{error}; they differ: {self.differences(channel)[:5]}")

    def ends(self) -> dict[tuple[str, int], int]:
        """Return the end of each partition that holds a record."""
        config = kafka.consumer_config(self.kafka, "ends", "earliest")
        asking = Consumer(config)
        try:
            parts = [
                (topic, part) for topic in (self.trade_topic, self.quote_topic) for part in range(self._partitions)
            ]
            ends = {part: asking.get_watermark_offsets(TopicPartition(*part), timeout=5)[1] for part in parts}
        finally:
            asking.close()
        return {part: end for part, end in ends.items() if end}

    def differences(self, channel: str = "trade") -> list[str]:
        """Return the windows of both tables that are not as the stored rows make them."""
        pairs = (
            (self.expected_trades(channel), _held(self.dsn, _HELD_TRADES)),
            (self.expected_spreads(), _held(self.dsn, _HELD_SPREADS)),
        )
        return [
            f"{key}: {held.get(key)} should be {expected.get(key)}"
            for expected, held in pairs
            for key in sorted(expected.keys() | held.keys())
            if expected.get(key) != held.get(key)
        ]

    def expected_trades(self, channel: str = "trade") -> Windows:
        """Return the windows of the stored trades."""
        rows = _windows(query(self.dsn, _TRADES.format(channel=channel)), TRADE_WINDOW_MS)
        with localcontext(_EXACT):
            return {key: (TRADE_WINDOW_MS, channel, *_trade_figures(found)) for key, found in rows.items()}

    def expected_spreads(self) -> Windows:
        """Return the windows of the stored quotes."""
        rows = _windows(query(self.dsn, _QUOTES), SPREAD_WINDOW_MS)
        with localcontext(_EXACT):
            return {key: (SPREAD_WINDOW_MS, *_spread_figures(found)) for key, found in rows.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for service in self._services:
            service.__exit__(kind, error, traceback)


def processed(service: Service) -> dict[tuple[str, int], int]:
    """Return the offsets that the job says it has processed, by topic and partition."""
    queries = service.stats()["queries"].values()
    return {
        (topic, int(part)): offset
        for figures in queries
        for topic, parts in figures["processed"].items()
        for part, offset in parts.items()
    }


def ready(service: Service) -> None:
    """Wait until the job is ready."""

    def is_ready() -> bool:
        service.assert_alive()
        return service.reason() is None

    wait_until(is_ready, SETTLED_S, f"{service.name} to be ready", every_s=0.1)


def kill_group(service: Service) -> None:
    """End the process and all that it started with SIGKILL."""
    service.assert_alive()
    os.killpg(service.pid, signal.SIGKILL)
    service.kill()


def alerts(dsn: str) -> Mapping[tuple[str, str], int]:
    """Return how many alerts are there, by kind and symbol, that were not taken back."""
    rows = query(dsn, "SELECT kind, symbol, count(*) FROM alerts WHERE withdrawn_at IS NULL GROUP BY 1, 2")
    return {(kind, symbol): count for kind, symbol, count in rows}


def blocked(dsn: str) -> bool:
    """Tell whether a connection of the database waits for a lock."""
    return bool(
        query(dsn, "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    )


def _held(dsn: str, statement: str) -> Windows:
    try:
        return {(row[0], row[1]): row[2:] for row in query(dsn, statement)}
    except psycopg2.errors.UndefinedTable:
        return {}


def _windows(rows: Iterable[tuple[Any, ...]], window_ms: int) -> dict[tuple[str, int], list[tuple[Any, ...]]]:
    """Return the rows of each symbol and window, by rising id."""
    found: defaultdict[tuple[str, int], list[tuple[Any, ...]]] = defaultdict(list)
    for symbol, time_us, *row in rows:
        found[symbol, time_us - time_us % (window_ms * 1000)].append(tuple(row))
    return {key: sorted(found_rows) for key, found_rows in found.items()}


def _trade_figures(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    prices = [row[1] for row in rows]
    return (
        len(rows),
        sum(row[4] for row in rows),
        rows[0][0],
        rows[-1][0],
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum(row[2] for row in rows),
        sum(row[1] * row[2] for row in rows),
        sum((row[2] for row in rows if row[3] == "buy"), Decimal(0)),
        sum(prices),
        sum(price * price for price in prices),
    )


def _spread_figures(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    spreads = [ask - bid for _, bid, ask in rows]
    bps = [basis_points(bid, ask) for _, bid, ask in rows]
    ids = (rows[0][0], rows[-1][0])
    return (len(rows), *ids, sum(spreads), min(spreads), max(spreads), sum(bps), min(bps), max(bps))
