"""What the publisher could not take yet, in order.

When the publisher is full, reading stops; what waits here is then bounded by what one read can bring.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from marketfeed.publishers import Full, Publisher


class Outlet:
    """Holds what the publisher refused with Full; `on_full` is called when a first one has to wait.

    It is told the stream, or None for a frame on its way to quarantine.

    Whoever publishes offers to the publisher itself as long as nothing is `waiting`, and holds everything else here.
    """

    def __init__(self, publisher: Publisher, on_full: Callable[[str | None], None]) -> None:
        self.publisher = publisher
        self.waiting: deque[Callable[[], None]] = deque()
        self._on_full = on_full

    def hold(self, stream: str, value: bytes) -> None:
        """Keep an encoded record until there is room."""
        self._hold(partial(self.publisher.publish, stream, value), stream)

    def quarantine(self, frame: bytes, error_type: str, reason: str) -> None:
        """Hand a frame that could not be understood over, now or when there is room."""
        offer = partial(self.publisher.quarantine, frame, error_type, reason)
        if not self.waiting:
            try:
                return offer()
            except Full:
                pass
        return self._hold(offer, None)

    def retry(self) -> bool:
        """Offer again what waits; return whether nothing waits any more."""
        while self.waiting:
            try:
                self.waiting[0]()
            except Full:
                return False
            self.waiting.popleft()
        return True

    def _hold(self, offer: Callable[[], None], stream: str | None) -> None:
        self.waiting.append(offer)
        if len(self.waiting) == 1:
            self._on_full(stream)
