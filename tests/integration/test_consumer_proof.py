"""The consumer's running proof, on a real database: what it counts, and what becomes of it when it cannot ask."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import msgspec
import psycopg2
import pytest
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry

from helpers import wait_until
from marketfeed import codec, kafka
from marketfeed.database import Pool
from marketfeed.events import Record
from marketfeed.ledger import MINUTE_US, Entry
from marketfeed.metrics import ConsumerMetrics
from marketfeed.migrate import migrate
from marketfeed.proof import Stretch
from marketfeed.settings import ConsumerSettings, KafkaSettings, ProducerSettings, Secret
from marketfeed.sinks.postgres import PostgresSink
from marketfeed.store.prover import Prover
from pipeline import RECOVERY_S, Pipeline, Service
from records import START_US, book_ticker, trade

LOST = {30, 31, 32}


def _recent(count: int) -> list[Record]:
    """Return prints of the last minutes, ten seconds apart, of two symbols; one of them misses three ids."""
    begin_us = int(time.time() * 1_000_000) - START_US - (count + 20) * 10_000_000
    return [
        trade(number, symbol, begin_us + number * 10_000_000)
        for number in range(count)
        for symbol in ("BTCUSDT", "ETHUSDT")
        if symbol == "ETHUSDT" or number not in LOST
    ]


def _produce(feed: Pipeline, records: Sequence[Record]) -> None:
    producer = Producer(kafka.producer_config(feed.kafka, ProducerSettings(linger_ms=5)))
    for record in records:
        producer.produce(feed.topics[record.channel], codec.encode(record), record.symbol.encode())
    assert producer.flush(RECOVERY_S) == 0


def _proof(service: Service) -> dict[str, Any]:
    """Return the figures, waiting for the first ones."""
    figures: dict[str, Any] = wait_until(lambda: service.stats()["proof"], RECOVERY_S, "a first check")
    return figures


@pytest.mark.kafka
@pytest.mark.postgres
def test_the_consumer_says_what_of_the_last_hour_is_missing(pipeline: Pipeline) -> None:
    """Nothing before something is stored; then the hour's ids, with the three that never came, in stats and metrics."""
    records = _recent(60)
    consumer = pipeline.consume(proof_every_s=0.2)
    wait_until(lambda: consumer.reason() is None, RECOVERY_S, "the consumer to be ready")
    assert consumer.stats()["proof"] is None
    begun = int(time.time())
    _produce(pipeline, records)
    wait_until(lambda: _proof(consumer)["stored"] == len(records), RECOVERY_S, "all records to be counted")
    figures = _proof(consumer)
    assert begun <= figures.pop("checked_at") <= time.time()
    assert figures == {"window_s": 3600, "missing": 3, "expected": 120, "stored": 117, "unprovable_streams": 0}
    assert consumer.metric("marketfeed_proof_ids", state="missing") == 3
    assert consumer.metric("marketfeed_proof_ids", state="expected") == 120
    assert consumer.metric("marketfeed_proof_timestamp_seconds") >= begun
    wait_until(lambda: consumer.stats()["rows_per_second"] > 0, RECOVERY_S, "a pace above zero")
    assert consumer.terminate() == 0


@pytest.mark.kafka
@pytest.mark.postgres
def test_figures_outlive_a_ledger_that_cannot_be_read(pipeline: Pipeline) -> None:
    """While the question fails the last figures stay, errors are counted and the consumer is well; then it goes on."""
    _produce(pipeline, _recent(60))
    consumer = pipeline.consume(proof_every_s=0.2)
    wait_until(lambda: _proof(consumer)["stored"] == 117, RECOVERY_S, "all records to be counted")
    assert consumer.stats()["error_count"] == 0
    _execute(pipeline.dsn, "ALTER TABLE ledger RENAME TO elsewhere")
    wait_until(lambda: consumer.stats()["error_count"] >= 3, RECOVERY_S, "errors to be counted")
    kept = _proof(consumer)
    assert (kept["stored"], kept["missing"], consumer.reason()) == (117, 3, None)
    assert len(consumer.entries("proof_failed")) == 1
    _execute(pipeline.dsn, "ALTER TABLE elsewhere RENAME TO ledger")
    wait_until(lambda: _proof(consumer)["checked_at"] > kept["checked_at"], RECOVERY_S, "another check")
    assert consumer.terminate() == 0


def _execute(dsn: str, statement: str) -> None:
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def prover(database: Secret, kafka_settings: KafkaSettings) -> Iterator[Prover]:
    """Return a prover over an empty database; its thread is not started."""
    migrate(database)
    settings = ConsumerSettings(
        feed="test",
        sink="postgres",
        sink_type="postgresql",
        topics=("t",),
        group="g",
        dsn=database,
        dead_letter_topic="dlq",
        kafka=kafka_settings,
    )
    made = Prover(settings, lambda: (), ConsumerMetrics(CollectorRegistry()))
    yield made
    made.stop()


@pytest.mark.postgres
def test_the_ledger_is_read_in_four_parts(prover: Prover, database: Secret) -> None:
    """Each stream's minutes are added up before, around, within and after the hour; other kinds and times stay out."""
    stretch = Stretch.settled(START_US + 90 * MINUTE_US)
    times = {
        "long ago": stretch.read_from - 1,
        "before": stretch.read_from,
        "margin": stretch.margin,
        "first": stretch.since,
        "last": stretch.until - 1,
        "running": stretch.until,
    }
    of_symbol = [trade(number, "BTCUSDT", us - START_US) for number, us in enumerate(times.values())]
    others: list[Record] = [
        msgspec.structs.replace(trade(7, "BTCUSDT", stretch.since - START_US), exchange="binance_us"),
        trade(9, "ETHUSDT", stretch.since - START_US),
        book_ticker(900, "BTCUSDT", stretch.since - START_US),
    ]
    pool = Pool(database, "test", 1, statement_timeout_s=10)
    PostgresSink(pool).store([*of_symbol, *others])
    pool.close()

    def entry(symbol: str, minute: int, stored: int, first: int, last: int) -> Entry:
        return Entry("binance", symbol, "trade", minute, stored, 0, first, last)

    assert sorted(prover._ask({("binance", "trade")}, stretch)) == [
        entry("BTCUSDT", stretch.read_from, 1, 1, 1),
        entry("BTCUSDT", stretch.margin, 1, 2, 2),
        entry("BTCUSDT", stretch.since, 2, 3, 4),
        entry("BTCUSDT", stretch.until, 1, 5, 5),
        entry("ETHUSDT", stretch.since, 1, 9, 9),
    ]
    assert len(prover._ask({("binance", "trade"), ("binance", "bookTicker")}, stretch)) == 6
    assert prover._ask({("kraken", "trade")}, stretch) == []
