"""What clients of the venue rely on, from the outside: a session as the venue's own client holds it, and the shapes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from simulators import DEADLINE_S, Simulator, Start, answer, receive, run, running

# The examples of binance-spot-api-docs, web-socket-streams.md and rest-api.md.
DOCUMENTED_STREAMS = {
    "trade": '{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":1672515782136,'
    '"m":true,"M":true}',
    "aggTrade": '{"e":"aggTrade","E":1672515782136,"s":"BNBBTC","a":12345,"p":"0.001","q":"100","f":100,"l":105,'
    '"T":1672515782136,"m":true,"M":true}',
    "bookTicker": '{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66"}',
}
DOCUMENTED_ANSWERS = {
    "ping": "{}",
    "time": '{"serverTime":1499827319559}',
    "depth?symbol=BTCUSDT&limit=1": '{"lastUpdateId":1027024,"bids":[["4.0","431.0"]],"asks":[["4.0","12.0"]]}',
    "trades?symbol=BTCUSDT&limit=1": '[{"id":28457,"price":"4.0","qty":"12.0","quoteQty":"48.0","time":1499865549590,'
    '"isBuyerMaker":true,"isBestMatch":true}]',
    "historicalTrades?symbol=BTCUSDT&limit=1": '[{"id":28457,"price":"4.0","qty":"12.0","quoteQty":"48.0",'
    '"time":1499865549590,"isBuyerMaker":true,"isBestMatch":true}]',
    "aggTrades?symbol=BTCUSDT&limit=1": '[{"a":26129,"p":"0.01","q":"4.7","f":27781,"l":27781,"T":1498793709153,'
    '"m":true,"M":true}]',
}


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a context manager that runs a simulator with these options."""
    return partial(running, tmp_path)


def shape(value: Any) -> Any:
    """Return a JSON value with the type in place of every number and text; the order of fields counts."""
    match value:
        case dict():
            return [(name, shape(part)) for name, part in value.items()]
        case list():
            return [shape(part) for part in value]
        case _:
            return type(value)


def test_payloads_have_the_documented_shape(start: Start) -> None:
    """Every payload, bare and wrapped, has the documented fields in their order and with their types."""

    async def client(simulator: Simulator) -> None:
        for channel, example in DOCUMENTED_STREAMS.items():
            documented = shape(json.loads(example))
            async with connect(f"{simulator.websocket}/ws/btcusdt@{channel}") as socket:
                assert shape(json.loads((await receive(socket, 1))[0])) == documented
            async with connect(f"{simulator.websocket}/stream?streams=btcusdt@{channel}") as socket:
                wrapped = json.loads((await receive(socket, 1))[0])
                assert list(wrapped) == ["stream", "data"]
                assert (wrapped["stream"], shape(wrapped["data"])) == (f"btcusdt@{channel}", documented)

    with start("--rate", "2000") as simulator:
        run(client(simulator))
        for path, example in DOCUMENTED_ANSWERS.items():
            status, headers, body = simulator.get(f"/api/v3/{path}")
            assert (status, headers["Content-Type"]) == (200, "application/json;charset=UTF-8")
            assert shape(body) == shape(json.loads(example)), path


def test_the_venues_own_clients_can_subscribe(start: Start) -> None:
    """Requests with UUIDs as ids are answered with the same ids, while data flow in between."""

    async def client(simulator: Simulator) -> None:
        async with connect(f"{simulator.websocket}/stream") as socket:
            for streams in (["btcusdt@trade"], ["btcusdt@aggTrade", "ethusdt@bookTicker"]):
                request = {"method": "SUBSCRIBE", "params": streams, "id": str(uuid4())}
                assert await answer(socket, request) == {"result": None, "id": request["id"]}
            request = {"method": "LIST_SUBSCRIPTIONS", "id": str(uuid4())}
            carried = ["btcusdt@trade", "btcusdt@aggTrade", "ethusdt@bookTicker"]
            assert await answer(socket, request) == {"result": carried, "id": request["id"]}
            assert {json.loads(one)["stream"] for one in await receive(socket, 200)} == set(carried)

    with start("--rate", "2000") as simulator:
        run(client(simulator))


