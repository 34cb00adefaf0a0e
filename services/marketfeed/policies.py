"""Small pure decisions about waiting that several shells share. Nothing here reads a clock or draws a number."""

from __future__ import annotations


def backoff_s(attempt: int, first_s: float, max_s: float, draw: float) -> float:
    """Return the delay, in s, before reconnect `attempt` (0 is the first): full jitter, doubling cap.

    `draw` is a random number in [0, 1). At least a tenth of the cap is kept: a run of small draws must not be a storm.
    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, with a floor.
    """
    cap = min(max_s, first_s * 2.0 ** min(attempt, 32))
    return cap * (0.1 + 0.9 * draw)
