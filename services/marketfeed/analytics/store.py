"""Windows into the database: written as the stream brings them, compared with the ledger, judged, marked complete.

The stream is quick, the database is right: `write_trades` and `write_spreads` take what Spark has summed up so far,
`reconcile` finds the windows that count other records than the ledger and computes them anew from the stored ones.
Statements are in `sql/metrics`; what a window is made of is Spark's (`trade_metrics`, `spread_metrics`).

One table's windows of one venue are written by one transaction at a time (`sql/metrics/lock.sql`), whoever writes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from psycopg2 import errors
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class, whatever its case

from marketfeed import ledger, sql
from marketfeed.analytics.thresholds import Thresholds
from marketfeed.analytics.windows import SpreadWindow, TradeWindow
from marketfeed.database import Pool
from marketfeed.errors import Unavailable
from marketfeed.events import Channel, Grade
from marketfeed.settings import AnalyticsSettings

SETTLED = timedelta(seconds=60)
"""How long ago a minute ended that is compared with the ledger: until then the stream may still bring records."""

OVERLAP = timedelta(minutes=5)
"""Minutes that ended within this are compared again at every pass.

The consumer marks what it stores more than two minutes after a minute began; a transaction may be open for the rest.
"""

_HORIZON = timedelta(hours=3)  # of one stream and one pass
_FOREVER = timedelta(days=36_500)
_MINUTE_MS = 60_000
_STATEMENT_TIMEOUT_S = 120.0
_CONNECTIONS = 4  # two queries, the reconciliation, and one to spare


@dataclass(frozen=True, slots=True)
class Limits:
    """What one pass of the reconciliation does at most: marks taken, groups computed anew, stored records read."""

    marks: int = 2_000
    groups: int = 500
    records: int = 2_000_000


@dataclass(frozen=True, slots=True)
class Written:
    """What one batch changed: windows, and alerts by kind that were raised and not withdrawn before."""

    windows: int
    alerts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Corrected:
    """What one pass changed: windows by table, alerts by kind as above; and what is left: groups that still differ."""

    windows: Mapping[str, int]
    alerts: Mapping[str, int]
    left: int = 0


@dataclass(frozen=True, slots=True)
class Analytic:
    """One table of windows, and the records that it counts."""

    table: str
    count: str
    channel: str
    window_ms: int

    @property
    def group_ms(self) -> int:
        """Return the least time that both whole windows and whole minutes of the ledger fill."""
        return max(self.window_ms, _MINUTE_MS)

    def statement(self, name: str) -> str:
        """Return one file of `sql/metrics`, with this table's words in it."""
        other = f"channel <> '{self.channel}'" if self.table == "trade_metrics" else "false"
        text = sql.read(f"metrics/{name}.sql")
        return text.replace("{metrics}", self.table).replace("{count}", self.count).replace("{other_channel}", other)

    def values(self, exchange: str) -> dict[str, Any]:
        """Return the parameters that most statements take."""
        provable = self.table == "trade_metrics" and ledger.grade(exchange, self.channel) is Grade.PROVEN
        return {
            "exchange": exchange,
            "channel": self.channel,
            "length": timedelta(milliseconds=self.window_ms),
            "group": timedelta(milliseconds=self.group_ms),
            "unproven": False if provable else None,
            "overlap": OVERLAP,
        }


@dataclass
class _Pass:
    windows: Counter[str] = field(default_factory=Counter)
    alerts: Counter[str] = field(default_factory=Counter)
    left: int = 0


