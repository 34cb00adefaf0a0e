"""The simulator's truth, and what came of it: in the topics, in the tables, and in the proof."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from helpers import wait_until
from marketfeed import codec
from marketfeed.events import AggTrade, BookTicker, Record
from marketfeed.settings import KafkaSettings
from pipeline import query

Rows = dict[str, dict[int, tuple[Any, ...]]]
"""By stream (`BTCUSDT@trade`) and id: the digits as text, then side, event time in µs and print ids where there are."""

_TRADES = """
SELECT symbol || '@' || channel, trade_id, price::text, quantity::text, side,
       (extract(epoch FROM event_time) * 1000000)::bigint, first_trade_id, last_trade_id
FROM trades
"""
_BOOK_TICKERS = """
SELECT symbol || '@bookTicker', update_id, bid_price::text, bid_quantity::text, ask_price::text, ask_quantity::text
FROM book_ticker
"""
_COUNTED = """
SELECT exchange, symbol, channel, minute, count(*), min(id), max(id) FROM (
    SELECT exchange, symbol, channel, date_trunc('minute', event_time) AS minute, trade_id AS id FROM trades
    UNION ALL
    SELECT exchange, symbol, 'bookTicker', date_trunc('minute', event_time), update_id FROM book_ticker
) AS stored GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
_LEDGER = """
SELECT exchange, symbol, channel, minute, stored, first_id, last_id FROM ledger ORDER BY 1, 2, 3, 4
"""


def issued(folder: Path) -> Rows:
    """Return what the venue issued, read from its truth files; a last line that is just being written is left out."""
    return {path.stem: dict(map(_issued, _lines(path))) for path in sorted(folder.glob("*.jsonl"))}


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().rpartition(b"\n")[0].splitlines()


def _issued(line: bytes) -> tuple[int, tuple[Any, ...]]:
    """Return a wire payload's id and its row; the buyer being the maker means that the taker sold."""
    data = json.loads(line)
    if "u" in data:
        return data["u"], (data["b"], data["B"], data["a"], data["A"])
    side, time_us = "sell" if data["m"] else "buy", data["T"] * 1000
    if data["e"] == "trade":
        return data["t"], (data["p"], data["q"], side, time_us, None, None)
    return data["a"], (data["p"], data["q"], side, time_us, data["f"], data["l"])


def stored(dsn: str) -> Rows:
    """Return what the tables hold; fails when an id is there twice."""
    return _unique((row[0], row[1], row[2:]) for table in (_TRADES, _BOOK_TICKERS) for row in query(dsn, table))


def published(kafka: KafkaSettings, topics: Sequence[str]) -> Rows:
    """Return the records of these topics; fails when an id is there twice."""
    return as_rows(codec.decode(message.value() or b"") for message in messages(kafka, topics))


def as_rows(records: Iterable[Record]) -> Rows:
    """Return records as rows; fails when an id is there twice."""
    return _unique(map(_record, records))


def _record(record: Record) -> tuple[str, int, tuple[Any, ...]]:
    stream = f"{record.symbol}@{record.channel}"
    if isinstance(record, BookTicker):
        digits = (record.bid_price, record.bid_quantity, record.ask_price, record.ask_quantity)
        return stream, record.update_id, digits
    sums = (record.first_trade_id, record.last_trade_id) if isinstance(record, AggTrade) else (None, None)
    return stream, record.trade_id, (record.price, record.quantity, record.side, record.event_time, *sums)


def _unique(rows: Iterable[tuple[str, int, tuple[Any, ...]]]) -> Rows:
    unique: Rows = {}
    for stream, number, row in rows:
        assert number not in unique.setdefault(stream, {}), f"{stream} has {number} twice"
        unique[stream][number] = row
    return unique


def messages(kafka: KafkaSettings, topics: Sequence[str]) -> list[Message]:
    """Return every message of these topics, in the order of each partition."""
    found: list[Message] = []
    config = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": "reader", "enable.auto.commit": False}
    with closing(Consumer(config)) as reader:
        known = reader.list_topics(timeout=10).topics
        parts = [TopicPartition(name, number, OFFSET_BEGINNING) for name in topics for number in known[name].partitions]
        left = _held(reader, parts)
        reader.assign(parts)

        def all_read() -> bool:
            found.extend(reader.consume(10_000, 0.1))
            return len(found) >= left

        wait_until(all_read, 30, f"{left} messages of {', '.join(topics)}")
    assert all(message.error() is None for message in found)
    return found


def _held(reader: Consumer, parts: Sequence[TopicPartition]) -> int:
    """Return how many messages these partitions hold; one that was just made may have no leader for a moment."""
    bounds: list[tuple[int, int]] = []

    def answered() -> bool:
        bounds.clear()
        try:
            bounds.extend(reader.get_watermark_offsets(part, timeout=10) for part in parts)
        except KafkaException as failure:
            if failure.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            return False
        return True

    wait_until(answered, 30, "the partitions' leaders")
    return sum(end - first for first, end in bounds)


def assert_true(rows: Rows, truth: Rows) -> None:
    """Fail unless every row was issued by the venue, digit by digit."""
    for stream, numbered in rows.items():
        issued_rows = truth[stream]
        wrong = {number: row for number, row in numbered.items() if issued_rows.get(number) != row}
        assert not wrong, f"{stream}: {_some(wrong)} were issued otherwise or not at all"


def assert_equal(rows: Rows, truth: Rows) -> None:
    """Fail unless the rows are what the venue issued: all of it, and nothing else."""
    assert_true(rows, truth)
    absent = missing(rows, truth)
    assert not absent, "; ".join(f"{stream} lacks {_some(ids)}" for stream, ids in absent.items())


def missing(rows: Rows, truth: Rows) -> dict[str, list[int]]:
    """Return, by stream, the ids that were issued and are not among the rows."""
    found = {stream: sorted(truth[stream].keys() - rows.get(stream, {}).keys()) for stream in truth}
    return {stream: ids for stream, ids in found.items() if ids}


def provable(ids: dict[str, list[int]]) -> dict[str, list[int]]:
    """Return only the streams whose ids are contiguous: in the others no gap can be known."""
    return {stream: numbers for stream, numbers in ids.items() if not stream.endswith("@bookTicker")}


def assert_beginning(rows: Rows, truth: Rows) -> None:
    """Fail unless the rows of each stream are its first ones, without a hole."""
    for stream, issued_rows in truth.items():
        count = len(rows.get(stream, {}))
        assert rows.get(stream, {}).keys() == set(sorted(issued_rows)[:count]), f"{stream} has a hole"


def assert_ledger_agrees(dsn: str) -> None:
    """Fail unless the ledger counts just the rows that the tables hold, minute by minute."""
    assert query(dsn, _LEDGER) == query(dsn, _COUNTED)


def _some(ids: Iterable[int]) -> str:
    first, *rest = sorted(ids)
    return f"{first} and {len(rest)} more ids" if rest else str(first)
