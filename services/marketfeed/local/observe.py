"""Looks at everything that runs, once a second: what services say of themselves, and how fast their counts grow.

Nothing here fails because something does not answer: what is not known is shown as not known.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg2

from marketfeed import sql
from marketfeed.database import connect
from marketfeed.errors import MarketfeedError
from marketfeed.local.machine import Machine
from marketfeed.local.stats import fetch
from marketfeed.local.supervisor import Service
from marketfeed.local.table import AnalyticsView, ConsumerView, ShardView, Snapshot

ANSWER_TIMEOUT_S = 1.0

Stats = Mapping[str, Any]
Sample = tuple[float, float]
"""A moment (monotonic, s) and a count."""


def rate(before: Sample | None, now: Sample) -> float | None:
    """Return the growth per second between two samples; None where it can't be told, as after a restart."""
    if before is None or now[0] <= before[0] or now[1] < before[1]:
        return None
    return (now[1] - before[1]) / (now[0] - before[0])


class Count:
    """What the processes of one service have counted one after the other, each from 0."""

    def __init__(self) -> None:
        self._earlier: float = 0  # by processes that are gone
        self._last: Sample | None = None

    def take(self, now: float, count: float | None) -> tuple[float | None, float | None]:
        """Add a look at `now` (monotonic, s), None where nothing answered; return the total and its rate per second."""
        if count is None:
            return None if self._last is None else self._earlier + self._last[1], None
        before, self._last = self._last, (now, count)
        if before is not None and count < before[1]:
            self._earlier += before[1]
        return self._earlier + count, rate(before, self._last)


class Observatory:
    """Looks at one machine; remembers the last counts, for totals and rates."""

    def __init__(self, machine: Machine, feed: str, for_s: float | None) -> None:
        self._machine = machine
        self._feed = feed
        self._for_s = for_s
        self._began = time.monotonic()
        self._counts: defaultdict[str, Count] = defaultdict(Count)

    async def look(self) -> Snapshot:
        """Ask everything at once; takes little more than a second at most."""
        shards = [running.service for running in self._machine.fleet.shards.values()]
        consumers = [running.service for running in self._machine.fleet.consumers.values()]
        missing, job, answers = await asyncio.gather(
            asyncio.to_thread(_missing, self._machine.dsn),
            self._machine.analysis.stats(),
            asyncio.gather(*(_stats(service) for service in (*shards, *consumers))),
        )
        now = time.monotonic()
        elapsed_s = now - self._began
        return Snapshot(
            feed=self._feed,
            elapsed_s=elapsed_s,
            remaining_s=None if self._for_s is None else self._for_s - elapsed_s,
            servers=self._machine.servers(),
            shards=tuple(self._shard(*pair, now) for pair in zip(shards, answers, strict=False)),
            consumers=tuple(self._consumer(*pair, now) for pair in zip(consumers, answers[len(shards) :], strict=True)),
            missing=missing,
            analytics=self._analytics(job, now),
        )

    def _analytics(self, stats: Stats, now: float) -> AnalyticsView | None:
        service = self._machine.analysis.service
        if service is None:
            return None
        queries = (stats.get("queries") or {}).values()

        def total(name: str) -> float | None:
            found = stats.get(name)
            count = None if found is None else sum(found.values())
            return self._counts[f"{service.name}/{name}"].take(now, count)[0]

        return AnalyticsView(
            name=service.name,
            state=self._machine.analysis.state,
            windows=total("windows_written"),
            corrected=total("windows_corrected"),
            alerts=total("alerts"),
            lag_records=_sum(query.get("lag_records") for query in queries),
            batch_age_s=max((query.get("batch_age_s") or 0.0 for query in queries), default=None),
            restarts=service.restarts,
        )

    def _shard(self, service: Service, stats: Stats, now: float) -> ShardView:
        streams = stats.get("streams") or {}
        records, records_per_s = self._counts[service.name].take(now, stats.get("publish_count"))
        return ShardView(
            name=service.name,
            state=service.state,
            desired=streams.get("desired"),
            subscribed=streams.get("subscribed"),
            records=records,
            records_per_s=records_per_s,
            age_s=stats.get("last_message_age_s"),
            restarts=service.restarts,
        )

    def _consumer(self, service: Service, stats: Stats, now: float) -> ConsumerView:
        rows, rows_per_s = self._counts[service.name].take(now, stats.get("rows_stored"))
        knows_lag = bool(stats.get("assigned_partitions"))  # it knows that of its own partitions only
        return ConsumerView(
            name=service.name,
            state=service.state,
            rows=rows,
            rows_per_s=rows_per_s,
            lag_records=stats.get("lag_records") if knows_lag else None,
            lag_s=stats.get("lag_seconds") if knows_lag else None,
            dead_letters=stats.get("dead_letters"),
            restarts=service.restarts,
        )


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Add up; None where there is nothing, or one of them is not known."""
    known = list(numbers)
    return sum(number or 0 for number in known) if known and None not in known else None


async def _stats(service: Service) -> Stats:
    return await fetch(service.url) if service.url is not None else {}


def _missing(dsn: str | None) -> int | None:
    """Return how many prints the ledger misses; None when there is no database or it does not answer in time."""
    if dsn is None:
        return None
    try:
        connection = connect(dsn, "marketfeed-up", statement_timeout_s=ANSWER_TIMEOUT_S)
    except MarketfeedError:
        return None
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql.read("missing.sql"))
            row = cursor.fetchone()
    except psycopg2.Error:
        return None
    finally:
        connection.close()
    return int(row[0]) if row else None
