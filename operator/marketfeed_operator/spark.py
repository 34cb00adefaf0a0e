"""Watching over the streaming job, whose own operator forgets: a pure judgement of what is seen of it.

What does not live here: what the job's SparkApplication holds (render.analytics).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the streaming job is, and whether it must be started again."""

    state: str  # in a word for people: Starting, Running, Restarting, Failed, Suspended, Unserved, Off
    ready: bool
    reason: str  # CamelCase, for a condition
    message: str
    nudge: str | None  # value of the driver's annotation NUDGE to apply now; a new one makes it start again
    look_again_s: float | None = None  # when the judgement may change without an event
