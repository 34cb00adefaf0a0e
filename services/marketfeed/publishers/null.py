"""Takes every record and keeps none: for measuring, and for a dry run against a venue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from marketfeed.events import Stream
from marketfeed.publishers import Flow


class NullPublisher:
    """Counts."""

    def __init__(self, exchange: str) -> None:
        self.failed: Counter[str] = Counter()
        self._exchange = exchange
        self._flows: dict[str, Flow] = {}

    def waits_for(self) -> str | None:
        """Wait for nothing."""
        return None

    def publish(self, stream: str, value: bytes) -> None:  # noqa: ARG002 - counted, not kept
        """Count one record."""
        flow = self._flows.get(stream)
        if flow is None:
            flow = self._flows[stream] = Flow("null", self._exchange, Stream.parse(stream))
        flow.taken += 1

    def quarantine(self, frame: bytes, error_type: str, reason: str) -> None:
        """Take a frame that could not be understood; the ingestor has counted and logged it."""

    def flows(self) -> Iterable[Flow]:
        """Return the streams that had records so far."""
        return self._flows.values()

    def pending(self) -> int:
        """Nothing is ever under way."""
        return 0

    def problem(self) -> str | None:
        """Nothing can be wrong."""
        return None

    def poll(self) -> None:
        """Nothing is reported."""

    def flush(self, timeout_s: float) -> int:  # noqa: ARG002 - the protocol's signature
        """Nothing is left."""
        return 0
