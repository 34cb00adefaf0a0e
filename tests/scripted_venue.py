"""A venue that says just what a test tells it to, frame by frame; the simulator is for everything else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from threading import Thread
from typing import Any, Self

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)


class ScriptedVenue:
    """Listens on loopback in a thread of its own. Requests are acknowledged, and carried, unless told otherwise."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.pongs: list[bytes] = []
        self.status: int | None = None  # refuse handshakes with it
        self.acknowledges = True
        self.carried: set[str] = set()
        self._transport: WSTransport | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="scripted-venue")
        self._server: asyncio.Server
        self.url = ""

    @property
    def connected(self) -> bool:
        """Whether a client is connected."""
        return self._transport is not None

    def send(self, *frames: bytes | dict[str, Any]) -> None:
        """Send text messages."""
        for frame in frames:
            self._send(frame if isinstance(frame, bytes) else json.dumps(frame).encode())

    def _send(self, payload: bytes) -> None:
        self._on_transport(lambda transport: transport.send(WSMsgType.TEXT, payload))

    def send_in_parts(self, frame: bytes) -> None:
        """Send one message as three fragments, with a ping between."""
        first, second, third = frame[:10], frame[10:20], frame[20:]
        self._on_transport(lambda transport: transport.send(WSMsgType.TEXT, first, fin=False))
        self.ping(b"between")
        self._on_transport(lambda transport: transport.send(WSMsgType.CONTINUATION, second, fin=False))
        self._on_transport(lambda transport: transport.send(WSMsgType.CONTINUATION, third))

    def ping(self, payload: bytes) -> None:
        """Send a ping; the client's pong is in `pongs`."""
        self._on_transport(lambda transport: transport.send_ping(payload))

    def cut(self) -> None:
        """Break the connection without a word."""
        self._on_transport(lambda transport: transport.disconnect(graceful=False))

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await ws_create_server(self._welcome, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        if self._transport is not None:
            self._transport.disconnect()
        self._server.close()
        await self._server.wait_closed()

    def _welcome(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        path = request.path.decode()
        self.paths.append(path)
        if self.status is not None:
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(self.status), None)
        self.carried = set(path.partition("?streams=")[2].split("/")) - {""}
        return _Client(self)

    def _on_transport(self, action: Callable[[WSTransport], None]) -> None:
        async def act() -> None:
            assert self._transport is not None, "no client is connected"
            action(self._transport)

        self._call(act)

    def _call(self, function: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(function(), self._loop).result(10)

    def on_message(self, message: bytes) -> None:
        """Take a client's request."""
        request = json.loads(message)
        self.requests.append(request)
        if not self.acknowledges or self._transport is None:
            return
        params = request.get("params", [])
        result = None
        if request["method"] == "SUBSCRIBE":
            self.carried.update(params)
        elif request["method"] == "UNSUBSCRIBE":
            self.carried.difference_update(params)
        else:
            result = sorted(self.carried)
        self._transport.send(WSMsgType.TEXT, json.dumps({"result": result, "id": request["id"]}).encode())

    def on_connection(self, transport: WSTransport | None) -> None:
        """Take note of a client that came or went."""
        self._transport = transport


class _Client(WSListener):
    """One connection, on the venue's side."""

    def __init__(self, venue: ScriptedVenue) -> None:
        self._venue = venue

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._venue.on_connection(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self._venue.on_message(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.PONG:
            self._venue.pongs.append(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows' signature
        self._venue.on_connection(None)
