"""The consumer as a process on a real broker and a real database: poison, rebalances, kills, and what verify says.

Faults of the whole pipeline stand in test_faults.py; here the input is made by hand, so that each record is known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

import pipeline
from helpers import wait_until
from marketfeed import codec, kafka
from marketfeed.events import BookTicker, Record
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.settings import KafkaSettings, ProducerSettings, Secret
from pipeline import RECOVERY_S, Pipeline, query
from records import agg_trade, book_ticker, trade

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

Letter = tuple[bytes | None, bytes | None, dict[str, str | bytes | None]]
"""Value, key and headers."""

SYMBOLS = [f"S{number}USDT" for number in range(12)]


@pytest.fixture
def feed(tmp_path: Path, kafka_settings: KafkaSettings, database: Secret, topic_name: str) -> Iterator[Pipeline]:
    """Return a feed whose topics exist and whose services are the test's to start."""
    with Pipeline(tmp_path, kafka_settings, database, topic_name) as made:
        made.create_topics()
        yield made


def _records(first: int, count: int) -> list[Record]:
    """Return `count` prints, aggregates and book tickers, spread over the symbols; ids are contiguous per stream."""
    return [
        make(number, symbol, number * 1_000)
        for number in range(first, first + count)
        for symbol in SYMBOLS
        for make in (trade, agg_trade, book_ticker)
    ]


def _produce(feed: Pipeline, records: Sequence[Record], poison: Mapping[int, bytes] | None = None) -> None:
    """Produce the records as an ingestor does; before the record with the index of a poison comes the poison."""
    producer = Producer(kafka.producer_config(feed.kafka, ProducerSettings(linger_ms=5)))
    for index, record in enumerate(records):
        topic, key = feed.topics[record.channel], record.symbol.encode()
        if poison is not None and index in poison:
            producer.produce(topic, poison[index], key, headers={"origin": b"test"})
        producer.produce(topic, codec.encode(record), key)
        producer.poll(0)
    assert producer.flush(RECOVERY_S) == 0


def _assert_stored_once(feed: Pipeline, records: Sequence[Record]) -> None:
    """Fail unless the tables hold exactly these records' ids, each once, and the ledger agrees."""
    rows = query(
        feed.dsn,
        "SELECT symbol, channel, trade_id FROM trades "
        "UNION ALL SELECT symbol, 'bookTicker', update_id FROM book_ticker",
    )
    expected = [
        (record.symbol, str(record.channel), record.update_id if isinstance(record, BookTicker) else record.trade_id)
        for record in records
    ]
    assert sorted(rows) == sorted(expected)
    proof = feed.verify()
    assert (proof.exit_code, proof.said["disagreements"]) == (0, [])


def _dead_letters(feed: Pipeline) -> list[Letter]:
    """Read the whole dead-letter topic: value, key and headers of each."""
    with closing(Consumer(kafka.consumer_config(feed.kafka, f"{feed.group}-reader", "earliest"))) as consumer:
        parts = [TopicPartition(feed.dead_letter_topic, number, 0) for number in range(3)]
        ends = sum(consumer.get_watermark_offsets(part, timeout=10)[1] for part in parts)
        consumer.assign(parts)
        found: list[Letter] = []
        while len(found) < ends:
            for message in consumer.consume(100, 1.0):
                assert message.error() is None
                found.append((message.value(), message.key(), dict(message.headers() or [])))
        return found


