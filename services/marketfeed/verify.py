"""`marketfeed verify`: read the tables back and prove that nothing is missing, or list what is.

The tables are counted row by row and compared with the ledger, and every window of metrics is computed anew from them,
in one snapshot. What follows from the counts is decided in `proof`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class, whatever its case

from marketfeed import sql
from marketfeed.database import connect, dsn_from, translated
from marketfeed.errors import ConfigurationError, MarketfeedError
from marketfeed.events import Channel, Grade
from marketfeed.ledger import Entry, Minute
from marketfeed.proof import Break, GapFound, MetricsProof, Proof, StreamProof, Window, assemble

_SHOWN = 20  # gaps and disagreements in the table for people; JSON has all of them


_METRICS = ("trade_metrics", "spread_metrics")


def prove(dsn: str, window: Window | None = None, *, whole_metrics: bool = False) -> Proof:
    """Read the tables and the ledger back and return what they prove.

    Metrics are judged up to two minutes ago, because the stream is still at what came after; `whole_metrics` judges all
    of them, for a feed that has ended.

    Raises Unavailable when the database cannot be reached, ConfigurationError when it holds no tables of ours.
    """
    with closing(connect(dsn, "marketfeed-verify")) as connection, translated():
        connection.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
        try:
            with connection, connection.cursor() as cursor:
                return _prove(cursor, window or Window(), whole_metrics=whole_metrics)
        except psycopg2.errors.UndefinedTable:
            raise ConfigurationError("the database has no tables of marketfeed: run `marketfeed migrate`") from None


def _prove(cursor: Cursor, window: Window, *, whole_metrics: bool) -> Proof:
    values = {
        "whole": whole_metrics,
        "since": window.since,
        "until": window.until,
        "symbols": None if window.symbols is None else [*window.symbols],
        "channels": None if window.channels is None else [*window.channels],
    }

    def rows(name: str) -> list[tuple[Any, ...]]:
        cursor.execute(sql.read(name), values)
        return cursor.fetchall()

    return assemble(
        held=[Entry(*row) for row in rows("verify_rows.sql")],
        ledger=[Entry(*row) for row in rows("verify_ledger.sql")],
        breaks=[Break(*row) for row in rows("verify_ids.sql")],
        metrics=_metrics(cursor, rows),
    )


def _metrics(cursor: Cursor, rows: Callable[[str], list[tuple[Any, ...]]]) -> list[MetricsProof]:
    """Judge the metrics of a database that is new enough to have their tables."""
    cursor.execute("SELECT to_regclass('metrics_checked') IS NOT NULL")
    if cursor.fetchone() != (True,):
        return []
    return [_metrics_proof(table, rows(f"verify_{table}.sql")[0]) for table in _METRICS]


def _metrics_proof(table: str, row: tuple[Any, ...]) -> MetricsProof:
    windows, equal, complete, waiting, different = row
    return MetricsProof(table, windows, equal, complete, tuple(different), waiting)


def local_proof(window: Window, tell: Callable[[str], None]) -> Proof:
    """Prove what `marketfeed up` has stored on this machine: the run of now, else the last one; `tell` which it is.

    Raises ConfigurationError when there was none, or when its data is gone and its last words do not answer `window`.
    """
    from marketfeed.local import lookup  # noqa: PLC0415 - not needed where a database is named, as in a cluster

    with lookup.latest() as found:
        tell(found.description)
        if found.dsn is not None:
            return prove(found.dsn, window)
        if window != Window():
            raise ConfigurationError(
                f"the data of run {found.run.id} was not kept, only its whole proof: verify without --since, --until, "
                "--symbol and --channel, or name a database"
            )
        return Proof.from_json(found.run.proof)


def render(proof: Proof, *, minutes: bool = False) -> Iterator[str]:
    """Return the lines for people: a table of streams, what is missing, and one sentence that says what it means."""
    hidden = "exchange" if len({stream.exchange for stream in proof.streams}) == 1 else None  # fits 80 columns then
    yield from _aligned([_STREAM_HEADINGS, *map(_stream_row, proof.streams), _total_row(proof)], hidden)
    if minutes:
        yield ""
        yield from _aligned([_MINUTE_HEADINGS, *map(_minute_row, proof.minutes)], hidden)
    yield from _section("gaps", [_gap_line(gap) for gap in proof.gaps])
    yield from _section("disagreements", proof.disagreements)
    yield from _section("metrics", [_metrics_line(table) for table in proof.metrics])
    for table in proof.metrics:
        yield from _section(f"{table.table} that differ from the records", table.different)
    yield ""
    yield verdict(proof)


def verdict(proof: Proof) -> str:
    """Return the proof in one sentence."""
    totals = proof.totals
    if not proof.streams:
        return "Not complete: nothing is stored."
    proven = [stream for stream in proof.streams if stream.grade is Grade.PROVEN]
    stored = sum(stream.stored for stream in proven)
    without = f"; {totals.unprovable} rows carry no ids that could prove anything" if totals.unprovable else ""
    if proof.complete:
        return f"Complete: all {stored} ids of {_count(len(proven), 'stream')} are stored, none is missing{without}."
    gaps = [gap.count for gap in proof.gaps if gap.grade is Grade.PROVEN]
    reasons = []
    if gaps:
        reasons.append(f"{_count(sum(gaps), 'id')} missing in {_count(len(gaps), 'gap')}")
    if proof.disagreements:
        reasons.append(f"{_count(len(proof.disagreements), 'disagreement')} of ledger and table")
    reasons += [
        f"{_count(len(table.different), 'window')} of {table.table} unlike the records"
        for table in proof.metrics
        if table.different
    ]
    return f"Not complete: {' and '.join(reasons)}{without}."


_STREAM_HEADINGS = ("stream", "exchange", "grade", "minutes", "expected", "stored", "missing", "repaired")
_MINUTE_HEADINGS = ("minute", "stream", "exchange", "grade", "expected", "stored", "missing", "repaired")


def _stream_row(stream: StreamProof) -> tuple[str, ...]:
    return (
        f"{stream.symbol}@{stream.channel}",
        stream.exchange,
        stream.grade,
        str(stream.minutes),
        _number(stream.expected),
        str(stream.stored),
        _number(stream.missing),
        str(stream.repaired),
    )


def _total_row(proof: Proof) -> tuple[str, ...]:
    totals = proof.totals
    numbers = (len(proof.minutes), totals.expected, totals.stored, totals.missing, totals.repaired)
    return ("total", "", "", *map(str, numbers))


def _minute_row(minute: Minute) -> tuple[str, ...]:
    return (
        minute.minute.strftime("%Y-%m-%d %H:%M"),
        f"{minute.symbol}@{minute.channel}",
        minute.exchange,
        minute.grade,
        _number(minute.expected),
        str(minute.stored),
        _number(minute.missing),
        str(minute.repaired),
    )


def _gap_line(gap: GapFound) -> str:
    ids = str(gap.first_id) if gap.count == 1 else f"{gap.first_id} to {gap.last_id}"
    return (
        f"{gap.symbol}@{gap.channel} ({gap.exchange}, {gap.grade}): {_count(gap.count, 'id')} missing, {ids}, "
        f"between {gap.after.isoformat()} and {gap.before.isoformat()}"
    )


def _metrics_line(table: MetricsProof) -> str:
    judged = table.windows - table.waiting
    verdict = (
        f"{len(table.different)} of them differ from the records" if table.different else "all equal to the records"
    )
    waiting = f", {table.waiting} more waiting to be corrected" if table.waiting else ""
    return f"{table.table}: {_count(judged, 'window')}, {verdict}, {table.complete} complete{waiting}"


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if not lines:
        return
    yield ""
    yield f"{title}:"
    yield from (f"  {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"  and {len(lines) - _SHOWN} more: --json lists all"


def _aligned(rows: Sequence[Sequence[str]], hidden: str | None) -> Iterator[str]:
    """Return rows as columns of equal width but the hidden one: words to the left, numbers to the right."""
    columns = [column for column in zip(*rows, strict=True) if column[0] != hidden]
    for cells in zip(*map(_justified, columns), strict=True):
        yield "  ".join(cells).rstrip()


def _justified(column: Sequence[str]) -> list[str]:
    width = max(map(len, column))
    return [cell.rjust(width) if column[0] in _NUMBERS else cell.ljust(width) for cell in column]


_NUMBERS = frozenset({"minutes", "expected", "stored", "missing", "repaired"})


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _moment(text: str) -> datetime:
    """Read a time in ISO 8601; without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time such as 2026-01-31T10:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


