"""Topics: what an existing one may differ in, and how durations are written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marketfeed.errors import ConfigurationError
from marketfeed.settings import Topic
from marketfeed.topics import contradictions, parse_duration_ms, render_duration

DAY_MS = 86_400_000
WANTED = Topic("binance.trades", 3, 2, 7 * DAY_MS)


@pytest.mark.parametrize(
    "found",
    [
        WANTED,
        replace(WANTED, partitions=6),
        replace(WANTED, replicas=3),
        replace(WANTED, retention_ms=8 * DAY_MS),
        replace(WANTED, retention_ms=-1),
        replace(WANTED, retention_ms=None),
    ],
)
def test_more_than_is_wanted_is_fine(found: Topic) -> None:
    """A topic that has more of anything, or keeps its records for ever, serves."""
    assert contradictions(WANTED, found) == []


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (replace(WANTED, partitions=2), "topic binance.trades has 2 partitions, 3 are asked for"),
        (replace(WANTED, replicas=1), "topic binance.trades has 1 replicas, 2 are asked for"),
        (replace(WANTED, retention_ms=DAY_MS), "topic binance.trades keeps records for 1d, 7d are asked for"),
    ],
)
def test_less_than_is_wanted_is_named(found: Topic, sentence: str) -> None:
    """A topic that has less of something cannot serve, and the sentence says of what."""
    assert contradictions(WANTED, found) == [sentence]


def test_no_time_is_as_long_as_for_ever() -> None:
    """A topic with a bounded retention contradicts one that shall keep its records for ever."""
    assert contradictions(replace(WANTED, retention_ms=-1), WANTED)
    assert contradictions(replace(WANTED, retention_ms=None), replace(WANTED, retention_ms=1)) == []


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("7d", 7 * DAY_MS), ("12h", 43_200_000), ("30m", 1_800_000), ("45s", 45_000), ("0s", 0), ("unlimited", -1)],
)
def test_durations_are_read(text: str, milliseconds: int) -> None:
    """Each unit means what it says."""
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "-1d", "1.5h", "7w", "7d\n", "٣d"])
def test_other_durations_are_refused(text: str) -> None:
    """Anything else is refused with the forms that are right."""
    with pytest.raises(ConfigurationError, match="write 7d"):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (7 * DAY_MS, "7d"),
        (3_600_000, "1h"),
        (90_000, "90s"),
        (1500, "1500ms"),
        (-1, "unlimited"),
        (None, "the broker's default"),
    ],
)
def test_durations_are_written_in_their_largest_unit(milliseconds: int | None, text: str) -> None:
    """A duration reads as a person would write it."""
    assert render_duration(milliseconds) == text
