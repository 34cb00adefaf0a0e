"""The simulated venue as its clients see it: a real process, an independent websocket client, plain HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from helpers import recordings, wait_until
from simulators import DEADLINE_S, Simulator, Start, answer, receive, run, running


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a context manager that runs a simulator with these options."""
    return partial(running, tmp_path)


def _upgrade(simulator: Simulator, path: str, more: str = "") -> socket.socket:
    """Open a TCP connection and send a websocket handshake by hand."""
    parts = urlsplit(simulator.websocket)
    connection = socket.create_connection((parts.hostname, parts.port), DEADLINE_S)
    key = base64.b64encode(b"0123456789abcdef").decode()
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n".encode()
    )
    return connection


def test_a_client_gets_exactly_the_truth(start: Start) -> None:
    """Flat out, with the market held until the client is there, it receives every payload byte by byte."""

    async def client(simulator: Simulator) -> dict[str, list[bytes]]:
        got: dict[str, list[bytes]] = {"BTCUSDT@trade": [], "BTCUSDT@bookTicker": []}
        async with connect(f"{simulator.websocket}/stream?streams=btcusdt@trade/btcusdt@bookTicker") as socket_:
            while True:
                try:
                    message = await asyncio.wait_for(socket_.recv(decode=False), 1.0)
                except TimeoutError:
                    return got
                name = json.loads(message)["stream"]
                symbol, _, channel = name.partition("@")
                payload = message.removeprefix(f'{{"stream":"{name}","data":'.encode())[:-1]
                got[f"{symbol.upper()}@{channel}"].append(payload)

    with start("--symbols", "BTCUSDT", "--speed", "max", "--wait-for-streams", "2", "--records", "20000") as simulator:
        got = run(client(simulator))
        assert simulator.state()["finished"]
        assert simulator.stop() == 0
        assert sum(map(len, got.values())) > 10_000
        assert got == {stream: simulator.lines(stream) for stream in got}


def test_raw_and_combined_forms_on_one_market(start: Start) -> None:
    """`/ws/a/b` sends bare payloads; after SET_PROPERTY combined the same connection wraps them."""

    async def client(simulator: Simulator) -> None:
        async with connect(f"{simulator.websocket}/ws/btcusdt@trade/btcusdt@aggTrade") as socket_:
            assert {json.loads(one)["e"] for one in await receive(socket_, 60)} == {"trade", "aggTrade"}
            request = {"method": "SET_PROPERTY", "params": ["combined", True], "id": 5}
            assert await answer(socket_, request) == {"result": None, "id": 5}
            assert all(
                json.loads(one)["stream"] == f"btcusdt@{json.loads(one)['data']['e']}"
                for one in await receive(socket_, 20)
            )

    with start("--rate", "2000") as simulator:
        run(client(simulator))


def test_subscriptions_change_on_an_open_connection(start: Start) -> None:
    """A bare `/ws` is silent until SUBSCRIBE, unknown streams are accepted, UNSUBSCRIBE ends the data."""

    async def client(simulator: Simulator) -> None:
        async with connect(f"{simulator.websocket}/ws") as socket_:
            streams = ["ethusdt@bookTicker", "nosuchcoin@trade"]
            assert await answer(socket_, {"method": "SUBSCRIBE", "params": streams, "id": "a1"}) == {
                "result": None,
                "id": "a1",
            }
            assert {json.loads(one)["s"] for one in await receive(socket_, 20)} == {"ETHUSDT"}
            assert simulator.state()["subscribed"] == streams
            assert await answer(socket_, {"method": "LIST_SUBSCRIPTIONS", "id": 3}) == {"result": streams, "id": 3}
            await answer(socket_, {"method": "UNSUBSCRIBE", "params": streams[:1], "id": 4})
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(socket_.recv(), 0.5)

    with start("--rate", "2000") as simulator:
        run(client(simulator))


def test_talkative_clients_are_cut(start: Start) -> None:
    """More than five messages in a second close the connection with 1008, pings included."""

    async def client(simulator: Simulator) -> None:
        async with connect(f"{simulator.websocket}/ws") as socket_:
            for _ in range(6):
                await socket_.ping()
            with pytest.raises(ConnectionClosedError) as closed:
                await socket_.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "Too many requests")

    with start() as simulator:
        run(client(simulator))


