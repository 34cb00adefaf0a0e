"""Lengths of time as people write them: `250ms`, `45s`, `30m`, `12h`, `7d`. No clock lives here.

A field that takes only some of them (no zero, so many digits) says so itself.
"""

from __future__ import annotations

import re

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
"""The units, from the shortest to the longest, and their lengths in ms."""

_DURATION = re.compile(rf"([0-9]+)({'|'.join(UNITS_MS)})", re.ASCII)


def parse_ms(text: str) -> int:
    """Read a whole number and a unit as milliseconds; raises ValueError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a duration: write a whole number and one unit of {', '.join(UNITS_MS)}")
    return int(found[1]) * UNITS_MS[found[2]]


def render(milliseconds: int) -> str:
    """Write a length of time in the longest unit that makes it a whole number."""
    unit = next(unit for unit in reversed(UNITS_MS) if milliseconds % UNITS_MS[unit] == 0)
    return f"{milliseconds // UNITS_MS[unit]}{unit}"