class MetricsStore:
    """The metrics' tables of one venue; its methods may be called from several threads at once.

    All of them raise Unavailable while the database cannot be reached, and connect again by themselves.
    """

    def __init__(
        self,
        dsn: str,
        *,
        exchange: str,
        trade_channel: str,
        trade_window_ms: int,
        spread_window_ms: int,
        limits: Limits | None = None,
    ) -> None:
        self._pool = Pool(dsn, "marketfeed-analytics", _CONNECTIONS, statement_timeout_s=_STATEMENT_TIMEOUT_S)
        self._exchange = exchange
        self._trades = Analytic("trade_metrics", "record_count", trade_channel, trade_window_ms)
        self._spreads = Analytic("spread_metrics", "quote_updates", str(Channel.BOOK_TICKER), spread_window_ms)
        self._limits = limits or Limits()

    @classmethod
    def of(cls, settings: AnalyticsSettings) -> Self:
        """Return the store of a job with these settings."""
        return cls(
            settings.dsn,
            exchange=settings.exchange,
            trade_channel=settings.trade_channel,
            trade_window_ms=settings.trade_window_ms,
            spread_window_ms=settings.spread_window_ms,
        )

    def write_trades(self, rows: Sequence[TradeWindow], batch_id: int, thresholds: Thresholds) -> Written:
        """Write a batch's windows, judge them and those after them, raise alerts: one transaction.

        The same batch again changes nothing. A window with a sum of None is computed by the reconciliation instead.
        """
        return self._write(self._trades, rows, batch_id, thresholds)

    def write_spreads(self, rows: Sequence[SpreadWindow], batch_id: int, thresholds: Thresholds) -> Written:
        """Do the same for windows of quotes."""
        return self._write(self._spreads, rows, batch_id, thresholds)

    def reconcile(self, thresholds: Thresholds, *, whole: bool = False) -> Corrected:
        """Compare windows with the ledger, compute anew those that differ, mark what is complete; at most one pass.

        Does nothing while another process is at it. `whole`: everything, up to the newest minute, however long it
        takes; for the end of a feed, when all that was received is stored.
        """
        found = _Pass()
        for analytic in (self._trades, self._spreads):
            left = self._pass(analytic, thresholds, found, whole=whole)
            while whole and left and left > (left := self._pass(analytic, thresholds, found, whole=True)):
                pass
            found.left += left
        return Corrected(dict(+found.windows), dict(+found.alerts), found.left)  # without zeros

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    @contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        with self._pool.connection() as connection:
            try:
                with connection, connection.cursor() as cursor:
                    yield cursor
            except errors.UndefinedTable:
                raise Unavailable("the database has no tables of the metrics: run `marketfeed migrate`") from None

    def _write(
        self,
        analytic: Analytic,
        rows: Sequence[TradeWindow] | Sequence[SpreadWindow],
        batch_id: int,
        thresholds: Thresholds,
    ) -> Written:
        if not rows:
            return Written(0, {})
        exact, lost = divided(rows)
        values = {**analytic.values(self._exchange), **_judged_by(thresholds), **_starts(rows, lost)}
        with self._transaction() as cursor:
            cursor.execute(analytic.statement("lock"), values)
            cursor.execute(sql.read("metrics/scratch.sql"))
            cursor.execute(analytic.statement("begin"), values)
            if exact:
                statement = analytic.statement(f"write_{analytic.table}")
                cursor.execute(statement, {**values, **_columns(exact), "batch_id": batch_id})
            windows = cursor.rowcount if exact else 0
            cursor.execute(analytic.statement("mark"), values)
            return Written(windows, _judge(cursor, analytic, values) if windows else {})

    def _pass(self, analytic: Analytic, thresholds: Thresholds, found: _Pass, *, whole: bool) -> int:
        """Do one pass over one table, add to `found` what it changed, and return how many groups are left."""
        values = {**analytic.values(self._exchange), **_judged_by(thresholds), **self._bounds(whole=whole)}
        with self._transaction() as cursor:
            cursor.execute(analytic.statement("try_reconciling"), values)
            if cursor.fetchone() != (True,):
                return 0
            cursor.execute(analytic.statement("lock"), values)
            if whole:
                values["settled"] = "infinity"
            else:
                cursor.execute("SELECT now() - %s", (SETTLED,))
                values["settled"] = _one(cursor)[0]
            for name in ("scratch", "streams", "take_marks", "compare", "differing"):
                cursor.execute(analytic.statement(name), values)
            differing, chosen = _one(cursor)
            if chosen:
                cursor.execute(analytic.statement(f"recompute_{analytic.table}"), values)
                found.windows[analytic.table] += cursor.rowcount
                found.alerts.update(_judge(cursor, analytic, values))
            if analytic is self._trades:
                cursor.execute(analytic.statement("complete"), values)
            for name in ("release_marks", "advance"):
                cursor.execute(analytic.statement(name), values)
        return int(differing - chosen)

    def _bounds(self, *, whole: bool) -> dict[str, Any]:
        return {
            "whole": whole,
            "horizon": _FOREVER if whole else _HORIZON,
            "most_marks": 1_000_000 if whole else self._limits.marks,
            "most_groups": self._limits.groups,
            "most_records": self._limits.records,
        }


Window = TradeWindow | SpreadWindow


def divided(rows: Sequence[Window]) -> tuple[list[Window], list[Window]]:
    """Return the windows that are exact, one for each key in the keys' order, and those that lack a sum."""
    exact: dict[tuple[Any, ...], Window] = {}
    lost = []
    for row in sorted(rows, key=_key_and_count):
        if None in row:
            lost.append(row)
        else:
            exact[_key(row)] = row  # the last one, which counts the most records
    return list(exact.values()), lost


def _key(row: Window) -> tuple[Any, ...]:
    return row.symbol, row.window_start, row.window_end, row.exchange


def _key_and_count(row: Window) -> tuple[Any, ...]:
    return *_key(row), row.record_count if isinstance(row, TradeWindow) else row.quote_updates


def _columns(rows: Sequence[Window]) -> dict[str, list[Any]]:
    return {name: list(column) for name, column in zip(rows[0]._fields, zip(*rows, strict=True), strict=True)}


def _starts(rows: Sequence[Window], lost: Sequence[Window]) -> dict[str, list[Any]]:
    return {
        "symbols": [row.symbol for row in rows],
        "starts": [row.window_start for row in rows],
        "lost_symbols": [row.symbol for row in lost],
        "lost_starts": [row.window_start for row in lost],
    }


def _judged_by(thresholds: Thresholds) -> dict[str, Any]:
    return {name: getattr(thresholds, name) for name in thresholds.__struct_fields__}


def _judge(cursor: Cursor, analytic: Analytic, values: Mapping[str, Any]) -> dict[str, int]:
    """Judge what was touched; return how many alerts of each kind are new."""
    cursor.execute(analytic.statement(f"judge_{analytic.table}"), values)
    cursor.execute(analytic.statement(f"alert_{analytic.table}"), values)
    return {kind: int(count) for kind, count in cursor.fetchall()}


def _one(cursor: Cursor) -> tuple[Any, ...]:
    row = cursor.fetchone()
    if row is None:
        raise AssertionError("an aggregate without a row")
    return row
