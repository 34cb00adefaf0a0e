"""When things happen: a self-exciting (Hawkes) arrival process, so that activity comes in bursts as in a market. Pure.

Source: Hawkes, "Spectra of some self-exciting and mutually exciting point processes" (1971), drawn by Ogata's thinning.
"""

from __future__ import annotations

from math import exp, log
from random import Random

BRANCHING = 0.7  # share of events that another event provoked; the mean burst holds 1 / (1 - 0.7) events
DECAY_PER_MS = 0.004  # how fast an event's provocation fades: 1/e after 250 ms


class Arrivals:
    """The times of one symbol's events, in ms; `rate_per_s` is the mean rate over the long run."""

    def __init__(self, rate_per_s: float, random: Random) -> None:
        self._calm = rate_per_s / 1000 * (1 - BRANCHING)
        self._excited = rate_per_s / 1000 * BRANCHING  # starts at its mean, so that the first second is a usual one
        self._jump = BRANCHING * DECAY_PER_MS
        self._now = 0.0
        self._draw = random.random

    def next(self) -> float:
        """Return the next event's time: strictly after the last one."""
        now, excited, calm, draw = self._now, self._excited, self._calm, self._draw
        while True:
            bound = calm + excited
            wait = -log(1.0 - draw()) / bound
            now += wait
            excited *= exp(-DECAY_PER_MS * wait)
            if draw() * bound <= calm + excited:
                break
        self._now, self._excited = now, excited + self._jump
        return now
