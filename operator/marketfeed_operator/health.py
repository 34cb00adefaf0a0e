"""Whether the operator makes progress: what `/livez`, `/readyz` and `/stats` say, from facts and not from being asked.

What does not live here: the HTTP server (marketfeed.server).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from marketfeed_operator.metrics import OperatorMetrics

BEAT_S = 0.5
_HUNG_S = 30.0
_STUCK_S = 300.0  # one feed's work, API server's retries included
_MUTE_ROUNDS = 2


class Progress:
    """What the parts of the operator report of themselves. Read from another thread, so it never blocks."""

    def __init__(self, metrics: OperatorMetrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._beat = clock()
        self._at_work: dict[object, float] = {}
        self._mute: dict[str, int] = {}
        self.synced = asyncio.Event()
        self.leading = False
        self.waits_for: str | None = "the cluster has not been looked at yet"
        self.figures: Callable[[], Mapping[str, Any]] = dict

    async def beat(self) -> None:
        """Note for ever that the loop turns, and how late it comes to it."""
        while True:
            due = self._clock() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._beat = self._clock()
            self._metrics.loop_lag_seconds.observe(max(0.0, self._beat - due))

    def in_sync(self) -> None:
        """Note that the whole cluster was looked at once."""
        self.waits_for = None
        self.synced.set()

    def begun(self, key: object) -> None:
        """Note that a piece of work has begun."""
        self._at_work[key] = self._clock()

    def ended(self, key: object) -> None:
        """Note that it has ended, well or not."""
        self._at_work.pop(key, None)

    def compared(self, kind: str, missed: int) -> None:
        """Note how many changes the watch of a kind had missed when it was compared with a list."""
        self._mute[kind] = self._mute.get(kind, 0) + 1 if missed else 0

    def live(self) -> str | None:
        """Return why the process should be started anew, None while it makes progress."""
        now = self._clock()
        if now - self._beat > _HUNG_S:
            return f"the loop has not turned for {now - self._beat:.0f} s"
        oldest = min(list(self._at_work.values()), default=now)
        if now - oldest > _STUCK_S:
            return f"a reconciliation has been at work for {now - oldest:.0f} s"
        mute = [kind for kind, rounds in list(self._mute.items()) if rounds >= _MUTE_ROUNDS]
        return f"the watch of {', '.join(mute)} misses changes" if mute else None

    def ready(self) -> str | None:
        """Return why this replica could not take over now; a standby that has seen the cluster is ready."""
        return None if self.synced.is_set() else f"starting: {self.waits_for}"

    def stats(self) -> Mapping[str, Any]:
        """Return what `/stats` shows."""
        return {
            "leading": self.leading,
            "synced": self.synced.is_set(),
            "at_work": len(self._at_work),
            **self.figures(),
        }