@click.command("verify")
@click.option("--json", "as_json", is_flag=True, help="Print the whole proof as one JSON object.")
@click.option("--minutes", is_flag=True, help="Print every minute of every stream, too.")
@click.option(
    "--since",
    type=_moment,
    metavar="TIME",
    help="Look at event times from here on (ISO 8601, UTC); begins a full minute.",
)
@click.option("--until", type=_moment, metavar="TIME", help="Look at event times before this; ends a full minute.")
@click.option("--symbol", "symbols", multiple=True, help="Only this symbol; may be repeated.")
@click.option(
    "--channel", "channels", multiple=True, type=click.Choice([*map(str, Channel)]), help="Only this channel; as above."
)
@click.option(
    "--dsn-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File that holds the database's connection string, postgresql://user:password@host:port/name.",
)
def command(
    *,
    as_json: bool,
    minutes: bool,
    since: datetime | None,
    until: datetime | None,
    symbols: tuple[str, ...],
    channels: tuple[str, ...],
    dsn_file: Path | None,
) -> None:
    """Prove that everything is stored, or list what is missing.

    Ids are proven within what is looked at: from the first stored id of each stream to its last one. The database is
    named by --dsn-file, else by MARKETFEED_DSN (or MARKETFEED_DSN_FILE), else it is that of `marketfeed up`.

    \b
    Examples:
      marketfeed verify
      marketfeed verify --symbol BTCUSDT --since 2026-01-31T10:00Z --minutes
      marketfeed verify --dsn-file dsn --json | jq .gaps

    \b
    Exit codes:
      0  nothing is missing
      1  something is missing, or nothing is stored at all
      2  that cannot be found out; the message says why
    """  # noqa: D301 - click's \b keeps the lines of a block
    window = Window(
        since=since and since.replace(second=0, microsecond=0),
        until=until and _ceiling(until),
        symbols=symbols or None,
        channels=channels or None,
    )

    def tell(text: str) -> None:
        if not as_json:
            click.echo(text, err=True)

    try:
        dsn = dsn_from(os.environ, _read) if dsn_file is None else _read(str(dsn_file)).strip()
        proof = local_proof(window, tell) if dsn is None else prove(dsn, window)
    except MarketfeedError as error:
        click.echo(f"marketfeed: {error}", err=True)
        raise SystemExit(2) from None
    if as_json:
        click.echo(json.dumps(proof.to_json()))
    else:
        click.echo("\n".join(render(proof, minutes=minutes)))
    raise SystemExit(0 if proof.complete else 1)


def _ceiling(moment: datetime) -> datetime:
    floor = moment.replace(second=0, microsecond=0)
    return floor if floor == moment else floor + timedelta(minutes=1)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
