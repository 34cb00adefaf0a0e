"""The venue's limits, with a clock of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from marketfeed.simulator.limits import Heartbeat, RestLimits, SlowReader, WebsocketLimits, WeightBudget, Window


@given(st.lists(st.floats(0, 3), max_size=40), st.integers(1, 6))
def test_a_window_never_lets_more_through(gaps: list[float], limit: int) -> None:
    """In no second are there more allowed events than the limit."""
    window, now, allowed = Window(limit, 1.0), 0.0, []
    for gap in gaps:
        now += gap
        if window.allows(now):
            allowed.append(now)
    assert all(sum(start <= at < start + 1.0 for at in allowed) <= limit for start in allowed)


def test_a_window_opens_again() -> None:
    """After the window has passed, as many events are allowed as before."""
    window = Window(2, 1.0)
    assert [window.allows(now) for now in (0.0, 0.1, 0.2, 1.0, 1.05, 1.11)] == [True, True, False, True, False, True]


def _heartbeat() -> Heartbeat:
    return Heartbeat(0.0, WebsocketLimits())


def test_pings_go_out_every_interval() -> None:
    """A ping is due every 20 s, once."""
    pulse = _heartbeat()
    assert [now for now in range(70) if pulse.beat(float(now), b"%d" % now)] == [20, 40, 60]


def test_a_mute_client_is_closed_after_the_timeout() -> None:
    """Without a pong a connection ends 60 s after the first unanswered ping, no earlier."""
    pulse = _heartbeat()
    for now in range(20, 80):
        pulse.beat(float(now), b"%d" % now)
        assert pulse.verdict(float(now)) is None
    assert pulse.verdict(80.0) == "Pong timeout"


def test_a_pong_answers_all_earlier_pings() -> None:
    """A pong to the latest ping clears the older ones; one with a foreign payload clears nothing."""
    pulse = _heartbeat()
    pulse.beat(20.0, b"one")
    pulse.beat(40.0, b"two")
    pulse.pong(b"unasked")
    assert pulse.verdict(80.0) == "Pong timeout"
    pulse.pong(b"two")
    assert pulse.verdict(80.0) is None


def test_connections_end_after_their_life() -> None:
    """A connection is closed at 24 hours, however well it answers."""
    pulse = _heartbeat()
    assert pulse.verdict(86_399.0) is None
    assert pulse.verdict(86_400.0) is not None


def test_a_slow_reader_has_a_grace() -> None:
    """Over the bound for the whole grace is too long; dipping under it starts the grace anew."""
    slow = SlowReader(WebsocketLimits(send_buffer_bytes=100, slow_reader_s=5.0))
    assert [slow.verdict(float(now), 200) for now in range(5)] == [False] * 5
    assert not slow.verdict(5.0, 50)
    assert not slow.verdict(6.0, 200)
    assert slow.verdict(11.0, 200)


def test_a_flooded_buffer_has_no_grace() -> None:
    """Beyond four times the bound a client goes at once: memory is bounded."""
    assert SlowReader(WebsocketLimits(send_buffer_bytes=100)).verdict(0.0, 401)


def test_weight_is_counted_by_the_minute() -> None:
    """Weight adds up within a minute of the clock and starts from nothing in the next."""
    budget = WeightBudget(RestLimits(weight_per_minute=100))
    assert [budget.charge(40, now).used for now in (60.0, 61.0, 119.9, 120.0)] == [40, 80, 120, 40]


def test_too_much_weight_is_refused_until_the_minute_ends() -> None:
    """Beyond the limit the answer is 429, with the rest of the minute as the time to stay away."""
    budget = WeightBudget(RestLimits(weight_per_minute=100))
    budget.charge(90, 60.0)
    charge = budget.charge(20, 75.5)
    assert (charge.status, charge.retry_after_s) == (429, 45)
    assert budget.charge(20, 120.0).status == 200


def test_going_on_after_refusals_is_banned() -> None:
    """A client that ignores its refusals gets 418 for the length of the ban, then starts anew."""
    budget = WeightBudget(RestLimits(weight_per_minute=10, refusals_before_ban=2, ban_s=120.0))
    assert [budget.charge(10, 60.0 + second).status for second in range(5)] == [200, 429, 429, 418, 418]
    assert budget.charge(1, 100.0).retry_after_s == 83
    assert budget.charge(1, 183.0).status == 200
