"""A measured figure and how it is printed: one JSON object a line on stdout, people's words on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One ratio with its target. `sense` says on which side of the target is good; `details` holds what explains it.

    Without a target it is printed to compare, and nothing is met or missed.
    """

    benchmark: str
    ratio: str
    value: float
    target: float | None
    sense: Literal["at least", "at most"] = "at least"
    details: dict[str, object] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the value is on the good side of the target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.sense == "at least" else self.value <= self.target

    def line(self) -> str:
        """Return the figure as a line of JSON."""
        return json.dumps(
            {
                "benchmark": self.benchmark,
                "ratio": self.ratio,
                "value": round(self.value, 3),
                "target": self.target,
                "sense": self.sense,
                "met": self.met,
                **self.details,
            }
        )


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median of the rounds' ratios: both sides of each ratio were measured within the same minute."""
    return median(above / below for above, below in zip(numerators, denominators, strict=True))


def say(text: str) -> None:
    """Tell a person what is going on."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()
