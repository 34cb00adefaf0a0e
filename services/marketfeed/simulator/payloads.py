"""Binance's payloads as the simulator reads them back: from recordings, and from its own journals. No I/O.

Source: binance-spot-api-docs, web-socket-streams.md.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from marketfeed.simulator.source import Issued


class Trade(msgspec.Struct, frozen=True):
    """A payload of the stream `trade`."""

    t: int
    p: str
    q: str
    T: int
    m: bool
    M: bool = True


class AggTrade(msgspec.Struct, frozen=True):
    """A payload of the stream `aggTrade` without `e`, `E` and `s`: just what the REST endpoint shows."""

    a: int
    p: str
    q: str
    f: int
    l: int  # noqa: E741 - the venue's name
    T: int
    m: bool
    M: bool = True


class BookTicker(msgspec.Struct, frozen=True):
    """A payload of the stream `bookTicker`."""

    u: int
    b: str
    B: str
    a: str
    A: str


class Key(NamedTuple):
    """What a row is found by: the payload's id and its time in ms."""

    id: int
    time_ms: int


class _Any(msgspec.Struct):
    """What payloads are numbered and dated by; the same letter means other things in other kinds."""

    e: str = ""
    t: Any = None
    a: Any = None
    u: Any = None
    T: int | None = None
    E: int | None = None


MICROSECOND = ("MICROSECOND", "microsecond")
"""How clients ask for times in us: in a websocket's URL (`timeUnit`), in a REST header (`X-MBX-TIME-UNIT`)."""

_TIME = re.compile(rb'"([ET])":(\d+)')


class Form(NamedTuple):
    """How a client wants its frames: wrapped with the stream's name or bare, times in us or in ms."""

    combined: bool
    microseconds: bool = False

    def apply(self, stream: str, payload: bytes) -> bytes:
        """Return the text of one frame."""
        if self.microseconds:
            payload = _TIME.sub(rb'"\1":\g<2>000', payload)
        return b'{"stream":"%b","data":%b}' % (stream.encode(), payload) if self.combined else payload


read_trade = msgspec.json.Decoder(Trade).decode
read_agg_trade = msgspec.json.Decoder(AggTrade).decode
read_book_ticker = msgspec.json.Decoder(BookTicker).decode
_read_any = msgspec.json.Decoder(_Any).decode


def trade_key(payload: bytes) -> Key:
    """Return what a trade is found by."""
    row = read_trade(payload)
    return Key(row.t, row.T)


def agg_trade_key(payload: bytes) -> Key:
    """Return what an aggregate trade is found by."""
    row = read_agg_trade(payload)
    return Key(row.a, row.T)


def issued(stream: str, payload: bytes) -> Issued:
    """Read the id and the time of any payload; raises msgspec.DecodeError for what is no JSON object."""
    numbers = _read_any(payload)
    id_ = {"trade": numbers.t, "aggTrade": numbers.a}.get(numbers.e, numbers.u)
    time_ms = numbers.E if numbers.T is None else numbers.T
    return Issued(stream, id_ if isinstance(id_, int) else None, time_ms, payload)
