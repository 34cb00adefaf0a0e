"""Which key is worked on next: one queue for all causes, where each key waits once and is in work once.

What does not live here: what a key stands for and the work itself. The clock and the draws are passed in.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from marketfeed.errors import MarketfeedError
from marketfeed.policies import backoff_s

K = TypeVar("K", bound=Hashable)

FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 300.0
URGENT_IN_A_ROW = 3
"""After so many urgent keys, an ordinary one that waits has its turn."""


class ShutDown(MarketfeedError):
    """The queue gives out no more keys."""


class WorkQueue(Generic[K]):
    """Keys that wait, each at most once; a key that is added while it is in work waits until that is done.

    One thread, one event loop. Keys of a user's change (`urgent`) overtake the others, without starving them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, draw: Callable[[], float] = random.random) -> None:
        self._clock, self._draw = clock, draw
        self._urgent: dict[K, float] = {}  # key → when it was added; in the order of adding
        self._ordinary: dict[K, float] = {}
        self._again: dict[K, tuple[float, bool]] = {}  # added while in work: when, and whether urgently
        self._working: set[K] = set()
        self._due: dict[K, float] = {}
        self._timers: list[tuple[float, int, K]] = []  # a heap; an entry counts only if `_due` agrees with it
        self._serial = 0
        self._failures: dict[K, int] = {}
        self._in_a_row = 0
        self._changed = asyncio.Event()
        self._shut_down = False

    # Adding

    def add(self, key: K, *, urgent: bool = False) -> None:
        """Let `key` be worked on soon. One that waits already keeps its place, or overtakes if it is urgent now."""
        self._put(key, self._clock(), urgent=urgent)

    def add_after(self, key: K, delay_s: float) -> None:
        """Let `key` be worked on in `delay_s` at the latest; of several such wishes the earliest counts."""
        due = self._clock() + max(0.0, delay_s)
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        self._serial += 1
        heapq.heappush(self._timers, (due, self._serial, key))
        self._changed.set()

    def retry(self, key: K) -> float:
        """Let `key` be worked on again after its next, longer delay; return that delay, s."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay_s = backoff_s(failures, FIRST_RETRY_S, LONGEST_RETRY_S, self._draw())
        self.add_after(key, delay_s)
        return delay_s

    def forget(self, key: K) -> None:
        """Let the key's next failure count as its first."""
        self._failures.pop(key, None)

    # Taking

    async def get(self) -> K:
        """Return the next key, which is in work from now on; wait for one if there is none.

        Raises ShutDown after `shutdown()`.
        """
        while not self._shut_down:
            key = self.pop()
            if key is not None:
                return key
            self._changed.clear()
            await self._wait()
        raise ShutDown

    def pop(self) -> K | None:
        """Return the next key, which is in work from now on; None if none waits."""
        self._ring(self._clock())
        lane = self._next_lane()
        if lane is None:
            return None
        key = next(iter(lane))
        del lane[key]
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """Say that the work on `key` has ended; it waits again if it was added meanwhile."""
        self._working.discard(key)
        again = self._again.pop(key, None)
        if again is not None:
            self._put(key, again[0], urgent=again[1])
        self._changed.set()

    def shutdown(self) -> None:
        """Give out no more keys; what is in work goes on."""
        self._shut_down = True
        self._changed.set()

    # Looking

    @property
    def depth(self) -> int:
        """Return how many keys wait now; those whose delay runs are not among them."""
        return len(self._urgent) + len(self._ordinary) + len(self._again)

    @property
    def delayed(self) -> int:
        """Return how many keys wait for their delay to end."""
        return len(self._due)

    @property
    def working(self) -> frozenset[K]:
        """Return the keys that are in work."""
        return frozenset(self._working)

    def oldest_s(self, now: float | None = None) -> float:
        """Return how long the key that waits longest has waited, s; 0 if none waits."""
        again = (at for at, _ in self._again.values())
        # A key that is due waits, though no worker was free to notice.
        since = min([*self._urgent.values(), *self._ordinary.values(), *again, *self._due.values()], default=None)
        return 0.0 if since is None else max(0.0, (self._clock() if now is None else now) - since)

    def failures(self, key: K) -> int:
        """Return how often the key has failed in a row."""
        return self._failures.get(key, 0)

    # Inside

    def _put(self, key: K, at: float, *, urgent: bool) -> None:
        if key in self._working:
            first, was_urgent = self._again.get(key, (at, False))
            self._again[key] = (first, was_urgent or urgent)
            return
        if key in self._urgent:
            return
        if urgent:
            self._urgent[key] = self._ordinary.pop(key, at)
        else:
            self._ordinary.setdefault(key, at)
        self._changed.set()

    def _ring(self, now: float) -> None:
        """Move the keys whose delay has ended to those that wait."""
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            if self._due.get(key) == due:
                del self._due[key]
                self._put(key, due, urgent=False)

    def _next_lane(self) -> dict[K, float] | None:
        if self._urgent and not (self._ordinary and self._in_a_row >= URGENT_IN_A_ROW):
            self._in_a_row += 1
            return self._urgent
        self._in_a_row = 0
        return self._ordinary or None

    async def _wait(self) -> None:
        """Wait until something changed or the next delay ends."""
        left_s = self._timers[0][0] - self._clock() if self._timers else None
        try:
            async with asyncio.timeout(left_s):
                await self._changed.wait()
        except TimeoutError:
            return