def test_pings_are_sent_and_pongs_keep_a_client(start: Start) -> None:
    """A client that answers pings lives past the pong timeout; one that reads but never answers is closed."""
    options = ("--ping-interval-s", "0.2", "--pong-timeout-s", "0.6", "--messages-per-s", "50", "--rate", "500")

    async def faithful(simulator: Simulator) -> None:
        async with connect(f"{simulator.websocket}/ws/btcusdt@trade") as socket_:
            async with asyncio.timeout(2):
                started = asyncio.get_running_loop().time()
                while asyncio.get_running_loop().time() - started < 1.5:
                    await socket_.recv()

    with start(*options) as simulator:
        run(faithful(simulator))
        with closing(_upgrade(simulator, "/ws")) as mute:
            received = b""
            while chunk := mute.recv(4096):
                received += chunk
        assert b"HTTP/1.1 101 Switching Protocols\r\n" in received
        frames = received.partition(b"\r\n\r\n")[2]
        assert frames[0] == 0x89
        assert frames.count(b"\x89\x0d") >= 3
        assert b"\x88\x0e\x03\xf0Pong timeout" in frames


def test_old_connections_are_closed(start: Start) -> None:
    """A connection ends when its life is over."""

    async def client(simulator: Simulator) -> None:
        async with connect(f"{simulator.websocket}/ws") as socket_:
            with pytest.raises(ConnectionClosedError):
                await socket_.recv()

    with start("--connection-life-s", "0.3") as simulator:
        run(client(simulator))


def test_handshakes_are_limited_and_paths_checked(start: Start) -> None:
    """An unknown path is 404, too many streams are 400, and beyond the attempts the handshake gets 429."""

    async def status(url: str) -> int:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url)
        return refused.value.response.status_code

    with start("--connection-attempts", "3", "--streams-per-connection", "2") as simulator:
        assert run(status(f"{simulator.websocket}/nothing")) == 404
        assert run(status(f"{simulator.websocket}/ws/a@trade/b@trade/c@trade")) == 400
        with closing(_upgrade(simulator, "/ws")) as connection:
            assert connection.recv(12) == b"HTTP/1.1 101"
        assert run(status(f"{simulator.websocket}/ws")) == 429


def test_a_slow_reader_is_cut_and_others_are_not(start: Start) -> None:
    """A client that stops reading is disconnected; one that reads beside it misses nothing."""

    async def reader(simulator: Simulator) -> list[int]:
        numbers: list[int] = []
        async with connect(f"{simulator.websocket}/ws/btcusdt@trade") as socket_:
            while simulator.logged("slow_reader_cut") is None:
                numbers += [json.loads(one)["t"] for one in await receive(socket_, 500)]
        return numbers

    buffer = ("--send-buffer-bytes", "20000", "--slow-reader-s", "0.5")
    target = "/stream?streams=btcusdt@trade/btcusdt@aggTrade/btcusdt@bookTicker"
    with (
        start("--symbols", "BTCUSDT", "--rate", "30000", *buffer) as simulator,
        closing(_upgrade(simulator, target)),
    ):
        numbers = run(reader(simulator))
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_rest_fills_what_a_client_missed(start: Start) -> None:
    """While the market runs, historicalTrades gives every trade between two ids, equal to the truth."""
    with start("--rate", "3000") as simulator:
        wait_until(lambda: simulator.state()["streams"]["btcusdt@trade"]["issued"] > 1500, DEADLINE_S, "some trades")
        first = simulator.state()["streams"]["btcusdt@trade"]["first_id"]
        status, headers, rows = simulator.get(
            f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={first + 100}&limit=1000"
        )
        assert (status, headers["X-MBX-USED-WEIGHT-1M"]) == (200, "25")
        truth = [json.loads(line) for line in simulator.lines("BTCUSDT@trade")[100:1100]]
        assert [(row["id"], row["price"], row["qty"], row["time"], row["isBuyerMaker"]) for row in rows] == [
            (row["t"], row["p"], row["q"], row["T"], row["m"]) for row in truth
        ]


