"""How fast a total rises."""

from __future__ import annotations

import pytest

from marketfeed.pace import Pace


def test_a_first_look_knows_no_pace() -> None:
    """One total says nothing about a pace, however large it is, and neither does a second one of the same moment."""
    pace = Pace()
    assert (pace.update(1_000, now=5.0), pace.update(2_000, now=5.0)) == (0.0, 0.0)


@pytest.mark.parametrize("every_s", [0.25, 1.0, 3.0, 30.0])
def test_a_steady_pace_is_told_however_often_one_looks(every_s: float) -> None:
    """Forty events a second are forty, whether looked at four times a second or twice a minute."""
    pace = Pace(window_s=10.0)
    told = [pace.update(int(40 * every_s * look), now=every_s * look) for look in range(100)]
    assert told[1:] == pytest.approx([40.0] * 99)


def test_only_the_window_counts() -> None:
    """Ten seconds after the last event the pace is zero, whatever came before."""
    pace = Pace(window_s=10.0)
    for second in range(20):
        pace.update(100 * second, now=second)
    told = [pace.update(1_900, now=20 + second) for second in range(10)]
    assert told[0] == pytest.approx(90.0)
    assert told == sorted(told, reverse=True)
    assert told[-1] == 0.0


def test_few_totals_are_kept() -> None:
    """Looking for ever takes no more memory than one window of looks."""
    pace = Pace(window_s=10.0)
    for look in range(10_000):
        pace.update(look, now=look / 4)
    assert len(pace._seen) <= 42
