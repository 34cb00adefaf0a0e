"""The venue's limits as small counters and watches. Pure: the caller brings the time, in seconds of a monotonic clock.

Sources: binance-spot-api-docs, web-socket-streams.md ("General WSS information", "Websocket Limits") and rest-api.md
("IP Limits").
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import Any


def _limit(default: float, help_: str) -> Any:
    """Declare a limit with its default, whose type it keeps, and the help text of its option."""
    return field(default=default, metadata={"help": help_})


@dataclass(frozen=True, slots=True)
class WebsocketLimits:
    """What websocket clients may do: the venue's own numbers, except for the buffers, which it does not publish."""

    messages_per_s: int = _limit(5, "Messages a client may send a second (pings and pongs count) before it is cut.")
    streams_per_connection: int = _limit(1024, "Streams on one connection.")
    connection_attempts: int = _limit(300, "Handshakes within the window; further ones get HTTP 429.")
    attempts_window_s: float = _limit(300.0, "Window of the handshakes, s.")
    ping_interval_s: float = _limit(20.0, "Time between the server's pings, s.")
    pong_timeout_s: float = _limit(60.0, "Longest wait for a pong before a client is cut, s.")
    connection_life_s: float = _limit(86_400.0, "Age at which a connection is closed, s.")
    send_buffer_bytes: int = _limit(16 * 1024 * 1024, "Unread bytes beyond which a client counts as a slow reader.")
    slow_reader_s: float = _limit(5.0, "How long a slow reader is tolerated, s (never beyond four times the bytes).")


@dataclass(frozen=True, slots=True)
class RestLimits:
    """What one REST client may ask: the venue's own weight and shortest ban; when it bans is not published."""

    weight_per_minute: int = _limit(6000, "Request weight of one address a minute; beyond it HTTP 429.")
    refusals_before_ban: int = _limit(10, "Requests answered 429 in a minute before the address is banned (418).")
    ban_s: float = _limit(120.0, "Length of a ban, s.")


class Window:
    """At most `limit` events within any `per_s` seconds; memory is bounded by the limit."""

    def __init__(self, limit: int, per_s: float) -> None:
        self._limit, self._per_s = limit, per_s
        self._times: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Count one more event, and tell whether it is still within the limit; a refused one does not count."""
        while self._times and self._times[0] <= now - self._per_s:
            self._times.popleft()
        if len(self._times) >= self._limit:
            return False
        self._times.append(now)
        return True


@dataclass(slots=True)
class Heartbeat:
    """The pings of one connection and what must happen when: `beat` is called now and then and says what is due."""

    opened: float
    limits: WebsocketLimits
    _next_ping: float = field(init=False)
    _unanswered: dict[bytes, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._next_ping = self.opened + self.limits.ping_interval_s

    def beat(self, now: float, payload: bytes) -> bool:
        """Return whether a ping with this payload is due now; it then counts as sent."""
        if now < self._next_ping:
            return False
        self._next_ping = now + self.limits.ping_interval_s
        self._unanswered[payload] = now
        return True

    def pong(self, payload: bytes) -> None:
        """Take a pong: it answers the ping of this payload and all before it; an unsolicited one answers none."""
        sent = self._unanswered.get(payload)
        if sent is not None:
            self._unanswered = {other: at for other, at in self._unanswered.items() if at > sent}

    def verdict(self, now: float) -> str | None:
        """Return why the connection must be closed now, or None."""
        if self._unanswered and now - next(iter(self._unanswered.values())) >= self.limits.pong_timeout_s:
            return "Pong timeout"
        if now - self.opened >= self.limits.connection_life_s:
            return "Connection lifetime is over"
        return None


@dataclass(slots=True)
class SlowReader:
    """Watches one connection's send buffer: it may be over the bound for a while, not for long."""

    limits: WebsocketLimits
    _over_since: float | None = None

    def verdict(self, now: float, buffered_bytes: int) -> bool:
        """Return whether the client must go: over the bound for the whole grace, or over four times the bound."""
        if buffered_bytes <= self.limits.send_buffer_bytes:
            self._over_since = None
            return False
        if self._over_since is None:
            self._over_since = now
        late = now - self._over_since >= self.limits.slow_reader_s
        return late or buffered_bytes > 4 * self.limits.send_buffer_bytes


@dataclass(frozen=True, slots=True)
class Charge:
    """What a request cost: the status to answer with, the weight used this minute, and how long to stay away, s."""

    status: int
    used: int
    retry_after_s: int = 0


class WeightBudget:
    """The request weight of one address: counted by the clock's minute; who goes on after refusals is banned."""

    def __init__(self, limits: RestLimits) -> None:
        self._limits = limits
        self._minute = -1
        self._used = 0
        self._refusals = 0
        self._banned_until = 0.0

    def charge(self, weight: int, now: float) -> Charge:
        """Count one request; status 200, 429 (too much this minute) or 418 (banned)."""
        if now < self._banned_until:
            return Charge(418, self._used, ceil(self._banned_until - now))
        if (minute := int(now // 60)) != self._minute:
            self._minute, self._used, self._refusals = minute, 0, 0
        self._used += weight
        if self._used <= self._limits.weight_per_minute:
            return Charge(200, self._used)
        self._refusals += 1
        if self._refusals > self._limits.refusals_before_ban:
            self._banned_until = now + self._limits.ban_s
            return Charge(418, self._used, ceil(self._limits.ban_s))
        return Charge(429, self._used, ceil((minute + 1) * 60 - now))
