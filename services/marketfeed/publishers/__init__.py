"""Publishers: where an ingestor's records go. One module each, chosen by `IngestorSettings.publisher`.

Retry, counting and back-pressure policy live in the ingestor; a publisher only hands over and reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from marketfeed.events import Stream


class Full(Exception):
    """The publisher's queue is full: the record was not taken, offer it again later."""


@dataclass(slots=True)
class Flow:
    """One stream on its way out, and how many of its records were taken."""

    topic: str
    exchange: str
    stream: Stream
    taken: int = 0


class Publisher(Protocol):
    """Takes encoded records in order and reports what became of them."""

    failed: Counter[str]  # records that were taken and could not be delivered, by topic; each was logged

    def waits_for(self) -> str | None:
        """Return what must be there before the first record can be taken; None when all is. May block for seconds."""

    def publish(self, stream: str, value: bytes) -> None:
        """Take one encoded record of a stream (`BTCUSDT@trade`); raises Full when there is no room now."""

    def quarantine(self, frame: bytes, error_type: str, reason: str) -> None:
        """Take the untouched bytes of a frame that could not be understood; raises Full when there is no room now."""

    def flows(self) -> Iterable[Flow]:
        """Return the streams that had records so far."""

    def pending(self) -> int:
        """Return how many records were taken and are not delivered yet."""

    def problem(self) -> str | None:
        """Return why nothing can be delivered at the moment, None while all is well."""

    def poll(self) -> None:
        """Let delivery reports in; called several times a second. Raises MarketfeedError when it can never go on."""

    def flush(self, timeout_s: float) -> int:
        """Wait for delivery; return how many records are still undelivered at the end."""
