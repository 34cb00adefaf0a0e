"""What drives the simulated venue: a source of issued payloads in the order of their times. No I/O.

Two sources exist: `market.Market` draws a synthetic market, `tape.Tape` plays recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec


class Issued(msgspec.Struct, frozen=True, gc=False):
    """One payload that the venue issues on one stream.

    `stream` is the name on the wire (`btcusdt@trade`), `id` and `time_ms` are the payload's own (None where its kind
    has none), `payload` the exact bytes of the `data` object.
    """

    stream: str
    id: int | None
    time_ms: int | None
    payload: bytes


class Depth(NamedTuple):
    """An order book at one update id: levels `(price, quantity)` as texts, best first."""

    update_id: int
    bids: Sequence[tuple[str, str]]
    asks: Sequence[tuple[str, str]]


class Source(Protocol):
    """A venue's day, one step at a time. Times given by `due` are ms after the beginning."""

    @property
    def symbols(self) -> Sequence[str]:
        """The symbols that the venue lists, upper case."""

    @property
    def streams(self) -> Sequence[str]:
        """The names on the wire of every stream that it issues on."""

    def begin(self, now_ms: int) -> None:
        """Start the day at this time (ms since 1970 UTC); called once, before `due`."""

    def due(self) -> float | None:
        """Return when the next step happens; None: the day is over."""

    def step(self) -> Sequence[Issued]:
        """Let the next step happen and return what it issues; called only while `due` is not None."""

    def depth(self, symbol: str, limit: int) -> Depth:
        """Return the book as of the last step, at most `limit` levels a side."""
