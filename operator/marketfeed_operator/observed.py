"""What is there: everything that one reconciliation looks at, gathered before it decides anything.

No client is in here, and nothing is asked for later: what a decision needs and this does not hold belongs in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marketfeed_operator.objects import Key, Manifest, Served


@dataclass(frozen=True, slots=True)
class Sample:
    """What one pod's service said of itself when it was asked last; `stats` is None when it did not answer."""

    pod: str
    at: float  # s since the epoch
    stats: Mapping[str, Any] | None
    carried: frozenset[str] = frozenset()  # an ingestor's streams that the venue has acknowledged, as BTCUSDT@trade
    desired: frozenset[str] | None = None  # the streams that an ingestor's file asks for; None where it does not say
    problem: str | None = None  # why it is not ready, or why it did not answer


@dataclass(frozen=True, slots=True)
class DirectTopics:
    """What the brokers said of topics that no KafkaTopic stands for; `problem` says what is wrong."""

    at: float
    names: frozenset[str] = frozenset()  # that exist as they should be
    held: frozenset[str] = frozenset()  # that keep their records for longer than they should, until it is approved
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """The cluster as far as one feed goes."""

    feed: Manifest
    served: Served = Served()
    children: Mapping[Key, Manifest] = field(default_factory=dict)  # ours by label, and what we would adopt by name
    pods: tuple[Manifest, ...] = ()
    secrets: Mapping[str, str | None] = field(default_factory=dict)  # name → version; None where there is none
    samples: Mapping[str, Sample] = field(default_factory=dict)  # by pod
    direct: DirectTopics | None = None
    failures: Mapping[Key, str] = field(default_factory=dict)  # why an object could not be written the last time
