"""What a person sees of a run: a live table in a terminal, a plain line where there is none. Data in, text out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

_COLOURS = {
    "running": "green",
    "starting": "yellow",
    "fetching": "yellow",
    "restarting": "red",
    "failed": "red",
    "stopped": "dim",
}


@dataclass(frozen=True, slots=True)
class ServerView:
    """A server that runs for this feed; `where` is its address."""

    name: str
    state: str
    where: str


@dataclass(frozen=True, slots=True)
class ShardView:
    """A shard as it last described itself; numbers are None until it has."""

    name: str
    state: str
    desired: int | None = None
    subscribed: int | None = None
    records: float | None = None
    records_per_s: float | None = None
    age_s: float | None = None  # of its last message
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class ConsumerView:
    """A consumer as it last described itself; numbers are None until it has."""

    name: str
    state: str
    rows: float | None = None
    rows_per_s: float | None = None
    lag_records: int | None = None
    lag_s: float | None = None
    dead_letters: int | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class AnalyticsView:
    """The streaming job as it last described itself; numbers are None until it has."""

    name: str
    state: str
    windows: float | None = None
    corrected: float | None = None
    alerts: float | None = None
    lag_records: int | None = None
    batch_age_s: float | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is shown at one moment; `missing` counts prints that the ledger knows to be absent."""

    feed: str
    elapsed_s: float
    remaining_s: float | None
    servers: tuple[ServerView, ...]
    shards: tuple[ShardView, ...]
    consumers: tuple[ConsumerView, ...]
    missing: int | None
    analytics: AnalyticsView | None = None


def render(snapshot: Snapshot) -> RenderableType:
    """Return the live table."""
    prefix = f"{snapshot.feed}-"  # the heading says it already
    parts: list[RenderableType] = [_heading(snapshot), _servers(snapshot.servers), _shards(snapshot.shards, prefix)]
    if snapshot.consumers:
        parts.append(_consumers(snapshot.consumers, prefix))
    if snapshot.analytics is not None:
        parts.append(_analytics(snapshot.analytics, prefix))
    return Group(*parts)


def line(snapshot: Snapshot) -> str:
    """Return the run's state as one line without colours."""
    shards, consumers = snapshot.shards, snapshot.consumers
    subscribed = sum(shard.subscribed or 0 for shard in shards)
    desired = sum(shard.desired or 0 for shard in shards)
    parts = [
        f"{clock(snapshot.elapsed_s)} {snapshot.feed}",
        f"shards {_running(shards)}/{len(shards)}",
        f"streams {subscribed}/{desired}",
        f"{sum(shard.records_per_s or 0 for shard in shards):,.0f} records/s",
        f"last message {_seconds(_oldest(shards))} ago",
    ]
    if consumers:
        parts += [
            f"rows {_count(_sum(consumer.rows for consumer in consumers))}",
            f"lag {_count(_sum(consumer.lag_records for consumer in consumers))}",
            f"missing {_count(snapshot.missing)}",
        ]
    jobs = (snapshot.analytics,) if snapshot.analytics is not None else ()
    parts += [_windows(job) for job in jobs]
    everything: tuple[ServerView | ShardView | ConsumerView, ...] = (*snapshot.servers, *shards, *consumers)
    troubled = [view.name for view in everything if view.state != "running"]
    if troubled:
        parts.append(f"not running: {', '.join(troubled)}")
    return " | ".join(parts)


def clock(seconds: float) -> str:
    """Return a duration as 0:05, 12:34 or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _heading(snapshot: Snapshot) -> Text:
    text = Text.assemble((snapshot.feed, "bold"), f"  up {clock(snapshot.elapsed_s)}")
    if snapshot.remaining_s is not None:
        text.append(f", {clock(max(0.0, snapshot.remaining_s))} to go")
    if snapshot.missing:
        text.append(f"   {snapshot.missing:,} prints missing", style="bold red")
    elif snapshot.missing is not None:
        text.append("   no print missing", style="green")
    return text


def _servers(views: tuple[ServerView, ...]) -> Table:
    table = _table("server", "state", "address", texts=3)
    for view in views:
        table.add_row(view.name, _state(view.state, 0), view.where)
    return table


def _shards(views: tuple[ShardView, ...], prefix: str) -> Table:
    table = _table("shard", "state", "streams", "records", "records/s", "last message")
    for view in views:
        table.add_row(
            view.name.removeprefix(prefix),
            _state(view.state, view.restarts),
            f"{_count(view.subscribed)}/{_count(view.desired)}",
            _count(view.records),
            _count(view.records_per_s),
            f"{_seconds(view.age_s)} ago",
        )
    return table


def _consumers(views: tuple[ConsumerView, ...], prefix: str) -> Table:
    table = _table("consumer", "state", "rows", "rows/s", "lag", "lag time", "quarantined")
    for view in views:
        table.add_row(
            view.name.removeprefix(prefix),
            _state(view.state, view.restarts),
            _count(view.rows),
            _count(view.rows_per_s),
            _count(view.lag_records),
            _seconds(view.lag_s),
            _count(view.dead_letters),
        )
    return table


def _analytics(view: AnalyticsView, prefix: str) -> Table:
    table = _table("analytics", "state", "windows", "corrected", "alerts", "lag", "last batch")
    table.add_row(
        view.name.removeprefix(prefix),
        _state(view.state, view.restarts),
        _count(view.windows),
        _count(view.corrected),
        _count(view.alerts),
        _count(view.lag_records),
        f"{_seconds(view.batch_age_s)} ago",
    )
    return table


def _windows(view: AnalyticsView) -> str:
    """Return the windows that are written, and what else the job is at: it starts later than everything else."""
    return f"windows {_count(view.windows)}{'' if view.state == 'running' else f' (analytics {view.state})'}"


def _table(*columns: str, texts: int = 2) -> Table:
    """Return an empty table whose first columns hold texts and whose others hold numbers.

    Where the terminal is narrow, the names in the first column are cut before any number is.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        justify: JustifyMethod = "left" if number < texts else "right"
        table.add_column(column, justify=justify, no_wrap=number > 0, overflow="ellipsis")
    return table


def _state(state: str, restarts: int) -> Text:
    text = Text(state, style=_COLOURS.get(state, ""))
    times = f" ({restarts} restart{'s' * (restarts > 1)})"
    return text.append(times, style="dim") if restarts else text


def _running(views: tuple[ShardView, ...]) -> int:
    return sum(view.state == "running" for view in views)


def _sum(numbers: Iterable[float | None]) -> float | None:
    """Add up what is known; None where nothing is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _oldest(shards: tuple[ShardView, ...]) -> float | None:
    return max((shard.age_s for shard in shards if shard.age_s is not None), default=None)


def _count(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"
