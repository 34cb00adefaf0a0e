"""The token bucket and the shared pause."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from marketfeed_operator.api.limits import Bucket, Pause


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 100),
    gaps=st.lists(st.floats(0, 10), min_size=1, max_size=60),
)
def test_no_window_lets_more_through_than_burst_and_rate(rate: float, burst: int, gaps: list[float]) -> None:
    """Between any two calls' starts there are at most `burst` calls and what the rate allows for the time between."""
    bucket, now, starts = Bucket.full(rate, burst, 0.0), 0.0, []
    for gap in gaps:
        now += gap
        bucket, wait_s = bucket.take(now)
        starts.append(now + wait_s)
    assert starts == sorted(starts)
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            assert last - first + 1 <= burst + rate * (starts[last] - starts[first]) + 1e-6


def test_a_burst_passes_at_once_and_the_next_call_waits_its_share() -> None:
    """Three of a burst of three do not wait, the fourth waits for one token."""
    bucket, waits = Bucket.full(2.0, 3, 0.0), []
    for _ in range(4):
        bucket, wait_s = bucket.take(0.0)
        waits.append(wait_s)
    assert waits == [0, 0, 0, 0.5]


def test_a_clock_that_stands_still_gives_no_tokens() -> None:
    """A reading earlier than the last one adds nothing and takes nothing."""
    bucket, _ = Bucket.full(1.0, 1, 10.0).take(10.0)
    assert bucket.take(5.0)[1] == bucket.take(10.0)[1] == 1.0


def test_a_pause_only_grows() -> None:
    """A shorter wish does not end a longer pause."""
    pause = Pause().extended(100.0, 5.0).extended(101.0, 1.0)
    assert pause.left_s(101.0) == 4.0
    assert pause.left_s(106.0) == 0.0
