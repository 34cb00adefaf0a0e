"""PostgreSQL and TimescaleDB: batches by COPY straight into the tables, and the ledger in the same transaction.

Nearly every batch is new, so it is copied as it is. When a unique key objects, or ids show that a book ticker may be
held already, the transaction is rolled back and the batch goes the careful way: into a temporary table, and from there
only what is new. A sink stays careful while it meets duplicates: in a replay, batches do not fail first.

Trades are the same when (symbol, event_time, trade_id, channel, exchange) are. Book tickers have no time of the
venue's, so two receipts of one update differ: they are the same when (exchange, symbol, update_id) are and not more
than `DUPLICATE_WINDOW` lies between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import pairwise

from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class, whatever its case
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from marketfeed import ledger, sql
from marketfeed.database import Pool
from marketfeed.errors import Unavailable
from marketfeed.events import Channel, Record
from marketfeed.ledger import MINUTE_US, Entry, StreamKey
from marketfeed.sinks import Stored
from marketfeed.sinks.copy_text import lines

DUPLICATE_WINDOW = timedelta(minutes=10)
"""How far apart two receipts of one book ticker update may lie and still be known as one."""

_WINDOW_US = DUPLICATE_WINDOW // timedelta(microseconds=1)
_DAY_US = 86_400_000_000
_COPY_BUFFER_BYTES = 262_144

Streams = Mapping[StreamKey, Sequence[Record]]


class _NotFresh(Exception):
    """Some row of the batch may be stored already."""


class PostgresSink:
    """One writer's sink; see `sinks.Sink`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._days: set[tuple[str, int]] = set()
        self._careful = False

    def store(self, records: Sequence[Record]) -> Stored:
        """Store the batch and its ledger in one transaction; storing it again changes nothing."""
        streams = by_stream(records)
        with self._pool.connection() as connection:
            try:
                self._make_days(connection, streams)
                added = self._added(connection, streams)
            except errors.CheckViolation:
                # No row breaks a check here but one whose partition was dropped after we saw it.
                self._days.clear()
                raise Unavailable("database: the partition of a day is gone and will be made again") from None
        return _stored(streams, added)

    def close(self) -> None:
        """Do nothing: connections belong to the pool, and between batches none is held."""

    def _added(self, connection: Connection, streams: Streams) -> list[Entry]:
        """Store what is new, the likely way first; return what the ledger was told."""
        if not self._careful:
            try:
                with connection, connection.cursor() as cursor:
                    return _store_fresh(cursor, streams)
            except (errors.UniqueViolation, _NotFresh):
                self._careful = True
        with connection, connection.cursor() as cursor:
            added = _store_new(cursor, streams)
        self._careful = sum(entry.stored for entry in added) < sum(map(len, streams.values()))
        return added

    def _make_days(self, connection: Connection, streams: Streams) -> None:
        """Let the database make ready for days that this sink has not written to yet, in a transaction of its own."""
        wanted = {
            (table(stream), record.event_time // _DAY_US) for stream, records in streams.items() for record in records
        } - self._days
        if not wanted:
            return
        with connection, connection.cursor() as cursor:
            for name, day in sorted(wanted):
                date = datetime.fromtimestamp(day * _DAY_US // 1_000_000, UTC).date()
                cursor.execute("SELECT marketfeed_ensure_day(%s, %s)", (name, date))
        self._days |= wanted


def by_stream(records: Sequence[Record]) -> dict[StreamKey, list[Record]]:
    """Return the records of each stream in their order; rows that lie together in an index are then copied together."""
    streams: dict[StreamKey, list[Record]] = {}
    for record in records:
        stream = (record.exchange, record.symbol, record.channel)
        if stream in streams:
            streams[stream].append(record)
        else:
            streams[stream] = [record]
    return streams


def table(stream: StreamKey) -> str:
    """Return the table that holds this stream."""
    return "book_ticker" if stream[2] == Channel.BOOK_TICKER else "trades"


def _store_fresh(cursor: Cursor, streams: Streams) -> list[Entry]:
    """Copy straight into the tables; raises _NotFresh or UniqueViolation when something may be stored already."""
    _check_book_tickers(cursor, {key: rows for key, rows in streams.items() if table(key) == "book_ticker"})
    _copy(cursor, streams, prefix="")
    added = sorted(entry for stream, records in streams.items() for entry in ledger.entries(stream, records))
    _upsert(cursor, added)
    return added


def _store_new(cursor: Cursor, streams: Streams) -> list[Entry]:
    """Store what the tables do not hold yet, by way of temporary tables."""
    cursor.execute(sql.read("incoming.sql"))
    _copy(cursor, streams, prefix="incoming_")
    added: list[Entry] = []
    for name in {table(stream) for stream in streams}:
        cursor.execute(sql.read(f"insert_new_{name}.sql"), _around(streams))
        added.extend(Entry(*row) for row in cursor.fetchall())
    added.sort()
    _upsert(cursor, added)
    return added


def _copy(cursor: Cursor, streams: Streams, *, prefix: str) -> None:
    texts: dict[str, list[str]] = {}
    for stream, records in streams.items():
        texts.setdefault(table(stream), []).append(lines(stream, records))
    for name, parts in texts.items():
        cursor.copy_expert(f"COPY {prefix}{name} FROM STDIN", StringIO("".join(parts)), _COPY_BUFFER_BYTES)


def _check_book_tickers(cursor: Cursor, streams: Streams) -> None:
    """Raise _NotFresh unless every update's id is above all that are stored around that time."""
    if not streams:
        return
    ids = {stream: ledger.ids(stream, records) for stream, records in streams.items()}
    if not all(before < after for numbers in ids.values() for before, after in pairwise(numbers)):
        raise _NotFresh
    names = {"exchange": [exchange for exchange, _, _ in streams], "symbol": [symbol for _, symbol, _ in streams]}
    cursor.execute(sql.read("newest_book_ticker.sql"), {**names, **_around(streams)})
    for exchange, symbol, newest in cursor.fetchall():
        if ids[exchange, symbol, Channel.BOOK_TICKER][0] <= newest:
            raise _NotFresh


def _around(streams: Streams) -> dict[str, timedelta | int]:
    """Return the window for duplicates, and the stretch of time (s since 1970) that it makes of this batch."""
    times = [record.event_time for records in streams.values() for record in records]
    return {
        "window": DUPLICATE_WINDOW,
        # From a full minute on, for the ledger's rows begin at one.
        "from_s": (min(times) - _WINDOW_US) // MINUTE_US * 60,
        "until_s": (max(times) + _WINDOW_US) // 1_000_000 + 1,
    }


def _upsert(cursor: Cursor, added: Sequence[Entry]) -> None:
    """Add to the ledger, and mark what came late.

    Entries come sorted, so that two writers that meet take their locks in one order.
    """
    if not added:
        return
    values = {
        "exchange": [entry.exchange for entry in added],
        "symbol": [entry.symbol for entry in added],
        "channel": [entry.channel for entry in added],
        "minute_s": [entry.minute // 1_000_000 for entry in added],
        "stored": [entry.stored for entry in added],
        "repaired": [entry.repaired for entry in added],
        "first_id": [entry.first_id for entry in added],
        "last_id": [entry.last_id for entry in added],
        "grade": [str(ledger.grade(entry.exchange, entry.channel)) for entry in added],
    }
    cursor.execute(sql.read("upsert_ledger.sql"), values)
    if (True,) in cursor.fetchall():  # the database's clock says so; live batches pay for no more than this
        cursor.execute(sql.read("mark_late.sql"), values)


def _stored(streams: Streams, added: Sequence[Entry]) -> Stored:
    """Count the rows by table: those in the ledger's entries are new, the rest were held already."""
    given, new = Counter[str](), Counter[str]()
    for stream, records in streams.items():
        given[table(stream)] += len(records)
    for entry in added:
        new[table((entry.exchange, entry.symbol, entry.channel))] += entry.stored
    return Stored(new=dict(new), duplicate=dict(given - new), streams=frozenset(streams))
