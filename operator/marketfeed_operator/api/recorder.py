"""Events as objects, and which of them continue one that was written before. Pure: clock and names are passed in.

What does not live here: when an event is worth writing (status) and writing it (cluster).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from marketfeed_operator.api.errors import presentable
from marketfeed_operator.objects import EVENT, GROUP, Kind, Manifest

CONTROLLER = f"{GROUP}/operator"
SERIES_LASTS = timedelta(minutes=10)
_LONGEST_NOTE_BYTES = 1000  # the API takes 1024
_LONGEST_INSTANCE = 128
_MOST_SERIES = 2000


class Noted(Protocol):
    """What happened, for people: `type` is Normal or Warning, `reason` one CamelCase word."""

    @property
    def type(self) -> str:
        """Return Normal or Warning."""

    @property
    def reason(self) -> str:
        """Return why, in a CamelCase word."""

    @property
    def message(self) -> str:
        """Return what happened, in a sentence."""


@dataclass(frozen=True, slots=True)
class About:
    """The object that an event is about; the event is written to its namespace."""

    kind: Kind
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Series:
    """An event that was written, and how often what it says has happened."""

    event: str  # the event's name
    count: int
    last: datetime


_SeriesKey = tuple[About, str, str, str]


@dataclass(slots=True)
class Recorder:
    """The events of the last minutes, so that a repetition counts one up and makes no new one."""

    _series: dict[_SeriesKey, Series] = field(default_factory=dict)

    def happened(self, about: About, notice: Noted, now: datetime, new_name: str) -> Series:
        """Return the series that this belongs to: `count` 1 means that it must be created, as `new_name`."""
        key = (about, notice.type, notice.reason, notice.message)
        self._forget_old(now)
        known = self._series.pop(key, None)  # back in at the end: the first one is the longest unseen
        self._series[key] = Series(known.event, known.count + 1, now) if known else Series(new_name, 1, now)
        return self._series[key]

    def forget(self, about: About, notice: Noted) -> None:
        """Let the next event of this kind be a new one: what was remembered is not there."""
        self._series.pop((about, notice.type, notice.reason, notice.message), None)

    def _forget_old(self, now: datetime) -> None:
        for key, series in list(self._series.items()):
            if now - series.last <= SERIES_LASTS and len(self._series) <= _MOST_SERIES:
                return
            del self._series[key]


def manifest(about: About, notice: Noted, series: Series, instance: str) -> Manifest:
    """Return a new event (events.k8s.io/v1); `instance` is the replica that reports it."""
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": series.event, "namespace": about.namespace},
        "eventTime": micro_time(series.last),
        "type": notice.type,
        "reason": notice.reason,
        "action": "Reconcile",
        "note": _fit(presentable(notice.message)),
        "regarding": {
            "apiVersion": about.kind.api_version,
            "kind": about.kind.kind,
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        },
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:_LONGEST_INSTANCE],
    }


def continued(series: Series) -> Manifest:
    """Return the merge patch that counts an event up."""
    return {"series": {"count": series.count, "lastObservedTime": micro_time(series.last)}}


def micro_time(at: datetime) -> str:
    """Return a time as the API's MicroTime."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _fit(note: str) -> str:
    return note.encode()[:_LONGEST_NOTE_BYTES].decode(errors="ignore")
