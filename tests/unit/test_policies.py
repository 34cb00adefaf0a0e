"""Waiting before a reconnect."""

from hypothesis import given
from hypothesis import strategies as st

from marketfeed.policies import backoff_s

draws = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(st.integers(min_value=0, max_value=10_000), draws)
def test_the_delay_stays_between_a_tenth_of_first_and_the_maximum(attempt: int, draw: float) -> None:
    """However often it failed, the delay is never above the maximum and never a hot loop."""
    assert 0.1 <= backoff_s(attempt, 1.0, 60.0, draw) <= 60.0


def test_the_cap_doubles_up_to_the_maximum() -> None:
    """With the largest draw the delays are 1, 2, 4 … 60 s."""
    delays = [round(backoff_s(attempt, 1.0, 60.0, 1 - 1e-12), 6) for attempt in range(8)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_jitter_covers_the_range() -> None:
    """Two clients that fail together draw their delay from all of it, so that they do not return together."""
    assert (backoff_s(5, 1.0, 60.0, 0.0), backoff_s(5, 1.0, 60.0, 0.5)) == (3.2, 17.6)
