"""Waiting before calls to the API server: the rate of writes, and the pause that all callers share.

What does not live here: how long to wait (limits, retry).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from marketfeed_operator.api.limits import Bucket, Pause
from marketfeed_operator.metrics import OperatorMetrics

_ROUNDS = 5
_SPREAD_S = 0.5
"""Callers that waited for the same pause go on within so many seconds, not at once."""


@dataclass(slots=True)
class Pacing:
    """One for all callers of an API server. Clock, draws and sleep are the process's own unless a test says else."""

    bucket: Bucket
    metrics: OperatorMetrics | None = None
    clock: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    pause: Pause = field(default_factory=Pause)

    async def turn(self, *, write: bool) -> None:
        """Return when a call may be made."""
        for _ in range(_ROUNDS):
            left_s = self.pause.left_s(self.clock())
            if not left_s:
                break
            await self.wait("pause", left_s + _SPREAD_S * self.draw())
        if write:
            self.bucket, wait_s = self.bucket.take(self.clock())
            if wait_s:
                await self.wait("rate", wait_s)

    def told_to_wait(self, asked_s: float) -> None:
        """Make every caller wait: the server asked one of them to."""
        self.pause = self.pause.extended(self.clock(), asked_s)

    async def wait(self, why: str, seconds: float) -> None:
        """Wait, and count it."""
        if self.metrics is not None:
            self.metrics.api_wait_seconds.labels(why).inc(seconds)
        await self.sleep(seconds)
