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
"""After so many keys of one urgency, one that waits and is less urgent has its turn."""
_URGENCIES = 3


class ShutDown(MarketfeedError):
    """The queue gives out no more keys."""


class WorkQueue(Generic[K]):
    """Keys that wait, each at most once; a key that is added while it is in work waits until that is done.

    One thread, one event loop. More urgent keys overtake the others, without starving them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, draw: Callable[[], float] = random.random) -> None:
        self._clock, self._draw = clock, draw
        # By urgency, the least first: key → when it was added, in the order of adding.
        self._lanes: tuple[dict[K, float], ...] = tuple({} for _ in range(_URGENCIES))
        self._again: dict[K, tuple[float, int]] = {}  # added while in work: when, and how urgently
        self._working: set[K] = set()
        self._due: dict[K, float] = {}
        self._timers: list[tuple[float, int, K]] = []  # a heap; an entry counts only if `_due` agrees with it
        self._serial = 0
        self._failures: dict[K, int] = {}
        self._in_a_row = [0] * _URGENCIES
        self._changed = asyncio.Event()
        self._shut_down = False

    # Adding

    def add(self, key: K, *, urgent: int = 0) -> None:
        """Let `key` be worked on soon: 0 in its turn, 1 (or True) before those, 2 before them all.

        One that waits already keeps its place, or overtakes if it is more urgent now.
        """
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
        return sum(map(len, self._lanes)) + len(self._again)

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
        waiting = (at for lane in self._lanes for at in lane.values())
        since = min([*waiting, *again, *self._due.values()], default=None)
        return 0.0 if since is None else max(0.0, (self._clock() if now is None else now) - since)

    def failures(self, key: K) -> int:
        """Return how often the key has failed in a row."""
        return self._failures.get(key, 0)

    # Inside

    def _put(self, key: K, at: float, *, urgent: int) -> None:
        if key in self._working:
            first, before = self._again.get(key, (at, 0))
            self._again[key] = (first, max(before, urgent))
            return
        there = next((urgency for urgency, lane in enumerate(self._lanes) if key in lane), None)
        if there is not None and there >= urgent:
            return
        self._lanes[urgent][key] = at if there is None else self._lanes[there].pop(key)
        self._changed.set()

    def _ring(self, now: float) -> None:
        """Move the keys whose delay has ended to those that wait."""
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            if self._due.get(key) == due:
                del self._due[key]
                self._put(key, due, urgent=0)

    def _next_lane(self) -> dict[K, float] | None:
        for urgency in reversed(range(_URGENCIES)):
            lane, less_urgent = self._lanes[urgency], self._lanes[:urgency]
            if lane and not (any(less_urgent) and self._in_a_row[urgency] >= URGENT_IN_A_ROW):
                self._in_a_row[urgency] += 1
                return lane
            self._in_a_row[urgency] = 0
        return None

    async def _wait(self) -> None:
        """Wait until something changed or the next delay ends."""
        left_s = self._timers[0][0] - self._clock() if self._timers else None
        try:
            async with asyncio.timeout(left_s):
                await self._changed.wait()
        except TimeoutError:
            return
