"""Records for tests, and the Kafka record that carries one."""

from __future__ import annotations

from dataclasses import dataclass

from marketfeed import codec
from marketfeed.events import AggTrade, BookTicker, Record, Source, Trade
from marketfeed.quarantine import Headers

START_US = 1_767_225_600_000_000
"""2026-01-01 00:00 UTC."""


@dataclass(frozen=True)
class SourceRecord:
    """What the Kafka client hands out for one record."""

    sent: bytes | None
    at: int = 0
    sent_key: bytes | None = b"BTCUSDT"
    sent_headers: Headers | None = None

    def topic(self) -> str:
        return "trades"

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_767_225_600_123

    def key(self) -> bytes | None:
        return self.sent_key

    def value(self) -> bytes | None:
        return self.sent

    def headers(self) -> Headers | None:
        return self.sent_headers


def encoded(record: Record) -> tuple[str, bytes]:
    """Return what a publisher takes of a record: its stream and its bytes."""
    return codec.stream_of(record), codec.encode(record)


def trade(number: int, symbol: str = "BTCUSDT", after_us: int = 0, source: Source = "stream") -> Trade:
    """Return the print with this number; it was matched `after_us` into 2026."""
    return Trade(
        "binance", symbol, number, "39432.48000000", "0.00100", "buy", START_US + after_us, START_US + 7, source
    )


def agg_trade(number: int, symbol: str = "BTCUSDT", after_us: int = 0, source: Source = "stream") -> AggTrade:
    """Return the aggregate with this number, which sums two prints up."""
    return AggTrade(
        exchange="binance",
        symbol=symbol,
        trade_id=number,
        price="39432.4",
        quantity="1",
        side="sell",
        first_trade_id=2 * number,
        last_trade_id=2 * number + 1,
        event_time=START_US + after_us,
        ingestion_time=START_US + 7,
        source=source,
    )


def book_ticker(number: int, symbol: str = "BTCUSDT", after_us: int = 0) -> BookTicker:
    """Return the update with this number, received `after_us` into 2026."""
    received = START_US + after_us
    return BookTicker("binance", symbol, number, "39432.40", "1.000", "39432.50", "0.5", received, received)
