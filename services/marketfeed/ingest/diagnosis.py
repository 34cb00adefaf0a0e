"""Why a connection could not be made, in one word for a metric and one sentence for a person; and when to try again."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from marketfeed.policies import backoff_s

_STATUS_REASONS = {
    403: ("forbidden", "the venue's firewall refuses this address"),
    418: ("banned", "the venue has banned this address for a while: too many requests"),
    429: ("rate_limited", "too many connection attempts from this address"),
    451: ("geo_blocked", "the venue does not serve this country; use another endpoint or region"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A connection that was not made. `slow`: the venue said no; asking again soon makes it worse."""

    reason: str
    message: str
    status: int | None = None
    slow: bool = False


def from_status(status: int, location: str | None = None) -> Failure:
    """Name an HTTP answer to the upgrade request; `location` is where it sends the client instead."""
    if status in _STATUS_REASONS:
        reason, message = _STATUS_REASONS[status]
        return Failure(reason, f"HTTP {status}: {message}", status, slow=True)
    if location is not None:
        message = (
            f"HTTP {status}: redirected to {location}, which is not followed; set the endpoint to where it shall go"
        )
        return Failure("redirected", message, status)
    return Failure(f"http_{status}", f"HTTP {status} instead of a websocket", status)


def from_error(error: BaseException) -> Failure:
    """Name what stopped a connection before there was an answer."""
    names: tuple[tuple[type[BaseException], str], ...] = (
        (socket.gaierror, "dns"),
        (ssl.SSLError, "tls"),
        (TimeoutError, "timeout"),
        (ConnectionRefusedError, "refused"),
        (OSError, "unreachable"),
    )
    reason = next((name for kind, name in names if isinstance(error, kind)), "handshake")
    return Failure(reason, f"{type(error).__name__}: {error}".removesuffix(": "))


def retry_s(failure: Failure, attempt: int, first_s: float, max_s: float, draw: float) -> float:
    """Return the delay before the next attempt, in s. A venue that said no is left alone for about the longest one."""
    if failure.slow:
        return max_s * (0.5 + 0.5 * draw)
    return backoff_s(attempt, first_s, max_s, draw)
