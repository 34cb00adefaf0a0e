"""A made-up market as Binance's combined streams would send it: frames, and the bytes that carry them on a socket.

Three symbols, ids contiguous per stream, prices that wander by ticks; half of the frames are book tickers, a third
prints. The same seed gives the same bytes. Nothing here is timed.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

_PATTERN = (
    "bookTicker",
    "trade",
    "bookTicker",
    "aggTrade",
    "bookTicker",
    "trade",
    "bookTicker",
    "bookTicker",
    "trade",
    "aggTrade",
)
_FIRST_CENTS = {"BTCUSDT": 9_743_210, "ETHUSDT": 352_177, "BNBUSDT": 64_120}
SYMBOLS = tuple(_FIRST_CENTS)
_FRAMES_PER_MILLISECOND = 5
_SHORT = 126  # the payload length from which a frame's header grows, RFC 6455 section 5.2


@dataclass(slots=True)
class _Symbol:
    """One symbol's state: the price in hundredths, and the last id of each of its id spaces."""

    name: str
    cents: int
    trade_id: int = 5_000_000_000
    aggregate_id: int = 3_000_000_000
    summed_up: int = 5_000_000_000  # the last trade id that an aggregate trade contained
    update_id: int = 60_000_000_000


def frames(count: int, start_ms: int, seed: int = 3) -> Iterator[bytes]:
    """Yield `count` text frames of the combined stream; the first event happens at `start_ms` since 1970 UTC."""
    draw = random.Random(seed)  # noqa: S311 - a market, not a secret
    symbols = [_Symbol(name, cents) for name, cents in _FIRST_CENTS.items()]
    for number in range(count):
        symbol = symbols[int(draw.random() * 3)]
        symbol.cents = max(1_000, symbol.cents + int(draw.random() * 3) - 1)
        time_ms = start_ms + number // _FRAMES_PER_MILLISECOND
        channel = _PATTERN[number % len(_PATTERN)]
        if channel == "bookTicker":
            yield _book_ticker(symbol, draw.random())
        elif channel == "trade":
            yield _trade(symbol, time_ms, draw.random())
        else:
            yield _aggregate_trade(symbol, time_ms, draw.random())


def _trade(symbol: _Symbol, time_ms: int, draw: float) -> bytes:
    symbol.trade_id += 1
    return (
        b'{"stream":"%b@trade","data":{"e":"trade","E":%d,"s":"%b","t":%d,"p":"%b","q":"%b","T":%d,"m":%b,"M":true}}'
        % (
            symbol.name.lower().encode(),
            time_ms + 1,
            symbol.name.encode(),
            symbol.trade_id,
            _digits(symbol.cents),
            _digits(int(draw * 1_000)),
            time_ms,
            b"true" if draw < 0.5 else b"false",
        )
    )


def _aggregate_trade(symbol: _Symbol, time_ms: int, draw: float) -> bytes:
    symbol.aggregate_id += 1
    first = symbol.summed_up + 1
    symbol.summed_up = max(first, symbol.trade_id)
    return (
        b'{"stream":"%b@aggTrade","data":{"e":"aggTrade","E":%d,"s":"%b","a":%d,"p":"%b","q":"%b","f":%d,"l":%d,"T":%d,'
        b'"m":%b,"M":true}}'
        % (
            symbol.name.lower().encode(),
            time_ms + 1,
            symbol.name.encode(),
            symbol.aggregate_id,
            _digits(symbol.cents),
            _digits(int(draw * 1_000)),
            first,
            symbol.summed_up,
            time_ms,
            b"true" if draw < 0.5 else b"false",
        )
    )


def _book_ticker(symbol: _Symbol, draw: float) -> bytes:
    symbol.update_id += 1 + int(draw * 4)
    return b'{"stream":"%b@bookTicker","data":{"u":%d,"s":"%b","b":"%b","B":"%b","a":"%b","A":"%b"}}' % (
        symbol.name.lower().encode(),
        symbol.update_id,
        symbol.name.encode(),
        _digits(symbol.cents),
        _digits(int(draw * 2_000)),
        _digits(symbol.cents + 1),
        _digits(2_000 - int(draw * 1_900)),
    )


def _digits(hundredths: int) -> bytes:
    """Write a number of hundredths as Binance does, with eight decimals."""
    return b"%d.%02d000000" % divmod(hundredths, 100)


def write_socket_bytes(path: Path, count: int, start_ms: int) -> None:
    """Write `count` frames as the bytes a server sends: unmasked text frames, RFC 6455 section 5.2."""
    with path.open("wb") as file:
        for frame in frames(count, start_ms):
            size = len(frame)
            header = struct.pack("!BB", 0x81, size) if size < _SHORT else struct.pack("!BBH", 0x81, 126, size)
            file.write(header + frame)


def read_socket_bytes(path: Path, count: int) -> Iterator[bytes]:
    """Yield the payloads of the first `count` frames that `write_socket_bytes` wrote."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        at = 0
        for _ in range(count):
            size, start = data[at + 1], at + 2
            if size == _SHORT:
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            yield data[start : start + size]
            at = start + size


def socket_bytes_length(path: Path, count: int) -> int:
    """Return how many bytes of the file carry its first `count` frames."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        at = 0
        for _ in range(count):
            size = data[at + 1]
            at += 2 + size if size < _SHORT else 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        return at