def test_rest_refuses_as_the_venue_does(start: Start) -> None:
    """Errors are 400 with code and text; too much weight is 429 with Retry-After, and going on is 418."""
    with start("--weight-per-minute", "60", "--refusals-before-ban", "1", "--ban-s", "600") as simulator:
        assert simulator.get("/api/v3/depth?symbol=NOPE")[::2] == (400, {"code": -1121, "msg": "Invalid symbol."})
        asked = [simulator.get("/api/v3/trades?symbol=BTCUSDT") for _ in range(8)]
        assert [status for status, _, _ in asked if status == 200]
        refused = next((headers, body) for status, headers, body in asked if status == 429)
        assert 0 < int(refused[0]["Retry-After"]) <= 60
        assert refused[1]["code"] == -1003
        status, headers, body = asked[-1]
        assert (status, body["code"]) == (418, -1003)
        assert 590 <= int(headers["Retry-After"]) <= 600
        assert simulator.state()["started"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_venue_that_comes_back_goes_on(start: Start, number: signal.Signals) -> None:
    """However it ended, a restarted market continues every id: the truth of both runs has no hole and no double."""
    options = ("--symbols", "BTCUSDT,ETHUSDT", "--rate", "5000")
    for _ in range(2):
        with start(*options) as simulator:
            wait_until(lambda: simulator.state()["issued"] > 3000, DEADLINE_S, "a busy market")
            assert simulator.stop(number) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        trades = [json.loads(line) for line in simulator.lines(f"{symbol}@trade")]
        aggregates = [json.loads(line) for line in simulator.lines(f"{symbol}@aggTrade")]
        assert [row["t"] for row in trades] == list(range(trades[0]["t"], trades[0]["t"] + len(trades)))
        assert [row["f"] for row in aggregates[1:]] == [row["l"] + 1 for row in aggregates[:-1]]
        assert [row["T"] for row in trades] == sorted(row["T"] for row in trades)


def test_recordings_are_replayed_unchanged(start: Start) -> None:
    """A replay begins when the streams are subscribed, plays every frame as recorded, and ends in silence."""
    folder = recordings() / "binance"

    async def client(simulator: Simulator) -> list[bytes]:
        async with connect(f"{simulator.websocket}/stream?streams=btcusdt@trade/xrpeth@aggTrade") as socket_:
            return await receive(socket_, 2001 + 8000)

    with start("--replay", str(folder), "--speed", "max", "--wait-for-streams", "2") as simulator:
        assert simulator.state()["issued"] == 0
        got = run(client(simulator))
        wait_until(lambda: simulator.logged("finished"), DEADLINE_S, "the recordings to end")
        for stream, name in (("btcusdt@trade", "btcusdt.trade"), ("xrpeth@aggTrade", "xrpeth.aggTrade")):
            marker = f'{{"stream":"{stream}"'.encode()
            lines = (folder / f"{name}.jsonl").read_bytes().splitlines()
            frames = [line.partition(b'"frame":')[2][:-1] for line in lines]
            assert [one for one in got if one.startswith(marker)] == frames


def test_other_venues_recordings_are_refused(tmp_path: Path) -> None:
    """A directory with a line that is no frame of the venue ends the start with exit code 2 and names the line."""
    (tmp_path / "tape").mkdir()
    (tmp_path / "tape" / "x.jsonl").write_text('{"t":1,"frame":{"type":"ticker"}}\n')
    arguments = [sys.executable, "-m", "marketfeed", "simulate", "--replay", str(tmp_path / "tape")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2
    assert "x.jsonl:1 is not" in done.stderr


def test_symbols_can_be_added_while_it_runs(start: Start) -> None:
    """A posted symbol trades at once, beside a truth of its own; nonsense is refused with a sentence."""
    with start("--symbols", "BTCUSDT", "--rate", "2000") as simulator:
        assert simulator.get("/simulator/symbols", "btc")[0] == 400
        assert simulator.get("/simulator/symbols", "BTCUSDT,SOLUSDT:5")[0] == 200
        wait_until(lambda: simulator.state()["streams"]["solusdt@trade"]["issued"] > 10, DEADLINE_S, "the new symbol")
        assert simulator.get("/api/v3/trades?symbol=SOLUSDT&limit=5")[0] == 200
        assert simulator.lines("SOLUSDT@trade")


def test_memory_stays_small(start: Start) -> None:
    """After 200,000 payloads, with a reader and REST queries, the process is below 120 MiB."""

    async def client(simulator: Simulator) -> int:
        async with connect(f"{simulator.websocket}/stream?streams=btcusdt@bookTicker") as socket_:
            for _ in range(15):
                await receive(socket_, 5000)
                simulator.get("/api/v3/aggTrades?symbol=BTCUSDT&limit=1000")
            assert simulator.state()["issued"] > 200_000
            return psutil.Process(simulator.process.pid).memory_info().rss

    with start("--speed", "max", "--weight-per-minute", "1000000") as simulator:
        assert run(client(simulator)) < 120 * 2**20
