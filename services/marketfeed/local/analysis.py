"""The streaming job of a run: one more supervised process, for which Spark is fetched first where it is not there yet.

What does not live here: the job itself (marketfeed.analytics) and how Spark is fetched (spark).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from marketfeed.local import spark
from marketfeed.local.child import Command
from marketfeed.local.files import write_atomically
from marketfeed.local.stats import fetch
from marketfeed.local.supervisor import Observer, Service, State
from marketfeed.local.workload import Addresses, Analytics, analytics_settings
from marketfeed.settings import AnalyticsSettings

FETCHING = "fetching"
FETCH_PATIENCE_S = 900.0  # half a gigabyte may be on its way
START_PATIENCE_S = 300.0  # Spark takes seconds to start, and minutes on a machine that has much else to do
POLL_S = 0.2
STOP_GRACE_S = 45.0  # a batch may be under way, and Java ends after it

Offsets = Mapping[str, Mapping[str, int]]
"""Per topic and partition, the offset of the next record."""


class Analysis:
    """The job of one run, or none. `apply` starts it, follows edits and ends it; nothing waits for its start.

    `folder` is the run's: thresholds and checkpoint lie in it, so that a kept run goes on.
    """

    def __init__(self, folder: Path, observer: Observer, say: Callable[[str], None]) -> None:
        self.service: Service | None = None
        self.settings: AnalyticsSettings | None = None
        self._logs = folder / "logs"
        self._folder = folder / "analytics"
        self._observer = observer
        self._say = say

    @property
    def state(self) -> str:
        """Where the job stands, in a word."""
        if self.service is None:
            return State.STOPPED
        return FETCHING if self.service.state is State.STARTING and spark.is_missing() else self.service.state

    async def apply(self, wanted: Analytics | None, addresses: Addresses) -> None:
        """Start, change or end the job; new thresholds alone are written to the file that it watches."""
        if wanted is None:
            await self.stop()
            return
        settings = analytics_settings(wanted, addresses, self._folder)
        self._folder.mkdir(exist_ok=True)
        write_atomically(Path(settings.thresholds_file or ""), msgspec.json.encode(wanted.thresholds).decode() + "\n")
        if self.settings == settings:
            return
        if self.service is not None:
            self._say(f"{self.service.name} starts again: its settings changed")
            await self.stop()
        if spark.is_missing():
            self._say(
                f"Spark is fetched beside everything else, once ({spark.SIZE}); analytics begin when it is there: "
                f"{self._logs / wanted.name}.log"
            )
        self.settings = settings
        self.service = Service(wanted.name, lambda: _command(settings, self._folder), self._logs, self._observer)
        self.service.start()

    async def stats(self) -> Mapping[str, Any]:
        """Return what the job says of itself; empty when it does not answer."""
        url = self.service.url if self.service is not None else None
        return await fetch(url) if url is not None else {}

    async def finished(self, ends: Offsets, patience_s: float) -> str | None:
        """Wait until all before `ends` is processed, and windows were compared with the ledger after that.

        Returns what is left to do when nothing got better for `patience_s`, None when nothing is; patience is longer
        while Spark is being fetched (`FETCH_PATIENCE_S`) or is at its first batch (`START_PATIENCE_S`).
        """
        best, caught_up = sys.maxsize, None
        began = since = time.monotonic()
        while True:
            stats, now = await self.stats(), time.monotonic()
            left = behind(self.settings, ends, stats) if self.settings is not None else 0
            if left < best or now - began < self._start_patience_s(stats):
                best, since = min(best, left), now
            if left == 0 and caught_up is None:
                caught_up = datetime.now(UTC)
            if caught_up is not None and (reconciled_at(stats) or caught_up) > caught_up:
                return None
            if now - since >= patience_s or self.state in (State.FAILED, State.STOPPED):
                return f"{left:,} records" if left else "the comparison of its windows with the ledger"
            await asyncio.sleep(POLL_S)

    def _start_patience_s(self, stats: Mapping[str, Any]) -> float:
        if self.state == FETCHING:
            return FETCH_PATIENCE_S
        under_way = any(query.get("processed") for query in (stats.get("queries") or {}).values())
        starting = self.state in (State.STARTING, State.RUNNING) and not under_way
        return START_PATIENCE_S if starting else 0.0

    async def stop(self) -> bool:
        """End the job between two batches; return False when it could not do so in order."""
        service = self.service
        if service is None:
            return True
        was_up = service.url is not None
        in_order = await service.stop(STOP_GRACE_S) or not was_up
        self.service, self.settings = None, None
        return in_order

    def kill(self) -> None:
        """Kill the process at once."""
        if self.service is not None:
            self.service.kill()


def behind(settings: AnalyticsSettings, ends: Offsets, stats: Mapping[str, Any]) -> int:
    """Return how many records before the topics' ends the job has not processed, each query's counted by itself."""
    queries = stats.get("queries") or {}
    total = 0
    for table, topic in settings.topics.items():
        processed = ((queries.get(table) or {}).get("processed") or {}).get(topic) or {}
        total += sum(max(0, end - processed.get(number, 0)) for number, end in ends.get(topic, {}).items())
    return total


def reconciled_at(stats: Mapping[str, Any]) -> datetime | None:
    """Return when the job last compared its windows with the ledger."""
    text = stats.get("reconciled_at")
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _command(settings: AnalyticsSettings, folder: Path) -> Command:
    env = {**settings.to_env(), AnalyticsSettings.variable("dsn"): str(settings.dsn)}
    return Command(argv=spark.command(folder / "scratch", "analytics"), env=env)
