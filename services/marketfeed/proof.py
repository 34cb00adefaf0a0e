"""A proof: what of each stream is stored and missing, from rows that were counted. Pure values and arithmetic.

What does not live here: asking the database (`verify`), and the minutes' arithmetic (`ledger`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import msgspec

from marketfeed.events import Grade
from marketfeed.ledger import EPOCH, MINUTE_US, Entry, Minute, StreamKey, grade, missing, prove

WINDOW_S = 3600
"""What a running count looks at: so much event time, in whole minutes."""

_SETTLED_US = 30_000_000  # by then what was under way is stored: batches, two shards that carry one stream, a repair
_DISORDER_US = 2 * MINUTE_US  # ids and times may contradict each other about the order within this


@dataclass(frozen=True, slots=True)
class Window:
    """What is looked at: times from `since` up to before `until`, and of which streams; None looks at all."""

    since: datetime | None = None
    until: datetime | None = None
    symbols: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """Two stored trades that are neighbours by id and whose ids are not: equal, or with others between them."""

    exchange: str
    symbol: str
    channel: str
    id: int
    time: datetime
    next_id: int
    next_time: datetime


@dataclass(frozen=True, slots=True)
class GapFound:
    """Ids that the venue issued and that are not stored, both ends included, and the stored times around them."""

    exchange: str
    symbol: str
    channel: str
    grade: Grade
    first_id: int
    last_id: int
    count: int
    after: datetime
    before: datetime


@dataclass(frozen=True, slots=True)
class StreamProof:
    """A stream's minutes, added up; `expected` and `missing` are None where ids prove nothing."""

    exchange: str
    symbol: str
    channel: str
    grade: Grade
    minutes: int
    expected: int | None
    stored: int
    missing: int | None
    repaired: int
    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Totals:
    """All streams, added up; `unprovable` counts the rows of streams whose ids prove nothing."""

    streams: int
    expected: int
    stored: int
    missing: int
    repaired: int
    unprovable: int


@dataclass(frozen=True, slots=True)
class MetricsProof:
    """A table of metrics, each window computed anew from the stored records.

    `windows` were looked at, `equal` ones are the same to the last digit, flags included, `complete` ones are marked
    so, `waiting` ones have late records and are about to be corrected; `different` says of each other one what differs.
    """

    table: str
    windows: int
    equal: int
    complete: int
    different: tuple[str, ...] = ()
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether everything that can be proven is there, and all that says so.

    `complete`: something is stored, no stream with proven ids has a gap, the ledger agrees with the tables, and so do
    the metrics.
    """

    complete: bool
    totals: Totals
    streams: tuple[StreamProof, ...]
    minutes: tuple[Minute, ...]
    gaps: tuple[GapFound, ...]
    disagreements: tuple[str, ...]
    metrics: tuple[MetricsProof, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the proof as JSON values; times are ISO 8601 in UTC."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return values

    @classmethod
    def from_json(cls, values: Any) -> Proof:
        """Return the proof that `to_json` wrote; raises msgspec.ValidationError for anything else."""
        return msgspec.convert(values, cls)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The minutes that a running count judges, from `since` up to before `until`; all µs UTC at full minutes.

    Beyond `until` minutes are still being filled: they are read because they may bring ids that an earlier one is
    short of. What lies before `since` says where the stretch's ids begin: minutes from `margin` on hold those that
    came late, minutes from `read_from` on those that came early.
    """

    read_from: int
    margin: int
    since: int
    until: int

    @classmethod
    def settled(cls, now_us: int) -> Stretch:
        """Return the last hour of minutes that were over half a minute ago."""
        until = (now_us - _SETTLED_US) // MINUTE_US * MINUTE_US
        since = until - WINDOW_S * 1_000_000
        return cls(since - 2 * _DISORDER_US, since - _DISORDER_US, since, until)


@dataclass(frozen=True, slots=True)
class Tally:
    """Ids of a stretch, added up over the streams whose ids are proof; the others are only counted.

    `expected` is what is stored and what is missing; 0 says that there was nothing to prove.
    """

    missing: int
    expected: int
    stored: int
    unprovable_streams: int


def tally(parts: Iterable[Entry], stretch: Stretch) -> Tally:
    """Count what the ledger says is missing in a stretch.

    parts: the ledger's entries from `stretch.read_from` on; entries of one stream that lie on the same side of each of
    the stretch's times may be added up into one, which bears the time of its first minute.

    No false gap shows at either end: what is under way is not judged yet, and order is looked for on both sides of the
    beginning. A gap counts for as long as a print from before it lies in the stretch or close to its beginning.
    """
    absent = stored = unprovable = 0
    for stream, group in groupby(sorted(parts), key=_stream):
        rows = list(group)
        judged = [stretch.since <= row.minute < stretch.until for row in rows]
        if grade(stream[0], stream[2]) is Grade.PROVEN:
            absent += _absent(rows, judged, stretch.margin)
            stored += sum(row.stored for row, counts in zip(rows, judged, strict=True) if counts)
        else:
            unprovable += any(judged)
    return Tally(absent, absent + stored, stored, unprovable)


