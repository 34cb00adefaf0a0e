"""Durations: what a person writes, in milliseconds, and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from marketfeed_operator.fields import Duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("250ms", 250), ("2s", 2_000), ("1m", 60_000), ("23h", 82_800_000), ("7d", 604_800_000)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, milliseconds: int) -> None:
    """Each unit has its length; `m` is a minute and `ms` a thousandth of a second."""
    assert Duration(text).milliseconds == milliseconds
    assert Duration(text).seconds == milliseconds / 1000


@settings(deadline=None)  # the claim is not about time
@given(st.integers(1, 999_999_999))
def test_writing_a_duration_loses_nothing(milliseconds: int) -> None:
    """Whatever `of` writes is a valid duration of that length."""
    written = Duration.of(milliseconds)
    assert TypeAdapter(Duration).validate_python(str(written)).milliseconds == milliseconds


def test_a_duration_is_written_in_its_largest_unit() -> None:
    """A minute and a half is 90s, two of them 3m."""
    assert [Duration.of(length) for length in (90_000, 180_000, 604_800_000)] == ["90s", "3m", "7d"]


@pytest.mark.parametrize("text", ["", "2", "s", "0s", "-1s", "1.5h", "1h30m", "2 s", "2S", "1w", "9999999999s", " 2s"])
def test_nothing_else_is_a_duration(text: str) -> None:
    """Numbers without a unit, zero, fractions, sums and unknown units are refused."""
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(text)
