"""Windows for tests of the metrics' store: what a stream would make of records, summed up in plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg2

from analytics_records import spread_window, trade_window
from marketfeed.analytics.store import Limits, MetricsStore
from marketfeed.analytics.windows import SpreadWindow, TradeWindow
from marketfeed.database import Pool
from marketfeed.events import BookTicker, Channel, Record, Trade
from marketfeed.settings import Secret
from marketfeed.sinks.postgres import PostgresSink
from records import book_ticker, trade

MINUTE_US = 60_000_000


def print_at(number: int, second: float, price: str = "100", quantity: str = "1", symbol: str = "BTCUSDT") -> Trade:
    """Return the print with this number, matched so many seconds into 2026."""
    record = trade(number, symbol, round(second * 1_000_000))
    return msgspec.structs.replace(record, price=price, quantity=quantity)


def quote_at(number: int, second: float, bid: str = "100", ask: str = "101", symbol: str = "BTCUSDT") -> BookTicker:
    """Return the quote with this update id, received so many seconds into 2026."""
    record = book_ticker(number, symbol, round(second * 1_000_000))
    return msgspec.structs.replace(record, bid_price=bid, ask_price=ask)


def minutes(count: int, volume: str = "1", symbol: str = "BTCUSDT", first: int = 1, start: int = 0) -> list[Trade]:
    """Return two prints in each of so many minutes, their ids contiguous."""
    return [
        print_at(first + number, (start + number // 2) * 60 + number % 2 * 30, str(100 + number % 3), volume, symbol)
        for number in range(2 * count)
    ]


def trade_windows(records: Iterable[Trade], window_ms: int = 60_000) -> list[TradeWindow]:
    """Sum up prints as the stream does."""
    groups: dict[tuple[str, int], list[Trade]] = {}
    for record in records:
        groups.setdefault((record.symbol, record.event_time // (window_ms * 1000)), []).append(record)
    return [trade_window(group, Channel.TRADE, window_ms) for group in groups.values()]


def spread_windows(records: Iterable[BookTicker], window_ms: int = 30_000) -> list[SpreadWindow]:
    """Sum up quotes as the stream does."""
    groups: dict[tuple[str, int], list[BookTicker]] = {}
    for record in records:
        groups.setdefault((record.symbol, record.event_time // (window_ms * 1000)), []).append(record)
    return [spread_window(group, window_ms) for group in groups.values()]


@dataclass(frozen=True)
class Metrics:
    """A database with a sink that stores records and a store of metrics."""

    dsn: Secret
    sink: PostgresSink
    store: MetricsStore

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own."""
        with closing(psycopg2.connect(self.dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def keep(self, records: Sequence[Record]) -> None:
        """Store records as the consumer does."""
        self.sink.store(records)

    def column(self, name: str, table: str = "trade_metrics", symbol: str = "BTCUSDT") -> list[Any]:
        """Return one column of a symbol's windows, in the order of time."""
        return [
            row[0]
            for row in self.query(f"SELECT {name} FROM {table} WHERE symbol = %s ORDER BY window_start", [symbol])
        ]

    def everything(self) -> list[list[tuple[Any, ...]]]:
        """Return all rows of all tables of metrics."""
        tables = ("trade_metrics", "spread_metrics", "alerts")
        return [self.query(f"SELECT * FROM {table} ORDER BY symbol, window_start") for table in tables]


def metrics_store(
    dsn: str, trade_window_ms: int = 60_000, spread_window_ms: int = 30_000, limits: Limits | None = None
) -> MetricsStore:
    """Return a store of Binance's prints and quotes."""
    return MetricsStore(
        dsn,
        exchange="binance",
        trade_channel="trade",
        trade_window_ms=trade_window_ms,
        spread_window_ms=spread_window_ms,
        limits=limits,
    )


def sink_of(pool: Pool) -> PostgresSink:
    """Return a sink over the pool."""
    return PostgresSink(pool)
