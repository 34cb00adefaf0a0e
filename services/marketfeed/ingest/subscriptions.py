"""Which streams one connection carries, and the next message that brings it closer to those that it should carry.

One request is under way at a time: an answer without an id can then only mean that one. When all are answered, the
venue is asked what it carries, because an acknowledgement alone has been seen to be wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum, auto

from marketfeed.events import Stream
from marketfeed.exchanges.base import Acknowledged, Refused, Venue

ANSWER_TIMEOUT_S = 10.0
_ATTEMPTS = 3  # after so many the venue's list must hold the stream


class _Kind(Enum):
    ADD = auto()
    REMOVE = auto()
    LIST = auto()


@dataclass(frozen=True, slots=True)
class _Request:
    kind: _Kind
    request_id: int
    streams: frozenset[Stream]
    sent_at: float


class Subscriptions:
    """The state of one connection, from its opening to its end."""

    def __init__(self, venue: Venue, opened_with: Collection[Stream]) -> None:
        self._venue = venue
        self._wanted: frozenset[Stream] = frozenset(opened_with)
        self._carried: set[Stream] = set(opened_with)
        self._refused: dict[Stream, str] = {}
        self._attempts: dict[Stream, int] = {}
        self._under_way: _Request | None = None
        self._last_id = 0
        self._listed = False

    def want(self, streams: Iterable[Stream]) -> None:
        """Set the streams that this connection should carry; what was refused before may be asked for again."""
        self._wanted = frozenset(streams)
        self._refused.clear()
        self._attempts.clear()

    @property
    def carried(self) -> frozenset[Stream]:
        """The streams that the venue has acknowledged."""
        return frozenset(self._carried)

    def problem(self) -> str | None:
        """Return what is missing, None when every wanted stream is carried."""
        for stream, reason in sorted(self._refused.items()):
            return f"the venue refuses {stream}: {reason}"
        missing = len(self._wanted - self._carried)
        return f"{missing} of {len(self._wanted)} streams are not acknowledged yet" if missing else None

    def overdue(self, now: float) -> bool:
        """Return whether an answer has been missing for too long; the connection is then of no use."""
        return self._under_way is not None and now - self._under_way.sent_at > ANSWER_TIMEOUT_S

    def next_message(self, now: float) -> bytes | None:
        """Return the next request to send, None when there is nothing to ask or an answer is still to come.

        The caller keeps the venue's rate. `now` is any monotonic clock, in s.
        """
        if self._under_way is not None:
            return None
        most = self._venue.limits.streams_per_request
        add = sorted(self._wanted - self._carried - self._refused.keys())[:most]
        remove = sorted(self._carried - self._wanted)[:most]
        room = len(self._carried) + len(add) <= self._venue.limits.streams_per_connection
        self._last_id += 1
        if add and (room or not remove):
            self._begin(_Kind.ADD, add, now)
            return self._venue.subscribe(add, self._last_id)
        if remove:
            self._begin(_Kind.REMOVE, remove, now)
            return self._venue.unsubscribe(remove, self._last_id)
        question = None if self._listed else self._venue.list_streams(self._last_id)
        self._listed = True
        if question is not None:
            self._begin(_Kind.LIST, (), now)
        return question

    def acknowledged(self, answer: Acknowledged) -> None:
        """Take the venue's yes."""
        request = self._answered(answer.request_id)
        if request is None:
            return
        if request.kind is _Kind.ADD:
            self._carried |= request.streams
        elif request.kind is _Kind.REMOVE:
            self._carried -= request.streams
        elif answer.streams is not None:
            self._compare(frozenset(answer.streams))

    def refused(self, answer: Refused) -> None:
        """Take the venue's no: what was asked for is not asked again until the wanted streams change."""
        request = self._answered(answer.request_id)
        if request is not None and request.kind is _Kind.ADD:
            self._refused |= dict.fromkeys(request.streams, f"{answer.message} (code {answer.code})")

    def _begin(self, kind: _Kind, streams: Collection[Stream], now: float) -> None:
        self._under_way = _Request(kind, self._last_id, frozenset(streams), now)
        self._listed = False

    def _answered(self, request_id: int | None) -> _Request | None:
        """Return the request that is answered; one without an id can only be the one under way."""
        request = self._under_way
        if request is None or request_id not in (None, request.request_id):
            return None
        self._under_way = None
        self._listed = request.kind is _Kind.LIST
        return request

    def _compare(self, listed: frozenset[Stream]) -> None:
        """Believe the venue's list; a stream that it keeps leaving out is refused."""
        for stream in self._carried - listed:
            self._attempts[stream] = self._attempts.get(stream, 0) + 1
            if self._attempts[stream] >= _ATTEMPTS:
                self._refused[stream] = "it is acknowledged, but not listed"
        self._carried = set(listed)
