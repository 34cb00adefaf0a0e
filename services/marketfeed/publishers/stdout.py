"""Writes one JSON line per record: for looking, and for pipes.

A slow reader slows the ingestor down, as a pipe does; a reader that is gone ends it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import BinaryIO

from marketfeed.errors import MarketfeedError
from marketfeed.events import Stream
from marketfeed.logs import logger
from marketfeed.publishers import Flow

_TOPIC = "stdout"
_SHOWN_BYTES = 500

_log = logger("stdout")


class ReaderGone(MarketfeedError):
    """Nobody reads standard output any more."""


class StdoutPublisher:
    """Writes to `out` and flushes it whenever it is polled."""

    def __init__(self, out: BinaryIO, exchange: str) -> None:
        self.failed: Counter[str] = Counter()
        self._exchange = exchange
        self._out = out
        self._flows: dict[str, Flow] = {}
        self._gone = False

    def waits_for(self) -> str | None:
        """Wait for nothing."""
        return None

    def publish(self, stream: str, value: bytes) -> None:
        """Write one line; once the reader is gone, count the record as failed."""
        flow = self._flows.get(stream)
        if flow is None:
            flow = self._flows[stream] = Flow(_TOPIC, self._exchange, Stream.parse(stream))
        flow.taken += 1
        if not self._gone:
            self._write(value + b"\n")
        if self._gone:
            self.failed[_TOPIC] += 1

    def quarantine(self, frame: bytes, error_type: str, reason: str) -> None:
        """Log the frame: standard output carries records only."""
        shown = frame[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")
        _log.warning("quarantined", error_type=error_type, reason=reason, frame=shown, frame_bytes=len(frame))

    def flows(self) -> Iterable[Flow]:
        """Return the streams that had records so far."""
        return self._flows.values()

    def pending(self) -> int:
        """Count what was written as delivered."""
        return 0

    def problem(self) -> str | None:
        """Return whether the reader is gone."""
        return str(ReaderGone()) if self._gone else None

    def poll(self) -> None:
        """Flush; raises ReaderGone."""
        self.flush(0)
        if self._gone:
            raise ReaderGone

    def flush(self, timeout_s: float) -> int:  # noqa: ARG002 - a pipe has no timeout
        """Hand the last lines over."""
        try:
            self._out.flush()
        except BrokenPipeError:
            self._gone = True
        return 0

    def _write(self, line: bytes) -> None:
        try:
            self._out.write(line)
        except BrokenPipeError:
            self._gone = True