def test_poison_is_quarantined_and_everything_else_stored(feed: Pipeline) -> None:
    """Poison of six kinds among good records comes out untouched, with key, type and place; all else is stored."""
    records = _records(0, 30)
    good = codec.encode(records[0])
    poison = {
        3: b"not json",
        100: b"",
        200: good.replace(b'"price":"39432.48000000",', b""),
        300: good.replace(b"39432.48000000", b"NaN"),
        400: good.replace(b'"trade_id":0', b'"trade_id":99999999999999999999'),
        500: json.dumps({**json.loads(good), "symbol": "BTC\0USDT"}).encode(),
        600: json.dumps({**json.loads(good), "channel": "gossip"}).encode(),
    }
    _produce(feed, records, poison)
    consumer = feed.consume(batch_rows=100)
    wait_until(feed.consumed, RECOVERY_S, "the consumer to commit the topics' ends")
    letters = _dead_letters(feed)
    assert sorted(value or b"" for value, _, _ in letters) == sorted(poison.values())
    types = {value: headers["error_type"] for value, _, headers in letters}
    assert [types[poison[index]] for index in sorted(poison)] == [
        b"not_json",
        b"not_json",
        b"missing_field",
        b"not_a_number",
        b"out_of_range",
        b"refused_by_sink",
        b"unknown_type",
    ]
    _, key, headers = next(letter for letter in letters if letter[0] == b"not json")
    assert (key, headers["__connect.errors.topic"]) == (records[3].symbol.encode(), feed.topics["trade"].encode())
    assert (headers["attempt"], headers["kafka_dlt-original-consumer-group"]) == (b"1", feed.group.encode())
    assert consumer.stats()["dead_letters"] == len(poison)
    assert consumer.metric("kafka_dlq_published_total", error_type="not_json") == 2
    assert consumer.terminate() == 0
    _assert_stored_once(feed, records)


def test_two_consumers_share_and_take_over(feed: Pipeline) -> None:
    """A second consumer takes partitions over while records flow, the first is killed, the second ends the work."""
    records = _records(0, 600)
    third = len(records) // 3
    first = feed.consume()
    _produce(feed, records[:third])
    second = feed.consume()
    _produce(feed, records[third : 2 * third])
    wait_until(lambda: second.stats()["assigned_partitions"] == 3, RECOVERY_S, "the partitions to be shared")
    assert first.stats()["assigned_partitions"] == 3
    first.kill()
    _produce(feed, records[2 * third :])
    wait_until(feed.consumed, RECOVERY_S, "the second consumer to take over")
    assert second.terminate() == 0
    _assert_stored_once(feed, records)