def _absent(rows: Sequence[Entry], judged: Sequence[bool], margin: int) -> int:
    """Return the ids missing in the judged entries of one stream; of those before `margin` only the last id counts."""
    before = [row.last_id for row in rows if row.minute < margin]
    absent = missing(rows[len(before) :], max(before, default=None))
    return sum(count for count, counts in zip(absent, judged[len(before) :], strict=True) if counts)


def assemble(
    held: Sequence[Entry], ledger: Sequence[Entry], breaks: Sequence[Break], metrics: Sequence[MetricsProof] = ()
) -> Proof:
    """Prove from what the tables hold, what the ledger says, where ids are not contiguous, and what metrics are worth.

    A table of metrics without any window is left out: no job fills it.
    """
    minutes: list[Minute] = []
    streams: list[StreamProof] = []
    for stream, group in groupby(sorted(held), key=_stream):
        rows = list(group)
        proven = prove(rows, grade(stream[0], stream[2]))
        minutes += proven
        streams.append(_add_up(rows, proven))
    gaps = tuple(gap for item in breaks if (gap := _gap(item)) is not None)
    disagreements = (*_disagreements(held, ledger), *_repeated(breaks))
    return Proof(
        complete=bool(held)
        and not disagreements
        and all(gap.grade is not Grade.PROVEN for gap in gaps)
        and not any(table.different for table in metrics),
        totals=_totals(streams),
        streams=tuple(streams),
        minutes=tuple(minutes),
        gaps=gaps,
        disagreements=disagreements,
        metrics=tuple(table for table in metrics if table.windows),
    )


def _stream(entry: Entry) -> StreamKey:
    return entry.exchange, entry.symbol, entry.channel


def _add_up(rows: Sequence[Entry], proven: Sequence[Minute]) -> StreamProof:
    first = proven[0]
    provable = first.grade is not Grade.UNKNOWN
    return StreamProof(
        exchange=first.exchange,
        symbol=first.symbol,
        channel=first.channel,
        grade=first.grade,
        minutes=len(proven),
        expected=sum(minute.expected or 0 for minute in proven) if provable else None,
        stored=sum(minute.stored for minute in proven),
        missing=sum(minute.missing or 0 for minute in proven) if provable else None,
        repaired=sum(minute.repaired for minute in proven),
        first_id=min(row.first_id for row in rows),
        last_id=max(row.last_id for row in rows),
    )


def _totals(streams: Sequence[StreamProof]) -> Totals:
    return Totals(
        streams=len(streams),
        expected=sum(stream.expected or 0 for stream in streams),
        stored=sum(stream.stored for stream in streams),
        missing=sum(stream.missing or 0 for stream in streams),
        repaired=sum(stream.repaired for stream in streams),
        unprovable=sum(stream.stored for stream in streams if stream.grade is Grade.UNKNOWN),
    )


def _gap(item: Break) -> GapFound | None:
    strength = grade(item.exchange, item.channel)
    count = item.next_id - item.id - 1
    if count <= 0 or strength is Grade.UNKNOWN:
        return None
    return GapFound(
        exchange=item.exchange,
        symbol=item.symbol,
        channel=item.channel,
        grade=strength,
        first_id=item.id + 1,
        last_id=item.next_id - 1,
        count=count,
        after=item.time,
        before=item.next_time,
    )


def _repeated(breaks: Iterable[Break]) -> list[str]:
    """Name the trades that are stored under two times: the venue said two things of one id."""
    return [
        f"{item.symbol}@{item.channel} ({item.exchange}): id {item.id} is stored twice, at {item.time.isoformat()} "
        f"and at {item.next_time.isoformat()}"
        for item in breaks
        if item.id == item.next_id
    ]


def _disagreements(held: Iterable[Entry], ledger: Iterable[Entry]) -> list[str]:
    """Name the minutes of which the ledger and the tables say different things."""
    counted, noted = {_minute(entry): entry for entry in held}, {_minute(entry): entry for entry in ledger}
    return [
        f"{key[1]}@{key[2]} ({key[0]}), minute {_time(key[3])}: the ledger says {_said(noted.get(key))}, "
        f"the table holds {_said(counted.get(key))}"
        for key in sorted(counted.keys() | noted.keys())
        if counted.get(key) != noted.get(key)
    ]


def _minute(entry: Entry) -> tuple[str, str, str, int]:
    return entry.exchange, entry.symbol, entry.channel, entry.minute


def _said(entry: Entry | None) -> str:
    if entry is None:
        return "nothing"
    return f"{entry.stored} rows ({entry.repaired} repaired), ids {entry.first_id} to {entry.last_id}"


def _time(us: int) -> str:
    return datetime.fromtimestamp(us // 1_000_000, EPOCH.tzinfo).isoformat()
