"""Why a connection failed and when to try again."""

from __future__ import annotations

import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.ingest.diagnosis import from_error, from_status, retry_s

FIRST_S, MAX_S = 1.0, 60.0


@pytest.mark.parametrize(
    ("status", "reason", "slow"),
    [
        (451, "geo_blocked", True),
        (403, "forbidden", True),
        (418, "banned", True),
        (429, "rate_limited", True),
        (404, "http_404", False),
        (503, "http_503", False),
    ],
)
def test_a_status_has_a_name(status: int, reason: str, *, slow: bool) -> None:
    """The four ways in which a venue says no are told apart; the status stands in the message."""
    failure = from_status(status)
    assert (failure.reason, failure.status, failure.slow) == (reason, status, slow)
    assert str(status) in failure.message


def test_a_redirect_says_where_to() -> None:
    """Where the venue sends its clients stands in the message; a ban is a ban also when it redirects."""
    failure = from_status(302, "wss://elsewhere.example")
    assert (failure.reason, failure.slow) == ("redirected", False)
    assert "wss://elsewhere.example" in failure.message
    assert from_status(451, "https://elsewhere.example").reason == "geo_blocked"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), "dns"),
        (ssl.SSLCertVerificationError("certificate verify failed"), "tls"),
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(111, "Connection refused"), "refused"),
        (ConnectionResetError(104, "Connection reset"), "unreachable"),
        (ValueError("bad header"), "handshake"),
    ],
)
def test_an_error_has_a_name(error: Exception, reason: str) -> None:
    """Name resolution, TLS, time, refusal and the rest are told apart, and none of them is retried slowly."""
    failure = from_error(error)
    assert (failure.reason, failure.slow, failure.status) == (reason, False, None)
    assert not failure.message.endswith((":", " "))


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_no_is_never_retried_soon(attempt: int, draw: float) -> None:
    """After a ban or a block the wait is at least half the longest one, from the first attempt on."""
    delay = retry_s(from_status(418), attempt, FIRST_S, MAX_S, draw)
    assert MAX_S / 2 <= delay <= MAX_S


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_failure_is_retried_with_a_bounded_growing_delay(attempt: int, draw: float) -> None:
    """An ordinary failure waits a jittered delay: at most the doubled cap, never more than the longest."""
    delay = retry_s(from_error(ConnectionRefusedError()), attempt, FIRST_S, MAX_S, draw)
    assert 0 < delay <= min(MAX_S, FIRST_S * 2 ** min(attempt, 32))
