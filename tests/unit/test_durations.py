"""Lengths of time as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.durations import parse_ms, render

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("250ms", 250), ("45s", 45_000), ("30m", 1_800_000), ("12h", 43_200_000), ("7d", 7 * DAY_MS), ("0s", 0)],
)
def test_each_unit_means_what_it_says(text: str, milliseconds: int) -> None:
    """A whole number and a unit are that many milliseconds."""
    assert parse_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "-1d", "1.5h", "7w", "7d\n", "٣d", "1d12h", "7D"])
def test_anything_else_is_refused_with_the_units(text: str) -> None:
    """What is no duration is refused in a sentence that names the units there are."""
    with pytest.raises(ValueError, match="one unit of ms, s, m, h, d"):
        parse_ms(text)


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(7 * DAY_MS, "7d"), (3_600_000, "1h"), (90_000, "90s"), (1_500, "1500ms"), (0, "0d")]
)
def test_the_longest_whole_unit_is_written(milliseconds: int, text: str) -> None:
    """A duration reads as a person would write it."""
    assert render(milliseconds) == text


@given(st.integers(min_value=0, max_value=10**15))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    """Every whole number of milliseconds survives being written."""
    assert parse_ms(render(milliseconds)) == milliseconds
