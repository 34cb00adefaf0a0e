"""Which streams a connection carries: one request at a time, checked against the venue's own list."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed import exchanges
from marketfeed.events import Channel, Stream
from marketfeed.exchanges.base import Acknowledged, Refused
from marketfeed.ingest.subscriptions import ANSWER_TIMEOUT_S, Subscriptions

VENUE = exchanges.venue("binance")
A, B, C = (Stream(symbol, Channel.TRADE) for symbol in ("AUSDT", "BUSDT", "CUSDT"))


def many(count: int) -> list[Stream]:
    """Return so many streams, sorted."""
    return [Stream(f"S{number:04}USDT", Channel.TRADE) for number in range(count)]


class Server:
    """Answers requests as the venue does; `deaf` streams are acknowledged and not carried."""

    def __init__(
        self, subscriptions: Subscriptions, carried: list[Stream], deaf: frozenset[Stream] = frozenset()
    ) -> None:
        self._subscriptions = subscriptions
        self._deaf = deaf
        self.carried = set(carried) - deaf
        self.requests: list[dict[str, Any]] = []

    def answer_all(self, now: float = 0.0) -> None:
        """Answer until nothing more is asked."""
        for _ in range(100):
            message = self._subscriptions.next_message(now)
            if message is None:
                return
            self.requests.append(json.loads(message))
            self._answer(self.requests[-1])
        pytest.fail("it never comes to rest")

    def _answer(self, request: dict[str, Any]) -> None:
        named = {Stream.parse(f"{name.partition('@')[0].upper()}@trade") for name in request.get("params", ())}
        if request["method"] == "SUBSCRIBE":
            self.carried |= named - self._deaf
        elif request["method"] == "UNSUBSCRIBE":
            self.carried -= named
        listed = tuple(self.carried) if request["method"] == "LIST_SUBSCRIPTIONS" else None
        self._subscriptions.acknowledged(Acknowledged(request["id"], listed))

    def methods(self) -> list[str]:
        return [request["method"] for request in self.requests]


def test_an_opened_connection_is_only_checked() -> None:
    """Streams of the URL are carried from the start; the venue is asked once whether it agrees."""
    subscriptions = Subscriptions(VENUE, [A, B])
    server = Server(subscriptions, [A, B])
    assert subscriptions.problem() is None
    server.answer_all()
    assert server.methods() == ["LIST_SUBSCRIPTIONS"]
    assert subscriptions.problem() is None


@given(
    before=st.sets(st.sampled_from(many(8))),
    after=st.sets(st.sampled_from(many(8))),
    last=st.sets(st.sampled_from(many(8))),
)
def test_any_change_ends_at_what_is_wanted(before: set[Stream], after: set[Stream], last: set[Stream]) -> None:
    """Whatever is wanted, one after the other, the venue carries in the end, and it agrees with the list."""
    subscriptions = Subscriptions(VENUE, before)
    server = Server(subscriptions, list(before))
    for wanted in (after, last):
        subscriptions.want(wanted)
        server.answer_all()
        assert server.carried == subscriptions.carried == wanted
        assert subscriptions.problem() is None
        assert server.methods()[-1] == "LIST_SUBSCRIPTIONS"


def test_new_streams_come_before_old_ones_go() -> None:
    """A swap is made before it is broken."""
    subscriptions = Subscriptions(VENUE, [A])
    server = Server(subscriptions, [A])
    subscriptions.want([B])
    server.answer_all()
    assert server.methods() == ["SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS"]


def test_a_full_connection_makes_room_first() -> None:
    """At the venue's limit of streams, old ones go before new ones come: the limit is never passed."""
    most = VENUE.limits.streams_per_connection
    streams = many(most + 100)
    subscriptions = Subscriptions(VENUE, streams[:most])
    server = Server(subscriptions, streams[:most])
    subscriptions.want(streams[100:])
    server.answer_all()
    assert server.methods()[:2] == ["UNSUBSCRIBE", "SUBSCRIBE"]
    assert server.carried == set(streams[100:])


def test_requests_are_cut_to_the_venues_size() -> None:
    """Each request names at most `streams_per_request` streams, and all are named."""
    subscriptions = Subscriptions(VENUE, [])
    server = Server(subscriptions, [])
    subscriptions.want(many(450))
    server.answer_all()
    sizes = [len(request.get("params", ())) for request in server.requests]
    assert sizes == [100, 100, 100, 100, 50, 0]
    assert len(server.carried) == 450


def test_one_request_at_a_time_with_rising_ids() -> None:
    """While an answer is missing nothing else is asked; ids never repeat."""
    subscriptions = Subscriptions(VENUE, [])
    subscriptions.want([A])
    first = json.loads(subscriptions.next_message(0) or b"")
    subscriptions.want([A, B])
    assert subscriptions.next_message(1) is None
    subscriptions.acknowledged(Acknowledged(first["id"] + 1))
    assert subscriptions.next_message(1) is None
    subscriptions.acknowledged(Acknowledged(first["id"]))
    second = json.loads(subscriptions.next_message(1) or b"")
    assert second["params"] == ["busdt@trade"]
    assert second["id"] > first["id"]


def test_a_missing_answer_is_overdue() -> None:
    """A connection that does not answer within the limit is of no use; before it, and after an answer, it is."""
    subscriptions = Subscriptions(VENUE, [])
    subscriptions.want([A])
    subscriptions.next_message(100)
    assert not subscriptions.overdue(100 + ANSWER_TIMEOUT_S)
    assert subscriptions.overdue(100.1 + ANSWER_TIMEOUT_S)
    subscriptions.acknowledged(Acknowledged(1))
    assert not subscriptions.overdue(1000)


@pytest.mark.parametrize("request_id", [1, None])
def test_a_refusal_is_a_problem_until_the_streams_change(request_id: int | None) -> None:
    """A refused stream is named with the venue's words, not asked for again, and asked again when the file changes."""
    subscriptions = Subscriptions(VENUE, [A])
    subscriptions.want([A, B])
    subscriptions.next_message(0)
    subscriptions.refused(Refused(request_id, 2, "Invalid request: unknown symbol"))
    server = Server(subscriptions, [A])
    server.answer_all()
    assert server.methods() == ["LIST_SUBSCRIPTIONS"]
    assert subscriptions.problem() == "the venue refuses BUSDT@trade: Invalid request: unknown symbol (code 2)"
    subscriptions.want([A, B, C])
    server.answer_all()
    assert subscriptions.problem() is None


def test_a_stream_that_is_acknowledged_and_not_carried_is_found() -> None:
    """The venue's list is believed over its acknowledgement: a deaf stream is asked for thrice, then reported."""
    subscriptions = Subscriptions(VENUE, [A])
    server = Server(subscriptions, [A], deaf=frozenset({B}))
    subscriptions.want([A, B])
    server.answer_all()
    assert server.methods().count("SUBSCRIBE") == 3
    assert subscriptions.problem() == "the venue refuses BUSDT@trade: it is acknowledged, but not listed"
    assert subscriptions.carried == {A}


def test_a_stream_that_nobody_wants_is_removed() -> None:
    """A stream that the venue lists and nobody asked for is unsubscribed."""
    subscriptions = Subscriptions(VENUE, [A])
    server = Server(subscriptions, [A, C])
    server.answer_all()
    assert server.carried == {A}


def test_what_is_not_acknowledged_is_a_problem() -> None:
    """Until the venue's yes, a wanted stream is counted as missing."""
    subscriptions = Subscriptions(VENUE, [A])
    subscriptions.want([A, B, C])
    assert subscriptions.problem() == "2 of 3 streams are not acknowledged yet"
