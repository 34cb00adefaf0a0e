"""Conditions, as the Kubernetes API conventions have them: their types, their bookkeeping, and the summary Ready.

What does not live here: what each condition but Ready says of a feed (parts, flow).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from marketfeed_operator.objects import Manifest
from marketfeed_operator.wording import shortened

TYPES = (
    "Ready",
    "TopicsReady",
    "IngestReady",
    "DataFlowing",
    "Complete",
    "SinksReady",
    "AnalyticsReady",
    "Suspended",
)
"""All conditions of a feed, in the order in which they are written."""

NEEDED = ("TopicsReady", "IngestReady", "SinksReady", "AnalyticsReady", "DataFlowing")
"""The conditions that make a feed Ready, what others depend on first.

Complete is not among them: a gap of an hour ago is a fact about the data, and nothing that waiting would mend.
"""

PASSING = frozenset(
    {"Reconciling", "Waiting", "Progressing", "Starting", "Subscribing", "NotRunning", "NotSampled", "Updating"}
)
"""Reasons that go away by themselves; any other explains more."""

LONGEST_MESSAGE = 1024

Status = Literal["True", "False", "Unknown"]

_FIGURES = re.compile(r"(?<![\w-])\d+(?:\.\d+)?(?=\s?(?:ms|s|min|h|%)?\b)(?![-:/@])")  # not those of names


@dataclass(frozen=True, slots=True)
class Condition:
    """What one condition is to say. `quotes`: its message is a process's own, whose figures always move."""

    type: str
    status: Status
    reason: str
    message: str
    quotes: bool = False


def of(status: Mapping[str, Any], type_: str) -> Manifest | None:
    """Return a condition of a status, None where there is none."""
    return next((one for one in status.get("conditions") or () if one.get("type") == type_), None)


def reconciling(type_: str) -> Condition:
    """Return a condition that nothing is known about yet."""
    return Condition(type_, "Unknown", "Reconciling", "the feed has not been looked at yet")


def written(new: Iterable[Condition], old: Mapping[str, Any], generation: int, now: datetime) -> list[Manifest]:
    """Return all conditions as the API has them, those that are not in `new` as they were in the status `old`.

    The time of transition changes with the status alone. A quoted message stays while it differs in figures only.
    """
    given = {condition.type: condition for condition in new}
    return [_written(type_, given.get(type_), of(old, type_), generation, now) for type_ in TYPES]


def ready(parts: Sequence[Manifest], *, paused: bool, suspended: bool, approval: str | None) -> Condition:
    """Return the summary of the other conditions; `approval` is the sentence that asks for one.

    Suspended is False, not True: `kubectl wait --for=condition=Ready` must not let a script go on with a feed that
    records nothing, and kstatus then says InProgress. Who waits for the stop waits for the condition Suspended.
    Paused is Unknown: the feed may run well, but True would claim that this generation is in force.
    """
    if paused:
        message = "the annotation marketfeed.dev/paused is true: nothing is changed until it is removed"
        return Condition("Ready", "Unknown", "Paused", message)
    if suspended:
        return Condition("Ready", "False", "Suspended", "spec.suspend is true: nothing is recorded")
    if approval is not None:
        return Condition("Ready", "False", "ApprovalNeeded", shortened(approval, LONGEST_MESSAGE))
    worst = min((part for part in parts if part["status"] != "True"), key=_severity, default=None)
    if worst is None:
        return Condition("Ready", "True", "AllReady", "all that the feed asks for is there and runs")
    return Condition("Ready", worst["status"], worst["reason"], worst["message"])


def invalid(problem: str) -> Condition:
    """Return the summary of a feed whose spec cannot be used."""
    return Condition("Ready", "False", "InvalidSpec", shortened(problem, LONGEST_MESSAGE))


def time(now: datetime) -> str:
    """Return a time as the API writes it, to the second."""
    return f"{now:%Y-%m-%dT%H:%M:%SZ}"


def _severity(part: Manifest) -> tuple[bool, bool, int]:
    return part["status"] != "False", part["reason"] in PASSING, NEEDED.index(part["type"])


def _written(type_: str, new: Condition | None, old: Manifest | None, generation: int, now: datetime) -> Manifest:
    if new is None and old is not None:
        return old
    condition = new or reconciling(type_)
    same = old is not None and old.get("status") == condition.status
    return {
        "type": type_,
        "status": condition.status,
        "reason": condition.reason,
        "message": _message(condition, old),
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"] if same and old is not None else time(now),
    }


def _message(new: Condition, old: Manifest | None) -> str:
    message = shortened(new.message, LONGEST_MESSAGE)
    if not new.quotes or old is None or old.get("reason") != new.reason:
        return message
    before = str(old.get("message", ""))
    return before if _FIGURES.sub("#", before) == _FIGURES.sub("#", message) else message
