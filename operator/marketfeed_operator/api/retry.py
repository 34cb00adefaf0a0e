"""Whether a failed call to the API server is made again, and when: pure policy.

What does not live here: what an answer means (errors) and waiting (cluster).
"""

from __future__ import annotations

from dataclasses import dataclass

from marketfeed.policies import backoff_s
from marketfeed_operator.api.errors import ApiError, Throttled, Unanswered


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient a call is. A caller has a work queue behind it, so a call gives up soon."""

    attempts: int = 4
    first_s: float = 0.2
    max_s: float = 5.0
    longest_pause_s: float = 30.0  # more is not believed: the queue comes back to it anyway
    default_pause_s: float = 1.0


def asked_pause_s(error: ApiError, policy: Retries) -> float | None:
    """Return how long the server wants to be left alone, bounded; None where it asks for nothing."""
    if error.retry_after_s is None:
        return policy.default_pause_s if isinstance(error, Throttled) else None
    return min(max(error.retry_after_s, 0.0), policy.longest_pause_s)


def next_wait_s(error: ApiError, attempt: int, policy: Retries, *, idempotent: bool, draw: float) -> float | None:
    """Return the wait before the next attempt, s; None where there must be none.

    `attempt` counts from 0; `draw` is a random number in [0, 1). A throttled call was not executed, so that any may be
    repeated; one that went unanswered may have been, so that only an idempotent one may. All else is an answer.
    """
    repeatable = isinstance(error, Throttled) or (idempotent and isinstance(error, Unanswered))
    if not repeatable or attempt + 1 >= policy.attempts:
        return None
    own = backoff_s(attempt, policy.first_s, policy.max_s, draw)
    asked = asked_pause_s(error, policy)
    # Later than asked, never earlier, and not everybody at the same moment.
    return own if asked is None else asked + own