def test_a_consumer_that_leaves_in_order_repeats_nothing(feed: Pipeline) -> None:
    """After SIGTERM everything that was stored is committed: the successor finds no duplicate."""
    records = _records(0, 200)
    _produce(feed, records[: len(records) // 2])
    first = feed.consume()
    feed.wait_for_rows(1)
    assert first.terminate() == 0
    _produce(feed, records[len(records) // 2 :])
    second = feed.consume()
    wait_until(feed.consumed, RECOVERY_S, "the successor to finish")
    assert second.stats()["rows_duplicate"] == 0
    assert second.terminate() == 0
    _assert_stored_once(feed, records)


def test_a_replay_from_the_beginning_changes_nothing(feed: Pipeline) -> None:
    """A new group that reads everything again stores no row twice, and counts all of them as duplicates."""
    records = _records(0, 100)
    _produce(feed, records)
    first = feed.consume()
    feed.drain(first)
    again = feed.consume(group=f"{feed.group}-again")
    wait_until(lambda: again.stats()["rows_duplicate"] == len(records), RECOVERY_S, "the replay to end")
    assert again.stats()["rows_stored"] == 0
    assert again.terminate() == 0
    _assert_stored_once(feed, records)


def test_a_database_that_is_away_is_waited_for_within_bounds(
    tmp_path: Path, kafka_settings: KafkaSettings, own_postgres: Callable[[], EmbeddedPostgres], topic_name: str
) -> None:
    """While the database is away the consumer lives, says what is missing and stops reading; then it catches up."""
    server = own_postgres()
    with Pipeline(tmp_path, kafka_settings, server.dsn, topic_name) as feed:
        feed.create_topics()
        consumer = feed.consume()
        records = _records(0, 2_000)
        _produce(feed, records[:3_600])
        feed.wait_for_rows(1_000)
        server.kill()
        with pipeline.watched(consumer) as pulse:
            _produce(feed, records[3_600:])
            wait_until(lambda: "database" in str(consumer.reason()), RECOVERY_S, "the consumer to miss the database")
            read = consumer.metric("marketfeed_records_consumed_total")
            assert read < len(records) / 2, "the consumer reads into memory what it cannot store"
            server.start()
            wait_until(feed.consumed, RECOVERY_S, "the consumer to catch up")
        assert pulse.not_live == []
        assert consumer.reason() is None
        assert consumer.stats()["error_count"] > 0
        assert consumer.terminate() == 0
        _assert_stored_once(feed, records)


def test_a_drain_ends_in_time_without_the_database(
    tmp_path: Path, kafka_settings: KafkaSettings, own_postgres: Callable[[], EmbeddedPostgres], topic_name: str
) -> None:
    """With the database away, SIGTERM still ends the consumer with exit code 0; a successor stores what was left."""
    server = own_postgres()
    with Pipeline(tmp_path, kafka_settings, server.dsn, topic_name) as feed:
        feed.create_topics()
        records = _records(0, 20)
        consumer = feed.consume(drain_timeout_s=0.5)
        wait_until(lambda: consumer.reason() is None, RECOVERY_S, "the consumer to be ready")
        server.kill()
        _produce(feed, records)
        wait_until(lambda: "database" in str(consumer.reason()), RECOVERY_S, "the consumer to miss the database")
        assert consumer.terminate() == 0
        server.start()
        feed.drain(feed.consume())
        _assert_stored_once(feed, records)


def test_topics_may_come_later(
    tmp_path: Path, kafka_settings: KafkaSettings, database: Secret, topic_name: str
) -> None:
    """Without its topics the consumer lives, says that it is starting and what it waits for, and begins with them."""
    with Pipeline(tmp_path, kafka_settings, database, topic_name) as feed:
        consumer = feed.consume()
        wait_until(lambda: "to be created" in str(consumer.reason()), RECOVERY_S, "the consumer to miss its topics")
        assert consumer.get("/health")[1]["status"] == "starting"
        feed.create_topics()
        records = _records(0, 5)
        _produce(feed, records)
        feed.drain(consumer)
        _assert_stored_once(feed, records)


def test_a_drain_stores_what_waits_for_more(feed: Pipeline) -> None:
    """Rows that wait for their batch to fill are stored and committed by SIGTERM, not left to be read again."""
    records = _records(0, 5)
    _produce(feed, records)
    consumer = feed.consume(batch_max_delay_ms=600_000)
    read = "marketfeed_records_consumed_total"
    wait_until(lambda: consumer.metric(read) == len(records), RECOVERY_S, "all records to be read")
    assert feed.rows() == 0
    assert consumer.terminate() == 0
    assert feed.consumed()
    _assert_stored_once(feed, records)


def test_verify_finds_a_planted_gap(feed: Pipeline) -> None:
    """Three ids that were never sent, and one that vanished from the table: both are named, and the exit code is 1."""
    records = [record for record in _records(0, 50) if not _is_hidden(record)]
    _produce(feed, records)
    feed.drain(feed.consume())
    proof = feed.verify()
    assert proof.exit_code == 1
    assert proof.gaps == {"S3USDT@trade": [20, 21, 22]}
    assert proof.said["disagreements"] == []
    which = "symbol = 'S5USDT' AND channel = 'aggTrade' AND trade_id = 7"
    assert query(feed.dsn, f"DELETE FROM trades WHERE {which} RETURNING trade_id") == [(7,)]
    proof = feed.verify()
    assert (proof.exit_code, proof.gaps) == (1, {"S3USDT@trade": [20, 21, 22], "S5USDT@aggTrade": [7]})
    (said,) = proof.said["disagreements"]
    assert said.startswith("S5USDT@aggTrade (binance), minute 2026-01-01T00:00:00+00:00: the ledger says 50 rows")


def _is_hidden(record: Record) -> bool:
    return (
        not isinstance(record, BookTicker)
        and (record.symbol, record.channel) == ("S3USDT", "trade")
        and (20 <= record.trade_id <= 22)
    )


def test_repairs_fill_a_gap(feed: Pipeline) -> None:
    """What comes by backfill, even long after its neighbours, closes the gap and is counted as repaired."""
    records = _records(0, 50)
    _produce(feed, [record for record in records if not _is_hidden(record)])
    _produce(feed, [msgspec.structs.replace(record, source="backfill") for record in records if _is_hidden(record)])
    feed.drain(feed.consume())
    proof = feed.verify()
    assert (proof.exit_code, proof.said["totals"]["repaired"], proof.said["totals"]["missing"]) == (0, 3, 0)
