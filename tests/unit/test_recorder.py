"""Events as objects, and their series."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from marketfeed_operator.api.recorder import About, Recorder, continued, manifest
from marketfeed_operator.objects import MARKETFEED

NOW = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
ABOUT = About(MARKETFEED, "feeds", "spot", "uid-1")


@dataclass(frozen=True)
class Note:
    """A notice."""

    type: str = "Normal"
    reason: str = "ShardAdded"
    message: str = "A shard was added"


def test_a_repetition_counts_up_and_a_difference_does_not() -> None:
    """The same words about the same object continue a series; other words, another object or uid begin one."""
    recorder = Recorder()
    assert recorder.happened(ABOUT, Note(), NOW, "a").count == 1
    again = recorder.happened(ABOUT, Note(), NOW + timedelta(minutes=9), "b")
    assert (again.event, again.count) == ("a", 2)
    assert recorder.happened(ABOUT, Note(message="Two were added"), NOW, "c").count == 1
    assert recorder.happened(replace(ABOUT, uid="uid-2"), Note(), NOW, "d").count == 1


def test_a_series_ends_by_silence_or_when_it_is_forgotten() -> None:
    """After ten quiet minutes, or when its event could not be written, the next one is new."""
    recorder = Recorder()
    recorder.happened(ABOUT, Note(), NOW, "a")
    assert recorder.happened(ABOUT, Note(), NOW + timedelta(minutes=11), "b").event == "b"
    recorder.forget(ABOUT, Note())
    assert recorder.happened(ABOUT, Note(), NOW + timedelta(minutes=11), "c").event == "c"


def test_memory_is_bounded() -> None:
    """A storm of different events pushes the oldest series out."""
    recorder = Recorder()
    for number in range(5000):
        recorder.happened(ABOUT, Note(message=str(number)), NOW, "x")
    assert len(recorder._series) <= 2001


def test_an_event_fits_the_api_whatever_is_said() -> None:
    """The note stays below 1024 bytes, without credentials; times are microseconds in UTC."""
    note = Note(message="ß" * 3000 + " Bearer abc")
    event = manifest(ABOUT, note, Recorder().happened(ABOUT, note, NOW, "spot.1"), "replica" * 40)
    assert len(event["note"].encode()) <= 1024
    assert len(event["reportingInstance"]) <= 128
    assert event["eventTime"] == "2026-01-01T12:00:00.250000Z"
    assert event["regarding"] == {
        "apiVersion": "marketfeed.dev/v1alpha1",
        "kind": "MarketFeed",
        "namespace": "feeds",
        "name": "spot",
        "uid": "uid-1",
    }


def test_a_continued_event_changes_its_series_only() -> None:
    """The patch holds the count and the last time; the API refuses all else."""
    recorder = Recorder()
    recorder.happened(ABOUT, Note(), NOW, "a")
    patch = continued(recorder.happened(ABOUT, Note(), NOW, "b"))
    assert patch == {"series": {"count": 2, "lastObservedTime": "2026-01-01T12:00:00.250000Z"}}
