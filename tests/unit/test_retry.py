"""Which calls are made again, and when."""

from __future__ import annotations

import pytest

from marketfeed_operator.api.errors import ApiError, Conflict, Forbidden, Gone, Invalid, NotFound, Throttled, Unanswered
from marketfeed_operator.api.retry import Retries, asked_pause_s, next_wait_s

POLICY = Retries()


@pytest.mark.parametrize("error", [Conflict, Forbidden, Gone, Invalid, NotFound, ApiError])
def test_an_answer_is_an_answer(error: type[ApiError]) -> None:
    """What the server refused is never sent again unchanged."""
    assert next_wait_s(error(409, "", "no"), 0, POLICY, idempotent=True, draw=0.5) is None


def test_an_unanswered_call_is_repeated_only_if_that_is_harmless() -> None:
    """A creation that may have happened is not made twice; an apply is repeated."""
    error = Unanswered(0, "Timeout", "no answer")
    assert next_wait_s(error, 0, POLICY, idempotent=False, draw=0.5) is None
    assert next_wait_s(error, 0, POLICY, idempotent=True, draw=0.5) == pytest.approx(0.11)


def test_a_throttled_call_was_not_executed_so_any_is_repeated() -> None:
    """It waits at least as long as asked, also where the call is not idempotent."""
    wait_s = next_wait_s(Throttled(429, "", "slowly", 3.0), 0, POLICY, idempotent=False, draw=0.0)
    assert wait_s is not None
    assert 3.0 < wait_s < 3.5


def test_patience_ends() -> None:
    """After the last attempt there is no wait, whatever the error."""
    assert next_wait_s(Throttled(429, "", "", 1.0), POLICY.attempts - 1, POLICY, idempotent=True, draw=0.5) is None


def test_an_endless_pause_is_not_believed() -> None:
    """A server that asks for an hour gets the longest pause; one that throttles without a time gets the default."""
    assert asked_pause_s(Throttled(429, "", "", 3600.0), POLICY) == POLICY.longest_pause_s
    assert asked_pause_s(Throttled(429, "", ""), POLICY) == POLICY.default_pause_s
    assert asked_pause_s(Unanswered(503, "", ""), POLICY) is None
    assert asked_pause_s(Unanswered(503, "", "", 2.0), POLICY) == 2.0
