"""Recordings as a source: frames with the times at which somebody received them, played side by side.

A recording is a file of lines `{"t": ms, "frame": {"stream": ..., "data": {...}}}`, Binance's combined form. Digits and
fields are taken over byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from typing import NamedTuple

import msgspec

from marketfeed.errors import ConfigurationError
from marketfeed.simulator.payloads import issued, read_book_ticker
from marketfeed.simulator.source import Depth, Issued


class _Frame(msgspec.Struct):
    stream: str
    data: msgspec.Raw


class _Line(msgspec.Struct):
    t: float
    frame: _Frame


class _Moment(NamedTuple):
    """One frame at its time, in ms after its recording's first."""

    at: float
    issued: Issued


_line = msgspec.json.Decoder(_Line)


class Tape:
    """All recordings of a directory at once; each begins when the run begins."""

    def __init__(self, directory: Path) -> None:
        self._files = sorted(directory.glob("*.jsonl"))
        if not self._files:
            raise ConfigurationError(f"{directory} holds no recording: put files named *.jsonl there")
        self.streams = sorted({m.issued.stream for path in self._files for m in _moments(path)})
        self.symbols = sorted({stream.partition("@")[0].upper() for stream in self.streams})
        self._best: dict[str, bytes] = {}
        self._moments: Iterator[_Moment] = iter(())
        self._next: _Moment | None = None

    def begin(self, now_ms: int) -> None:  # noqa: ARG002 - recorded times stay as they were
        """Rewind to the beginning."""
        self._moments = merge(*map(_moments, self._files), key=lambda moment: moment.at)
        self._next = next(self._moments, None)

    def due(self) -> float | None:
        """Return when the next frame is due; None when every recording has ended."""
        return None if self._next is None else self._next.at

    def step(self) -> list[Issued]:
        """Return the next frame."""
        if self._next is None:
            return []
        frame = self._next.issued
        self._next = next(self._moments, None)
        if frame.stream.endswith("@bookTicker"):
            self._best[frame.stream] = frame.payload
        return [frame]

    def depth(self, symbol: str, limit: int) -> Depth:  # noqa: ARG002 - a recording knows one level
        """Return the best bid and ask of the last bookTicker; nothing before the first."""
        payload = self._best.get(f"{symbol.lower()}@bookTicker")
        if payload is None:
            return Depth(0, [], [])
        best = read_book_ticker(payload)
        return Depth(best.u, [(best.b, best.B)], [(best.a, best.A)])


def _moments(path: Path) -> Iterator[_Moment]:
    """Read one recording; raises ConfigurationError with file and line for what is no Binance frame."""
    began: float | None = None
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            try:
                line = _line.decode(text)
                frame = issued(line.frame.stream, bytes(line.frame.data))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ConfigurationError(
                    f'{path}:{number} is not {{"t": ms, "frame": {{"stream": ..., "data": ...}}}}: {error}'
                ) from None
            if began is None:
                began = line.t
            yield _Moment(line.t - began, frame)
