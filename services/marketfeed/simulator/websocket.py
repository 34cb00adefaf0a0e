"""The simulated venue's websocket server: sockets around `session`, `limits` and `hub`.

Data frames are encoded once by the hub and written straight to the transport; picows does the handshake, the control
frames and the parsing of what clients send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic, time
from typing import Any

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from marketfeed.logs import logger
from marketfeed.simulator.hub import Hub
from marketfeed.simulator.limits import Heartbeat, SlowReader, WebsocketLimits, Window
from marketfeed.simulator.session import Endpoint, Session, endpoint

log = logger("simulator")

BEAT_S = 0.1  # how often pings, lifetimes and buffers are looked at
CLOSE_S = 1.0  # how long a client may take to answer a close frame
ROOM_BYTES = 1024 * 1024  # a client with more than this unread is waited for at flat-out pace
MOST_MESSAGE_BYTES = 65_536


class Connection(WSListener):
    """One client's connection; it is the hub's `Client`, and in `connections` as long as it is open."""

    def __init__(
        self, hub: Hub, connections: set[Connection], limits: WebsocketLimits, asked: Endpoint, *, patient: bool
    ) -> None:
        super().__init__()
        self.queue: list[bytes] = []
        self._hub, self._connections, self._limits, self._patient = hub, connections, limits, patient
        self._session = Session(asked.form, limits.streams_per_connection, dict.fromkeys(asked.streams))
        self._messages = Window(limits.messages_per_s, 1.0)
        self._slow = SlowReader(limits)
        self._message = b""
        self._cut_at = inf

    @property
    def has_room(self) -> bool:
        """Whether the client reads as fast as it is written to."""
        return self._buffered() < ROOM_BYTES

    def flush(self) -> None:
        """Write the queued frames in one go."""
        frames, self.queue = self.queue, []
        if not self._transport.is_close_frame_sent:
            self._socket.write(b"".join(frames))

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Deliver what the URL asked for."""
        self._transport = transport
        self._socket: Any = transport.underlying_transport
        self._buffered: Callable[[], int] = self._socket.get_write_buffer_size
        self._heartbeat = Heartbeat(monotonic(), self._limits)
        self._connections.add(self)
        self._hub.clients.add(self)
        self._hub.subscribe(self, self._session.streams, self._session.form)
        log.info("client_connected", streams=len(self._session.streams))

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows' signature
        """Forget the client."""
        self._connections.discard(self)
        self._hub.clients.discard(self)
        self._hub.unsubscribe(self, self._session.streams, self._session.form)
        self._session.streams.clear()
        log.info("client_disconnected")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Count the frame against the message limit, then answer it."""
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            if not transport.is_close_frame_sent:
                transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        elif transport.is_close_frame_sent:
            pass  # what crosses our close frame on the way is nobody's any more
        elif not self._messages.allows(monotonic()):
            self._close(WSCloseCode.POLICY_VIOLATION, "Too many requests")
        elif kind == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind == WSMsgType.PONG:
            self._heartbeat.pong(frame.get_payload_as_bytes())
        else:
            self._gather(frame.get_payload_as_bytes(), whole=frame.fin)

    def beat(self, now: float) -> None:
        """Send the ping that is due; close what is too old, mute or slow."""
        if now >= self._cut_at:
            self._transport.disconnect(graceful=False)
            return
        payload = b"%d" % int(time() * 1000)
        if self._heartbeat.beat(now, payload):
            self._transport.send_ping(payload)
        reason = self._heartbeat.verdict(now)
        if reason is not None:
            self._close(WSCloseCode.POLICY_VIOLATION, reason)
        elif not self._patient and self._slow.verdict(now, self._buffered()):
            log.warning("slow_reader_cut", buffered_bytes=self._buffered())
            self._transport.disconnect(graceful=False)

    def leave(self) -> None:
        """Close because the venue goes away."""
        self._close(WSCloseCode.GOING_AWAY, "")
        self._transport.disconnect()

    def _gather(self, part: bytes, *, whole: bool) -> None:
        """Collect the fragments of a message; answer it when it is whole."""
        self._message += part
        if len(self._message) > MOST_MESSAGE_BYTES:
            self._close(WSCloseCode.MESSAGE_TOO_BIG, "Payload too long")
        elif whole:
            message, self._message = self._message, b""
            self._receive(message)

    def _receive(self, message: bytes) -> None:
        form = self._session.form
        outcome = self._session.receive(message)
        if outcome.form is not None:
            self._hub.unsubscribe(self, self._session.streams, form)
            self._hub.subscribe(self, self._session.streams, outcome.form)
        self._hub.unsubscribe(self, outcome.removed, form)
        self._hub.subscribe(self, outcome.added, form)
        self._transport.send(WSMsgType.TEXT, outcome.reply)
        if outcome.fatal:
            self._close(WSCloseCode.POLICY_VIOLATION, "Invalid request")

    def _close(self, code: WSCloseCode, reason: str) -> None:
        """Send a close frame; the client's answer, or `CLOSE_S` without one, ends the connection."""
        if self._transport.is_close_frame_sent:
            return
        log.info("client_closed", code=int(code.value), reason=reason)
        self._transport.send_close(code, reason.encode())
        self._cut_at = monotonic() + CLOSE_S


class WebsocketServer:
    """Listens for clients; `patient` waits for slow readers instead of cutting them."""

    def __init__(self, hub: Hub, limits: WebsocketLimits, *, patient: bool) -> None:
        self._hub, self._limits, self._patient = hub, limits, patient
        self._attempts = Window(limits.connection_attempts, limits.attempts_window_s)
        self._connections: set[Connection] = set()

    async def start(self, host: str, port: int) -> str:
        """Listen and return the base URL."""
        self._server = await ws_create_server(
            self._admit,
            host,
            port,
            enable_auto_pong=False,
            max_frame_size=MOST_MESSAGE_BYTES,
        )
        return f"ws://{host}:{self._server.sockets[0].getsockname()[1]}"

    async def keep_beating(self) -> None:
        """Look after all connections until cancelled."""
        while True:
            await asyncio.sleep(BEAT_S)
            now = monotonic()
            for connection in tuple(self._connections):
                connection.beat(now)

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        self._server.close()
        for connection in tuple(self._connections):
            connection.leave()

    def _admit(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
        """Answer a handshake: 429 beyond the attempts, 404 for an unknown path, else a connection."""
        if not self._attempts.allows(monotonic()):
            return _refusal(429, {"Retry-After": str(int(self._limits.attempts_window_s))})
        asked = endpoint(request.path.decode())
        if asked is None:
            return None
        if len(asked.streams) > self._limits.streams_per_connection:
            return _refusal(400, {})
        return Connection(self._hub, self._connections, self._limits, asked, patient=self._patient)


def _refusal(status: int, headers: dict[str, str]) -> WSUpgradeResponseWithListener:
    response = WSUpgradeResponse.create_error_response(status, b"", headers)
    return WSUpgradeResponseWithListener(response, None)
