r"""Records as the text that PostgreSQL's COPY reads: one line a row, columns divided by tabs, `\N` for null.

Source: PostgreSQL documentation, COPY, "Text Format". Column order is that of `sql/migrations/0001_tables.sql`.
Only exchange and symbol are free text, and are escaped; every other field was checked where the record was decoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from marketfeed.events import AggTrade, BookTicker, Record, Trade
from marketfeed.sinks import Refused

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\v": "\\v"})


@lru_cache(maxsize=8192)
def escape(text: str) -> str:
    """Return free text as COPY reads it back unchanged; raises Refused for what the database's text cannot hold."""
    if "\0" in text:
        raise Refused("a name with a NUL character cannot be stored")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused("a name that is no valid Unicode cannot be stored") from None
    return text.translate(_ESCAPES)


@lru_cache(maxsize=8192)
def _second(seconds: int) -> str:
    """Return the date and the time of day; neighbouring records share it, so it is rarely rendered anew."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def timestamp(us: int) -> str:
    """Return microseconds since 1970 UTC as a timestamptz reads them, exactly."""
    return f"{_second(us // 1_000_000)}.{us % 1_000_000:06d}+00"


def lines(stream: tuple[str, str, str], records: Iterable[Record]) -> str:
    """Return the rows of records that all belong to one stream (exchange, symbol, channel)."""
    exchange, symbol, channel = stream
    named = f"{escape(exchange)}\t{escape(symbol)}"
    traded = f"{named}\t{channel}"
    return "".join([_book_ticker(named, r) if isinstance(r, BookTicker) else _trade(traded, r) for r in records])


def _trade(prefix: str, record: Trade | AggTrade) -> str:
    prints = f"{record.first_trade_id}\t{record.last_trade_id}" if isinstance(record, AggTrade) else "\\N\t\\N"
    return (
        f"{prefix}\t{record.trade_id}\t{record.price}\t{record.quantity}\t{record.side}\t{prints}"
        f"\t{timestamp(record.event_time)}\t{timestamp(record.ingestion_time)}\t{record.source}\n"
    )


def _book_ticker(prefix: str, record: BookTicker) -> str:
    return (
        f"{prefix}\t{record.update_id}\t{record.bid_price}\t{record.bid_quantity}\t{record.ask_price}"
        f"\t{record.ask_quantity}\t{timestamp(record.event_time)}\t{timestamp(record.ingestion_time)}\t{record.source}\n"
    )
