"""Looks at everything that runs, once a second: what services say of themselves, and how fast their counts grow.

Nothing here fails because something does not answer: what is not known is shown as not known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from marketfeed.local.fleet import Fleet
from marketfeed.local.stats import fetch
from marketfeed.local.supervisor import Service
from marketfeed.local.table import ConsumerView, ShardView

Stats = Mapping[str, Any]
Sample = tuple[float, float]
"""A moment (monotonic, s) and a count."""


def rate(before: Sample | None, now: Sample) -> float | None:
    """Return the growth per second between two samples; None where it can't be told, as after a restart."""
    if before is None or now[0] <= before[0] or now[1] < before[1]:
        return None
    return (now[1] - before[1]) / (now[0] - before[0])


class Observatory:
    """Remembers the last counts, for rates."""

    def __init__(self) -> None:
        self._samples: dict[str, Sample] = {}

    async def look(self, fleet: Fleet) -> tuple[tuple[ShardView, ...], tuple[ConsumerView, ...]]:
        """Ask every service for its stats, all at once; takes a second at most."""
        shards = [running.service for running in fleet.shards.values()]
        consumers = [running.service for running in fleet.consumers.values()]
        answers = await asyncio.gather(*(_stats(service) for service in (*shards, *consumers)))
        now = time.monotonic()
        return (
            tuple(self._shard(*pair, now) for pair in zip(shards, answers, strict=False)),
            tuple(self._consumer(*pair, now) for pair in zip(consumers, answers[len(shards) :], strict=True)),
        )

    def _shard(self, service: Service, stats: Stats, now: float) -> ShardView:
        streams = stats.get("streams") or {}
        return ShardView(
            name=service.name,
            state=service.state,
            desired=streams.get("desired"),
            subscribed=streams.get("subscribed"),
            records=stats.get("publish_count"),
            records_per_s=self._rate(service.name, stats.get("publish_count"), now),
            age_s=stats.get("last_message_age_s"),
            restarts=service.restarts,
        )

    def _consumer(self, service: Service, stats: Stats, now: float) -> ConsumerView:
        return ConsumerView(
            name=service.name,
            state=service.state,
            rows=stats.get("rows_stored"),
            rows_per_s=self._rate(service.name, stats.get("rows_stored"), now),
            lag_records=stats.get("lag_records"),
            lag_s=stats.get("lag_seconds"),
            dead_letters=stats.get("dead_letters"),
            restarts=service.restarts,
        )

    def _rate(self, name: str, count: float | None, now: float) -> float | None:
        if count is None:
            return None
        before = self._samples.get(name)
        self._samples[name] = (now, count)
        return rate(before, (now, count))


async def _stats(service: Service) -> Stats:
    return await fetch(service.url) if service.url is not None else {}
