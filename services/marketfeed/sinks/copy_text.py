r"""Records as the text that PostgreSQL's COPY reads: one line a row, columns divided by tabs, `\N` for null.

Source: PostgreSQL documentation, COPY, "Text Format". Column order is that of `sql/migrations/0001_tables.sql`.
Only exchange and symbol are free text, and are escaped; every other field was checked where the record was decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import cast

from marketfeed.events import AggTrade, BookTicker, Channel, Record, Trade
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


def lines(stream: tuple[str, str, str], records: Sequence[Record]) -> str:
    """Return the rows of records that all belong to one stream (exchange, symbol, channel).

    This is what a consumer spends most of its own time on: each row is one format string, without a call per column.
    """
    exchange, symbol, channel = escape(stream[0]), escape(stream[1]), stream[2]
    if channel == Channel.BOOK_TICKER:
        return _book_tickers(f"{exchange}\t{symbol}", cast("Sequence[BookTicker]", records))
    prefix = f"{exchange}\t{symbol}\t{channel}"
    if channel == Channel.AGG_TRADE:
        return _aggregate_trades(prefix, cast("Sequence[AggTrade]", records))
    return _trades(prefix, cast("Sequence[Trade]", records))


def _trades(prefix: str, records: Sequence[Trade]) -> str:
    return "".join(
        [
            f"{prefix}\t{row.trade_id}\t{row.price}\t{row.quantity}\t{row.side}\t\\N\t\\N"
            f"\t{_second(row.event_time // 1_000_000)}.{row.event_time % 1_000_000:06d}+00"
            f"\t{_second(row.ingestion_time // 1_000_000)}.{row.ingestion_time % 1_000_000:06d}+00\t{row.source}\n"
            for row in records
        ]
    )


def _aggregate_trades(prefix: str, records: Sequence[AggTrade]) -> str:
    return "".join(
        [
            f"{prefix}\t{row.trade_id}\t{row.price}\t{row.quantity}\t{row.side}\t{row.first_trade_id}\t{row.last_trade_id}"
            f"\t{_second(row.event_time // 1_000_000)}.{row.event_time % 1_000_000:06d}+00"
            f"\t{_second(row.ingestion_time // 1_000_000)}.{row.ingestion_time % 1_000_000:06d}+00\t{row.source}\n"
            for row in records
        ]
    )


def _book_tickers(prefix: str, records: Sequence[BookTicker]) -> str:
    return "".join(
        [
            f"{prefix}\t{row.update_id}\t{row.bid_price}\t{row.bid_quantity}\t{row.ask_price}\t{row.ask_quantity}"
            f"\t{_second(row.event_time // 1_000_000)}.{row.event_time % 1_000_000:06d}+00"
            f"\t{_second(row.ingestion_time // 1_000_000)}.{row.ingestion_time % 1_000_000:06d}+00\t{row.source}\n"
            for row in records
        ]
    )
