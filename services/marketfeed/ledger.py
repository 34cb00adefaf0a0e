"""The ledger's arithmetic: what a batch adds to it, and what it proves about each minute.

An entry counts the rows of one stream and one minute of event_time. Pure: no database, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import attrgetter

from marketfeed.errors import ConfigurationError
from marketfeed.events import Channel, Grade, Record
from marketfeed.exchanges import venue

MINUTE_US = 60_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

StreamKey = tuple[str, str, str]
"""Exchange, symbol and channel: one number space of ids."""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """Rows of one stream in one minute: how many are stored, how many of them by repair, and between which ids."""

    exchange: str
    symbol: str
    channel: str
    minute: int  # µs UTC at which the minute begins
    stored: int
    repaired: int
    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Minute:
    """What one minute of a stream amounts to; `expected` and `missing` are None where ids prove nothing."""

    exchange: str
    symbol: str
    channel: str
    minute: datetime  # UTC
    expected: int | None
    stored: int
    missing: int | None
    repaired: int
    grade: Grade


@cache
def grade(exchange: str, channel: str) -> Grade:
    """Return how strongly this channel's ids prove completeness; unknown for a venue that nobody knows here."""
    try:
        return venue(exchange).grade(Channel(channel))
    except (ConfigurationError, ValueError):
        return Grade.UNKNOWN


def ids(stream: StreamKey, records: Sequence[Record]) -> list[int]:
    """Return the venue's number for each of these records, all of one stream."""
    name = "update_id" if stream[2] == Channel.BOOK_TICKER else "trade_id"
    return list(map(attrgetter(name), records))


def entries(stream: StreamKey, records: Sequence[Record]) -> list[Entry]:
    """Return what these records, all of one stream and all new, add to the ledger: one entry for each minute."""
    minutes = {record.event_time // MINUTE_US for record in records}
    if len(minutes) == 1:  # as nearly always
        return [_entry(stream, minutes.pop(), records)]
    return [
        _entry(stream, minute, [record for record in records if record.event_time // MINUTE_US == minute])
        for minute in sorted(minutes)
    ]


def _entry(stream: StreamKey, minute: int, records: Sequence[Record]) -> Entry:
    numbers = ids(stream, records)
    repaired = [record.source for record in records].count("backfill")
    return Entry(*stream, minute * MINUTE_US, len(records), repaired, min(numbers), max(numbers))


def prove(rows: Sequence[Entry], strength: Grade) -> list[Minute]:
    """Return what the entries of one stream prove, minute by minute.

    A minute is expected to hold the ids after the last one seen before it, up to its own last; the first minute
    begins with the stream's least id. Where ids and times disagree about the order, an id may be missed in one minute
    and turn up in a later one: such an id counts where it is stored, so that `expected` is always `stored + missing`,
    no number is negative, and over all minutes `expected` adds up to last id - first id + 1.
    """
    ordered = sorted(rows, key=lambda row: row.minute)
    if strength is Grade.UNKNOWN:
        return [_minute_of(row, None, strength) for row in ordered]
    absent = missing(ordered)
    return [_minute_of(row, count, strength) for row, count in zip(ordered, absent, strict=True)]


def missing(ordered: Sequence[Entry], above: int | None = None) -> list[int]:
    """Return the ids missing in each minute: what is short so far, less what a later minute still brings.

    Entries are those of one stream, in the order of time; one may stand for several minutes that lie together.
    Ids up to `above` are not expected: they belong to what lies before. An entry that holds some is given a count
    lower by as many, which may be negative; the ones after it are not touched by that.
    """
    short_until: list[int] = []
    first = min((row.first_id for row in ordered), default=0)
    if above is not None:
        first = max(first, above + 1)
    highest, stored = first - 1, 0
    for row in ordered:
        highest = max(highest, row.last_id)
        stored += row.stored
        short_until.append(highest - first + 1 - stored)
    for index in range(len(short_until) - 2, -1, -1):
        short_until[index] = min(short_until[index], short_until[index + 1])
    return [now - before for before, now in zip([0, *short_until], short_until, strict=False)]


def _minute_of(row: Entry, missing: int | None, strength: Grade) -> Minute:
    return Minute(
        exchange=row.exchange,
        symbol=row.symbol,
        channel=row.channel,
        minute=EPOCH + timedelta(microseconds=row.minute),
        expected=None if missing is None else row.stored + missing,
        stored=row.stored,
        missing=missing,
        repaired=row.repaired,
        grade=strength,
    )
