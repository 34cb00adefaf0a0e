"""What one reconciliation came to, beside what it observed: all that the status is written from."""

from __future__ import annotations

from dataclasses import dataclass, field

from marketfeed_operator.changes import Difference
from marketfeed_operator.handover import HandOver
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import Manifest
from marketfeed_operator.plan import Plan
from marketfeed_operator.spark import Verdict


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Decisions and their results. `problem` is why there is no plan; then all else is empty."""

    feed: MarketFeed | None = None
    plan: Plan | None = None
    problem: str | None = None
    paused: bool = False
    desired: tuple[Manifest, ...] = ()
    hand_over: HandOver | None = None
    held_back: tuple[Difference, ...] = ()  # destructive changes that wait for approval
    approval: str | None = None  # the hash that would approve them
    analytics: Verdict | None = None  # None where the feed has no streaming job
    releasing: tuple[str, ...] = field(default=())  # topics that are being let go, with why they are still there
