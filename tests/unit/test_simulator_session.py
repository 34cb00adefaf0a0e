"""The websocket protocol of one connection, message by message, against the venue's documentation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.simulator.session import Endpoint, Session, endpoint


def _session(*streams: str, combined: bool = False, most: int = 1024) -> Session:
    return Session(combined, most, dict.fromkeys(streams))


def _ask(made: Session, method: str, params: Any = None, request_id: Any = 1) -> Any:
    request = {"method": method, "id": request_id} | ({} if params is None else {"params": params})
    return json.loads(made.receive(json.dumps(request).encode()).reply)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/ws", Endpoint(combined=False, streams=())),
        ("/ws/btcusdt@trade", Endpoint(combined=False, streams=("btcusdt@trade",))),
        ("/ws/btcusdt%40trade/ethusdt@trade/", Endpoint(combined=False, streams=("btcusdt@trade", "ethusdt@trade"))),
        ("/stream", Endpoint(combined=True, streams=())),
        ("/stream?streams=a@trade/b@trade/a@trade", Endpoint(combined=True, streams=("a@trade", "b@trade"))),
        ("/stream?timeUnit=MILLISECOND&streams=a%40trade", Endpoint(combined=True, streams=("a@trade",))),
        ("/", None),
        ("/wss", None),
        ("/api/v3/ping", None),
    ],
)
def test_urls_name_streams_and_form(target: str, expected: Endpoint | None) -> None:
    """`/ws` and `/stream` give raw and combined streams, each named once; any other path is none of ours."""
    assert endpoint(target) == expected


def test_subscribe_is_acknowledged_and_listed() -> None:
    """SUBSCRIBE answers null, adds only what is new, and LIST_SUBSCRIPTIONS shows it in order."""
    made = _session("b@trade")
    outcome = made.receive(b'{"method":"SUBSCRIBE","params":["a@trade","b@trade","a@trade"],"id":1}')
    assert (outcome.reply, outcome.added) == (b'{"result":null,"id":1}', ("a@trade",))
    assert _ask(made, "LIST_SUBSCRIPTIONS", request_id=3) == {"result": ["b@trade", "a@trade"], "id": 3}


def test_unsubscribe_removes_only_what_was_there() -> None:
    """UNSUBSCRIBE answers null for unknown streams too, and reports only those that were subscribed."""
    made = _session("a@trade", "b@trade")
    outcome = made.receive(b'{"method":"UNSUBSCRIBE","params":["a@trade","c@trade"],"id":312}')
    assert (outcome.reply, outcome.removed) == (b'{"result":null,"id":312}', ("a@trade",))
    assert list(made.streams) == ["b@trade"]


def test_the_combined_property_is_set_and_read() -> None:
    """SET_PROPERTY changes the form of frames once; GET_PROPERTY tells it."""
    made = _session("a@trade")
    assert _ask(made, "GET_PROPERTY", ["combined"]) == {"result": False, "id": 1}
    outcome = made.receive(b'{"method":"SET_PROPERTY","params":["combined",true],"id":5}')
    assert (outcome.reply, outcome.combined) == (b'{"result":null,"id":5}', True)
    assert made.receive(b'{"method":"SET_PROPERTY","params":["combined",true],"id":6}').combined is None
    assert _ask(made, "GET_PROPERTY", ["combined"]) == {"result": True, "id": 1}


@pytest.mark.parametrize("request_id", [0, -5, 2**63 - 1, "abc123", "A" * 36, None])
def test_ids_come_back_as_they_were_sent(request_id: Any) -> None:
    """An id may be an int64, up to 36 alphanumeric characters, or null."""
    assert _ask(_session(), "LIST_SUBSCRIPTIONS", request_id=request_id) == {"result": [], "id": request_id}


@pytest.mark.parametrize("request_id", [1.5, True, 2**63, "", "a b", "A" * 37, [], {}])
def test_other_ids_are_refused(request_id: Any) -> None:
    """Any other id is an invalid request, and nothing is subscribed."""
    made = _session()
    assert _ask(made, "SUBSCRIBE", ["a@trade"], request_id)["code"] == 2
    assert not made.streams


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}),
        ('{"id":1}', {"code": 2, "msg": "Invalid request: missing field `method` at line 1 column 8"}),
        (
            '{"method":"GO"}',
            {
                "code": 2,
                "msg": "Invalid request: unknown variant `GO`, expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, "
                "`LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY` at line 1 column 15",
            },
        ),
        (
            '{"method":"GET_PROPERTY","params":["color"],"id":4}',
            {"code": 0, "msg": "Unknown property", "id": 4},
        ),
        (
            '{"method":"GET_PROPERTY","params":[1],"id":4}',
            {"code": 2, "msg": "Invalid request: property name must be a string"},
        ),
        (
            '{"method":"GET_PROPERTY","params":["combined",1],"id":4}',
            {"code": 2, "msg": "Invalid request: too many parameters"},
        ),
        (
            '{"method":"SET_PROPERTY","params":["combined","yes"],"id":4}',
            {"code": 1, "msg": "Invalid value type: expected Boolean"},
        ),
    ],
)
def test_errors_speak_the_venues_words(text: str, expected: dict[str, Any]) -> None:
    """Each documented mistake gets the documented code and text."""
    assert json.loads(_session().receive(text.encode()).reply) == expected


def test_a_full_connection_takes_no_more_streams() -> None:
    """Beyond the limit SUBSCRIBE is refused as a whole; what is there already does not count twice."""
    made = _session("a@trade", "b@trade", most=3)
    assert _ask(made, "SUBSCRIBE", ["c@trade", "d@trade"]) == {"code": 4, "msg": "Too many subscriptions", "id": 1}
    assert _ask(made, "SUBSCRIBE", ["a@trade", "c@trade"]) == {"result": None, "id": 1}


@given(st.one_of(st.binary(max_size=200), st.just(b"[" * 50_000)))
def test_no_message_breaks_the_session(text: bytes) -> None:
    """Whatever bytes come, the answer is JSON and the subscriptions stay."""
    made = _session("a@trade")
    json.loads(made.receive(text).reply)
    assert list(made.streams) == ["a@trade"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(method=st.sampled_from(["SUBSCRIBE", "UNSUBSCRIBE", "SET_PROPERTY", "GET_PROPERTY"]), params=json_values)
def test_no_parameters_break_the_session(method: str, params: Any) -> None:
    """Whatever the parameters are, the answer is a result or an error."""
    answer = json.loads(_session().receive(json.dumps({"method": method, "params": params, "id": 1}).encode()).reply)
    assert "result" in answer or "code" in answer