def test_errors_come_wrapped_and_leave_the_connection(start: Start) -> None:
    """A mistake is answered below `error`, with the request's id; what was subscribed flows on."""

    async def client(simulator: Simulator) -> None:
        async with connect(f"{simulator.websocket}/ws/btcusdt@trade") as socket:
            refused = await answer(socket, {"method": "GET_PROPERTY", "params": ["color"], "id": 4})
            assert refused == {"error": {"code": 0, "msg": "Unknown property"}, "id": 4}
            streams = [f"coin{number:04}usdt@bookTicker" for number in range(200)]
            refused = await answer(socket, {"method": "SUBSCRIBE", "params": streams, "id": 5})
            words = "Invalid JSON: EOF while parsing a string at line 1 column 4096"
            assert refused == {"error": {"code": 3, "msg": words}}
            await receive(socket, 20)

    with start("--rate", "2000") as simulator:
        run(client(simulator))
        assert simulator.state()["subscribed"] == []


@pytest.mark.parametrize(
    ("streams", "error"),
    [
        (["@@@"], {"code": 2, "msg": "Invalid request: invalid stream"}),
        (["a@trade", "b@trade", "c@trade"], {"code": 4, "msg": "Too many subscriptions"}),
    ],
)
def test_some_mistakes_end_the_connection(start: Start, streams: list[str], error: dict[str, Any]) -> None:
    """A name that is none, or a stream too many, is answered and the connection closed with 1008."""

    async def client(simulator: Simulator) -> None:
        async with connect(f"{simulator.websocket}/ws") as socket:
            request = {"method": "SUBSCRIBE", "params": streams, "id": 1}
            assert await answer(socket, request) == {"error": error, "id": 1}
            with pytest.raises(ConnectionClosedError) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "Invalid request")

    with start("--streams-per-connection", "2") as simulator:
        run(client(simulator))


def test_times_come_in_microseconds_where_asked_for(start: Start) -> None:
    """`timeUnit` in a stream's URL and `X-MBX-TIME-UNIT` in a request's header give times in us."""

    async def client(simulator: Simulator) -> dict[str, Any]:
        async with connect(f"{simulator.websocket}/ws/btcusdt@trade?timeUnit=MICROSECOND") as socket:
            first: dict[str, Any] = json.loads((await receive(socket, 1))[0])
            return first

    with start("--rate", "2000") as simulator:
        streamed = run(client(simulator))
        query = f"symbol=BTCUSDT&fromId={streamed['t']}&limit=1"
        in_ms = simulator.get(f"/api/v3/historicalTrades?{query}")[2][0]
        request = Request(  # noqa: S310 - our own loopback
            f"{simulator.rest}/api/v3/historicalTrades?{query}", headers={"X-MBX-TIME-UNIT": "MICROSECOND"}
        )
        with urlopen(request, timeout=DEADLINE_S) as response:  # noqa: S310 - our own loopback
            in_us = json.loads(response.read())[0]
    assert in_us["time"] == streamed["T"] == in_ms["time"] * 1000
    assert in_us | {"time": 0} == in_ms | {"time": 0}


def test_an_endpoint_that_does_not_exist_is_a_page(start: Start) -> None:
    """An unknown endpoint is answered with the venue's HTML page, without a weight; retired ones are unknown too."""
    with start() as simulator:
        for path in ("/api/v3/nothing", "/api/v1/trades?symbol=BTCUSDT"):
            with pytest.raises(HTTPError) as refused, urlopen(simulator.rest + path, timeout=DEADLINE_S):  # noqa: S310 - our own loopback
                pass
            with refused.value as page:
                assert page.code == 404
                assert page.read() == b"<html><body><h2>404 Not found</h2></body></html>"
                assert "X-MBX-USED-WEIGHT" not in page.headers
