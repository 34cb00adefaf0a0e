"""How often the API server is called: a token bucket and a pause that all callers share. Pure; the clock is passed in.

What does not live here: waiting (cluster).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket that hands out reservations: `tokens` below 0 are calls that wait already."""

    rate_per_s: float
    burst: float
    tokens: float
    at_s: float

    @classmethod
    def full(cls, rate_per_s: float, burst: int, now_s: float) -> Self:
        """Return a bucket that lets `burst` calls through at once."""
        return cls(rate_per_s, float(burst), float(burst), now_s)

    def take(self, now_s: float) -> tuple[Bucket, float]:
        """Reserve one call, first come, first served; return the bucket afterwards and how long to wait, s."""
        left = min(self.burst, self.tokens + max(0.0, now_s - self.at_s) * self.rate_per_s) - 1.0
        bucket = replace(self, tokens=left, at_s=max(now_s, self.at_s))
        return bucket, max(0.0, -left / self.rate_per_s)


@dataclass(frozen=True, slots=True)
class Pause:
    """Until when the API server wants to be left alone, on the caller's monotonic clock."""

    until_s: float = 0.0

    def extended(self, now_s: float, retry_after_s: float) -> Pause:
        """Return the pause after one call was told to wait; it never gets shorter."""
        return Pause(max(self.until_s, now_s + retry_after_s))

    def left_s(self, now_s: float) -> float:
        """Return how long it still lasts, s."""
        return max(0.0, self.until_s - now_s)
