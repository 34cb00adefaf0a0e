"""The way to the publisher, with what it cannot take yet kept in order.

When the publisher is full, its caller stops reading; what waits here is then bounded by what one read can bring.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from marketfeed.events import Record
from marketfeed.publishers import Full, Publisher


class Outlet:
    """Calls `on_full` when something had to wait for the first time since there was room."""

    def __init__(self, publisher: Publisher, on_full: Callable[[Record | None], None]) -> None:
        self._publisher = publisher
        self._publish = publisher.publish
        self._on_full = on_full
        self._waiting: deque[Callable[[], None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def publish(self, record: Record) -> None:
        """Hand a record over, now or when there is room."""
        if not self._waiting:
            try:
                return self._publish(record)
            except Full:
                self._on_full(record)
        self._waiting.append(partial(self._publish, record))
        return None

    def quarantine(self, frame: bytes, error_type: str, reason: str) -> None:
        """Hand a frame that could not be understood over, now or when there is room."""
        offer = partial(self._publisher.quarantine, frame, error_type, reason)
        if not self._waiting:
            try:
                return offer()
            except Full:
                self._on_full(None)
        self._waiting.append(offer)
        return None

    def retry(self) -> bool:
        """Offer again what waits; return whether nothing waits any more."""
        while self._waiting:
            try:
                self._waiting[0]()
            except Full:
                return False
            self._waiting.popleft()
        return True
