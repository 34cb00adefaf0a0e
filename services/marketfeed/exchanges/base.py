"""What every venue module offers; the docstrings are the contract that tests/contracts holds each of them to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from marketfeed.events import Channel, Gap, Grade, Record, Stream


@dataclass(frozen=True, slots=True)
class Limits:
    """What the venue allows one client; sources stand in each venue's module."""

    streams_per_connection: int
    messages_per_second: float  # that a client may send on one connection, pings and pongs included
    connection_attempts: int  # per `connection_window_s` and egress address
    connection_window_s: float
    connection_lifetime_s: float
    request_weight_per_minute: int
    streams_per_request: int  # in one SUBSCRIBE


class Control:
    """What a venue says beside its data."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Acknowledged(Control):
    """The venue accepted the request with this id. `streams` is filled where the answer lists them."""

    request_id: int
    streams: tuple[Stream, ...] | None = None


@dataclass(frozen=True, slots=True)
class Refused(Control):
    """The venue refused a request; `request_id` is None where it does not say which."""

    request_id: int | None
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Closing(Control):
    """The venue says that it will close this connection soon: open another one now."""

    reason: str


Event = Record | Control

Parse = Callable[[bytes, int], Sequence[Event]]
"""`parse(frame, ingestion_time_us)`: the events of one frame, in its order; raises BadFrame and nothing else."""


@dataclass(frozen=True, slots=True)
class Field:
    """Where a record's number stands on the wire: behind which key, and what follows its digits in the record."""

    key: str
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One REST request that answers (part of) a gap: GET `path` with `query`, at the cost of `weight`."""

    path: str
    query: dict[str, str]
    weight: int


class Venue(Protocol):
    """One exchange's public market data, without any I/O."""

    name: str
    channels: frozenset[Channel]
    limits: Limits
    # By kind of record: the wire's fields behind each of its numbers, in the record's order, for frames whose letters
    # tell all the rest (see `transcript`). Empty where a venue's frames are not like that.
    fields: Mapping[type[Record], Mapping[str, Field]]
    websocket_url: str  # default base URLs; a feed may name others
    rest_urls: tuple[str, ...]

    def url(self, base: str, streams: Collection[Stream]) -> str:
        """Return the websocket URL under `base` that delivers these streams from its first frame on."""

    def subscribe(self, streams: Collection[Stream], request_id: int) -> bytes:
        """Return the text message that adds these streams to an open connection."""

    def unsubscribe(self, streams: Collection[Stream], request_id: int) -> bytes:
        """Return the text message that takes these streams off an open connection."""

    def list_streams(self, request_id: int) -> bytes | None:
        """Return the text message that asks which streams a connection carries; None where the venue cannot say."""

    def parser(self) -> Parse:
        """Return a parse function for one connection; it may keep caches but no clock."""

    def grade(self, channel: Channel) -> Grade:
        """Return how strongly this channel's ids prove completeness."""

    def gap(self, previous: Record, record: Record) -> Gap | None:
        """Return the ids missing between two neighbours of a stream; None: nothing missing, or no way to know."""

    def backfill(self, gap: Gap) -> list[Request]:
        """Return the REST requests that fetch the gap, the cheapest way the venue has; empty where it has none."""
