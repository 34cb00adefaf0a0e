"""One websocket connection to a venue: frames in, events out, on uvloop and picows.

The frame callback is the hot path: it decodes, and hands records straight to the outlet. What it should do about
anything else is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit

from picows import (
    WSCloseCode,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    ws_connect,
)

from marketfeed import codec
from marketfeed.errors import BadFrame, ConfigurationError, Unavailable
from marketfeed.exchanges.base import Control, Parse
from marketfeed.ingest.diagnosis import Failure, from_error, from_status
from marketfeed.ingest.outlet import Outlet
from marketfeed.publishers import Full
from marketfeed.transcript import Transcriber

_CONNECT_TIMEOUT_S = 10.0
_LARGEST_MESSAGE_BYTES = 10 * 1024 * 1024
_clock_ns = time.time_ns

_client_log = logging.getLogger("marketfeed.picows")
_client_log.setLevel(logging.WARNING)  # what it says of every connection we say ourselves


class CannotConnect(Unavailable):
    """The venue could not be reached; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Handler(Protocol):
    """Who is told about what is not a record."""

    def on_control(self, control: Control) -> None:
        """Take what the venue says beside its data."""

    def on_bad_frame(self, frame: bytes, error: BadFrame) -> None:
        """Take a message that could not be understood."""


class Connection(WSListener):
    """Reads one socket until it ends. `frames` counts the messages; `ended` is set when the socket is gone."""

    def __init__(self, parse: Parse, transcriber: Transcriber, outlet: Outlet, handler: Handler) -> None:
        self.frames = 0
        self.ended = asyncio.Event()
        self._parse = parse
        self._transcriber = transcriber
        self._transcribe = transcriber.transcribe
        self._outlet = outlet
        self._waiting = outlet.waiting
        self._publish = outlet.publisher.publish
        self._handler = handler
        self._transport: WSTransport | None = None
        self._fragments = bytearray()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep the way to the socket."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows' signature
        """Take one frame; its time of receipt is read before anything else is done with it."""
        ingestion_time = _clock_ns() // 1000
        payload = frame.get_payload_as_bytes()
        copied = self._transcribe(payload, ingestion_time)
        if copied is not None:  # as nearly always
            self._offer(*copied)
            self.frames += 1
            return
        try:
            self._take(payload, ingestion_time)
        except BadFrame as error:
            # Asking each frame for its type costs as much as a quarter of its decoding: only what is no JSON is asked.
            self._on_unparsed(frame, payload, ingestion_time, error)

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows' signature
        """Say so."""
        self.ended.set()

    @property
    def begun(self) -> bool:
        """Whether the venue has answered the handshake with a yes."""
        return self._transport is not None

    def send(self, message: bytes) -> None:
        """Send one text message."""
        if self._transport is not None and not self.ended.is_set():
            self._transport.send(WSMsgType.TEXT, message)

    def pause(self) -> None:
        """Stop reading: the venue's data then wait in the operating system's buffers, and at the venue."""
        if self._transport is not None and not self.ended.is_set():
            self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self.ended.is_set():
            self._transport.underlying_transport.resume_reading()

    def close(self) -> None:
        """Say good-bye and end the connection."""
        if self._transport is not None and not self.ended.is_set():
            self._transport.send_close(WSCloseCode.GOING_AWAY)
            self._transport.disconnect()

    async def why_ended(self) -> str:
        """Return what the venue said when it closed the connection, or what it did that no websocket may."""
        if self._transport is None:
            return "it was closed before it began"
        try:
            await self._transport.wait_disconnected()
        except WSProtocolError as error:
            return f"broken protocol: {error}"
        said = getattr(self._transport.close_handshake, "recv", None)  # it is None where no close frame came or went
        if said is None:
            return "the connection broke"
        return f"closed by the venue: {said.code or 'no code'} {said.reason or ''}".rstrip()

    def _take(self, message: bytes, ingestion_time: int) -> None:
        """Parse a message and hand on what it holds; raises BadFrame."""
        events = self._parse(message, ingestion_time)
        for event in events:
            if isinstance(event, Control):
                self._handler.on_control(event)
                continue
            stream, value = codec.stream_of(event), codec.encode(event)
            if len(events) == 1:
                self._transcriber.learn(message, stream, event, value)
            self._offer(stream, value)
        self.frames += 1

    def _offer(self, stream: str, value: bytes) -> None:
        """Publish a record, or hold it behind what waits."""
        if self._waiting:
            self._outlet.hold(stream, value)
            return
        try:
            self._publish(stream, value)
        except Full:
            self._outlet.hold(stream, value)

    def _on_unparsed(self, frame: WSFrame, payload: bytes, ingestion_time: int, error: BadFrame) -> None:
        """Sort out what is no complete message of JSON: parts of one, control frames, and truly bad ones."""
        kind = frame.msg_type
        if kind is WSMsgType.CLOSE:
            self.close()  # nothing comes behind it, and the venue holds the socket open until it is answered
            return
        if kind in (WSMsgType.PING, WSMsgType.PONG):
            return
        if kind is WSMsgType.CONTINUATION or not frame.fin:
            self._on_fragment(payload, ingestion_time, last=bool(frame.fin))
            return
        self._on_bad_frame(payload, error)

    def _on_fragment(self, part: bytes, ingestion_time: int, *, last: bool) -> None:
        """Put a message that came in parts together; no venue here sends such, but its proxies may."""
        self._fragments += part
        if not last and len(self._fragments) <= _LARGEST_MESSAGE_BYTES:
            return
        message = bytes(self._fragments)
        self._fragments.clear()
        if not message.strip():
            return  # the end of a message whose first part was the whole of it, and has been taken
        try:
            self._take(message, ingestion_time)
        except BadFrame as error:
            self._on_bad_frame(message, error)

    def _on_bad_frame(self, message: bytes, error: BadFrame) -> None:
        self.frames += 1
        self._handler.on_bad_frame(message, error)


async def connect(url: str, connection: Connection) -> None:
    """Open the websocket; raises CannotConnect with the HTTP status where there was one.

    A redirect is not followed: where the venue is stands in the configuration, and nowhere else.
    """
    try:
        await ws_connect(
            lambda: connection,
            url,
            websocket_handshake_timeout=_CONNECT_TIMEOUT_S,
            max_frame_size=_LARGEST_MESSAGE_BYTES,
            max_redirects=0,
            logger_name=_client_log,
        )
    except WSHandshakeError as error:
        raise CannotConnect(_refusal(error)) from error
    except OSError as error:
        raise CannotConnect(from_error(error)) from error
    if not connection.begun:
        raise CannotConnect(Failure("handshake", "the connection was closed, and the handshake not answered"))


def _refusal(error: WSHandshakeError) -> Failure:
    if error.response is None:
        return from_error(error)
    status = int(error.response.status)
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        return from_error(error)
    return from_status(status, error.response.headers.get("Location"))


def check_address(url: str) -> None:
    """Raise ConfigurationError for what is no websocket's base URL."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment:
        raise ConfigurationError(f"{url!r} is no websocket's base URL: write one as wss://stream.binance.com:9443")
