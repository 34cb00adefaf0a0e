"""What the publisher cannot take yet: kept in order, nothing lost, reading stopped once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from marketfeed import codec
from marketfeed.events import Record
from marketfeed.ingest.outlet import Outlet
from marketfeed.publishers import Full
from marketfeed.publishers.null import NullPublisher
from records import encoded, trade


class Narrow(NullPublisher):
    """Takes as many as it has room for."""

    def __init__(self, room: int) -> None:
        super().__init__("binance")
        self.room = room
        self.taken: list[Record | bytes] = []

    def publish(self, stream: str, value: bytes) -> None:  # noqa: ARG002 - the protocol's signature
        self._take(codec.decode(value))

    def quarantine(self, frame: bytes, error_type: str, reason: str) -> None:  # noqa: ARG002 - the protocol's signature
        self._take(frame)

    def _take(self, what: Record | bytes) -> None:
        if not self.room:
            raise Full
        self.room -= 1
        self.taken.append(what)


def offer(outlet: Outlet, record: Record) -> None:
    """Offer a record as a connection does."""
    if outlet.waiting:
        outlet.hold(*encoded(record))
        return
    try:
        outlet.publisher.publish(*encoded(record))
    except Full:
        outlet.hold(*encoded(record))


@given(room=st.integers(0, 5), more=st.lists(st.integers(0, 4), max_size=10), count=st.integers(0, 20))
def test_order_is_kept_and_nothing_is_lost(room: int, more: list[int], count: int) -> None:
    """However room comes and goes, records and frames leave in the order in which they came, all of them in the end."""
    publisher = Narrow(room)
    outlet = Outlet(publisher, lambda _: None)
    sent: list[Record | bytes] = []
    for number in range(count):
        if number % 3 == 2:
            outlet.quarantine(b"%d" % number, "not_json", "")
            sent.append(b"%d" % number)
        else:
            offer(outlet, trade(number))
            sent.append(trade(number))
        if more and number % 4 == 0:
            publisher.room += more.pop()
            outlet.retry()
    assert publisher.taken == sent[: len(sent) - len(outlet.waiting)]
    publisher.room = count
    assert outlet.retry()
    assert publisher.taken == sent


def test_reading_is_stopped_once_until_there_is_room() -> None:
    """The caller is told when the first record has to wait, not of those behind it, and again the next time."""
    publisher = Narrow(0)
    told: list[str | None] = []
    outlet = Outlet(publisher, told.append)
    offer(outlet, trade(1))
    offer(outlet, trade(2))
    outlet.quarantine(b"x", "not_json", "")
    assert told == ["BTCUSDT@trade"]
    publisher.room = 3
    assert outlet.retry()
    outlet.quarantine(b"y", "not_json", "")
    assert told == ["BTCUSDT@trade", None]


def test_a_partial_retry_says_that_something_still_waits() -> None:
    """Room for one of two is not room."""
    publisher = Narrow(0)
    outlet = Outlet(publisher, lambda _: None)
    outlet.hold(*encoded(trade(1)))
    outlet.hold(*encoded(trade(2)))
    publisher.room = 1
    assert not outlet.retry()
    assert len(outlet.waiting) == 1
