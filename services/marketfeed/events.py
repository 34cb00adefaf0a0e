"""The normalised records and the words around them: stream, gap, grade.

Records are what travels through Kafka; `codec` turns them into bytes and back. No venue's wire format is known here.
Times are integer microseconds UTC. Prices and quantities are the venue's own digits as text, end to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

import msgspec

from marketfeed.errors import ConfigurationError

RECORD_VERSION = 1

Side = Literal["buy", "sell"]
"""The taker's side. A venue that names the maker's side is turned round by its module."""

Source = Literal["stream", "backfill"]

Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A venue's number, as a database's bigint can hold it. Checked where records are decoded."""

# The first coin was mined on 2009-01-03: a time outside these bounds is a mistake in its unit, not a market event.
EARLIEST_US, END_US = 1_230_940_800_000_000, 4_102_444_800_000_000

Microseconds = Annotated[int, msgspec.Meta(ge=EARLIEST_US, lt=END_US)]
"""Microseconds since 1970 UTC, from 2009 to before 2100. Checked where records are decoded."""


class Channel(StrEnum):
    """What a stream carries; the names are Binance's, and every other venue's feed is mapped onto them."""

    TRADE = "trade"
    AGG_TRADE = "aggTrade"
    BOOK_TICKER = "bookTicker"
    DEPTH = "depth"


class Grade(StrEnum):
    """How strongly a venue's ids allow a proof that nothing is missing."""

    PROVEN = "proven"  # ids are contiguous: every missing one is known by its number
    PROBABLE = "probable"  # ids or counts hint at gaps, without the venue's promise
    UNKNOWN = "unknown"  # nothing in the stream says what should have come


class Stream(NamedTuple):
    """One symbol on one channel; its text form is `SYMBOL@channel`, as in `BTCUSDT@trade`."""

    symbol: str
    channel: Channel

    def __str__(self) -> str:
        return f"{self.symbol}@{self.channel}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; raises ConfigurationError for anything else."""
        symbol, at, channel = text.partition("@")
        if not (symbol and at) or channel not in set(Channel):
            raise ConfigurationError(
                f"{text!r} is not a stream: write SYMBOL@channel, with one of {', '.join(Channel)}"
            )
        return cls(symbol, Channel(channel))


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of ids, both ends included, that the venue issued on one stream and we have not seen."""

    exchange: str
    stream: Stream
    first_id: int
    last_id: int

    @property
    def count(self) -> int:
        """How many ids are missing."""
        return self.last_id - self.first_id + 1


class Trade(msgspec.Struct, tag_field="channel", tag="trade", frozen=True, gc=False):
    """One print. `event_time` is when the venue matched it, `ingestion_time` when we received it, both in µs UTC."""

    channel: ClassVar[Channel] = Channel.TRADE

    exchange: str
    symbol: str
    trade_id: Id
    price: str
    quantity: str
    side: Side
    event_time: Microseconds
    ingestion_time: Microseconds
    source: Source = "stream"
    v: int = RECORD_VERSION


class AggTrade(msgspec.Struct, tag_field="channel", tag="aggTrade", frozen=True, gc=False):
    """The prints that one taker order made at one price. Its ids are a number space of their own.

    `first_trade_id` and `last_trade_id` are the prints it sums up, in the number space of `Trade.trade_id`.
    """

    channel: ClassVar[Channel] = Channel.AGG_TRADE

    exchange: str
    symbol: str
    trade_id: Id
    price: str
    quantity: str
    side: Side
    first_trade_id: Id
    last_trade_id: Id
    event_time: Microseconds
    ingestion_time: Microseconds
    source: Source = "stream"
    v: int = RECORD_VERSION


class BookTicker(msgspec.Struct, tag_field="channel", tag="bookTicker", frozen=True, gc=False):
    """The best bid and ask. Where the venue sends no event time, `event_time` is the time of receipt."""

    channel: ClassVar[Channel] = Channel.BOOK_TICKER

    exchange: str
    symbol: str
    update_id: Id
    bid_price: str
    bid_quantity: str
    ask_price: str
    ask_quantity: str
    event_time: Microseconds
    ingestion_time: Microseconds
    source: Source = "stream"
    v: int = RECORD_VERSION


Record = Trade | AggTrade | BookTicker
