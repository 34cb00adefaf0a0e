"""How fast a number rises: events per second, from totals that are looked at now and then. No clock lives here."""

from __future__ import annotations

from collections import deque

WINDOW_S = 10.0


class Pace:
    """Events per second over about the last `window_s`."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, total: int, now: float) -> float:
        """Take the total at `now` (s, of any clock that only rises); return the pace, 0 while only one was seen.

        Of the totals from before the window the latest is kept: looking seldom makes the window longer, not empty.
        """
        while len(self._seen) > 1 and now - self._seen[1][0] >= self._window_s:
            self._seen.popleft()
        self._seen.append((now, total))
        since, before = self._seen[0]
        return (total - before) / (now - since) if now > since else 0.0
