"""The websocket protocol of one connection, message by message, against the venue's documentation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.simulator.payloads import Form
from marketfeed.simulator.session import MOST_READ_BYTES, Endpoint, Session, endpoint

KNOWN_METHODS = "expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"


def _session(*streams: str, combined: bool = False, most: int = 1024) -> Session:
    return Session(Form(combined=combined), most, dict.fromkeys(streams))


def _ask(made: Session, method: str, params: Any = None, request_id: Any = 1) -> Any:
    request = {"method": method, "id": request_id} | ({} if params is None else {"params": params})
    return json.loads(made.receive(json.dumps(request).encode()).reply)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/ws", Endpoint(Form(combined=False), ())),
        ("/ws/btcusdt@trade", Endpoint(Form(combined=False), ("btcusdt@trade",))),
        ("/ws/btcusdt%40trade/ethusdt@trade/", Endpoint(Form(combined=False), ("btcusdt@trade", "ethusdt@trade"))),
        ("/stream", Endpoint(Form(combined=True), ())),
        ("/stream?streams=a@trade/b@trade/a@trade", Endpoint(Form(combined=True), ("a@trade", "b@trade"))),
        ("/stream?timeUnit=MILLISECOND&streams=a%40trade", Endpoint(Form(combined=True), ("a@trade",))),
        ("/ws/a@trade?timeUnit=microsecond", Endpoint(Form(combined=False, microseconds=True), ("a@trade",))),
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
    assert (outcome.reply, outcome.form) == (b'{"result":null,"id":5}', Form(combined=True))
    assert made.receive(b'{"method":"SET_PROPERTY","params":["combined",true],"id":6}').form is None
    assert _ask(made, "GET_PROPERTY", ["combined"]) == {"result": True, "id": 1}


@pytest.mark.parametrize(
    "request_id", [0, -5, 2**63 - 1, "abc123", "A" * 36, "358dfc19-fd4a-406a-81b5-5b402eab5f67", None]
)
def test_ids_come_back_as_they_were_sent(request_id: Any) -> None:
    """An id may be an int64, up to 36 alphanumeric characters, a UUID as the venue's own clients send it, or null."""
    assert _ask(_session(), "LIST_SUBSCRIPTIONS", request_id=request_id) == {"result": [], "id": request_id}


@pytest.mark.parametrize("request_id", [1.5, True, 2**63, "", "a b", "A" * 37, [], {}])
def test_other_ids_are_refused(request_id: Any) -> None:
    """Any other id is an invalid request, and nothing is subscribed."""
    made = _session()
    words = "Invalid request: request ID must be an unsigned integer"
    assert _ask(made, "SUBSCRIBE", ["a@trade"], request_id) == {"error": {"code": 2, "msg": words}}
    assert not made.streams


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("x", 3, "Invalid JSON: expected value at line 1 column 1"),
        ("", 3, "Invalid JSON: EOF while parsing a value at line 1 column 0"),
        ('{"method":"GO"}', 2, f"Invalid request: unknown variant `GO`, {KNOWN_METHODS} at line 1 column 15"),
        ("{}", 2, "Invalid request: missing field `method` at line 1 column 2"),
        ('{"method":"GET_PROPERTY","params":["color"]}', 0, "Unknown property"),
        ('{"method":"GET_PROPERTY","params":[1]}', 2, "Invalid request: property name must be a string"),
        ('{"method":"GET_PROPERTY","params":["combined",1]}', 2, "Invalid request: too many parameters"),
        ('{"method":"SET_PROPERTY","params":["combined","yes"]}', 1, "Invalid value type: expected Boolean"),
    ],
)
def test_errors_speak_the_venues_words(text: str, code: int, words: str) -> None:
    """Each documented mistake gets the documented code and text, in the form in which the venue sends it."""
    assert json.loads(_session().receive(text.encode()).reply) == {"error": {"code": code, "msg": words}}


def test_an_error_names_its_request() -> None:
    """An error repeats the id of the request where it could be read."""
    assert _ask(_session(), "GO", request_id=7)["id"] == 7


@pytest.mark.parametrize("name", ["", "@@@x###", "not a stream", "a/b@trade"])
def test_what_cannot_be_a_stream_ends_the_connection(name: str) -> None:
    """A name with impossible characters is refused, nothing is subscribed, and the connection is of no more use."""
    made = _session()
    outcome = made.receive(json.dumps({"method": "SUBSCRIBE", "params": ["a@trade", name], "id": 2}).encode())
    assert json.loads(outcome.reply) == {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 2}
    assert outcome.fatal
    assert not made.streams


@pytest.mark.parametrize(
    "name", ["nosuch@thing", "BTCUSDT@trade", "!ticker@arr", "x@kline_1d@+08:00", "币安人生usdt@trade"]
)
def test_what_could_be_a_stream_is_accepted(name: str) -> None:
    """The acknowledgement says nothing about whether a stream exists."""
    assert _ask(_session(), "SUBSCRIBE", [name]) == {"result": None, "id": 1}


def test_of_a_long_message_only_the_beginning_is_read() -> None:
    """One byte more than the venue reads at once, and the request is cut off: an error, and nothing is subscribed."""
    made = _session()
    message = b'{"method":"SUBSCRIBE","id":1,"params":["%b"]}'
    fits = message % (b"a" * (MOST_READ_BYTES - len(message) + 2))
    assert json.loads(made.receive(fits).reply) == {"result": None, "id": 1}
    cut = json.loads(made.receive(message % (b"b" * MOST_READ_BYTES)).reply)["error"]
    assert cut == {"code": 3, "msg": "Invalid JSON: EOF while parsing a string at line 1 column 4096"}
    assert len(made.streams) == 1


def test_a_full_connection_takes_no_more_streams() -> None:
    """Beyond the limit SUBSCRIBE is refused as a whole and the connection ends; known streams do not count twice."""
    made = _session("a@trade", "b@trade", most=3)
    assert _ask(made, "SUBSCRIBE", ["a@trade", "c@trade"]) == {"result": None, "id": 1}
    outcome = made.receive(b'{"method":"SUBSCRIBE","params":["d@trade"],"id":1}')
    assert json.loads(outcome.reply) == {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 1}
    assert outcome.fatal
    assert "d@trade" not in made.streams


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
    assert "result" in answer or "error" in answer
