"""Who hears what: streams, their journals and the clients subscribed to them. Encodes each payload once for all.

What does not live here: sockets (websocket.py), time (engine.py) and what clients may ask (session.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

from marketfeed.simulator.journal import Journal
from marketfeed.simulator.source import Issued

_TEXT = 0x81  # a whole text frame; RFC 6455 section 5.2
_SHORT, _MEDIUM = 126, 1 << 16


def text_frame(payload: bytes) -> bytes:
    """Return the payload as one unmasked websocket text frame, as a server sends it."""
    size = len(payload)
    if size < _SHORT:
        return bytes((_TEXT, size)) + payload
    if size < _MEDIUM:
        return bytes((_TEXT, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_TEXT, 127)) + size.to_bytes(8, "big") + payload


class Client(Protocol):
    """A connection as the hub sees it: frames are queued and written together."""

    queue: list[bytes]

    @property
    def has_room(self) -> bool:
        """Whether it reads as fast as it is written to."""

    def flush(self) -> None:
        """Write the queued frames to the socket."""


class _Audience:
    """The subscribers of one stream, by the form in which they get it."""

    __slots__ = ("combined", "prefix", "raw")

    def __init__(self, stream: str) -> None:
        self.prefix = b'{"stream":"%b","data":' % stream.encode()
        self.raw: list[Client] = []
        self.combined: list[Client] = []


class Hub:
    """Journals and audiences of all streams; `streams` are those that the source will issue on."""

    def __init__(self, streams: Iterable[str], directory: Path) -> None:
        self.journals = {stream: Journal(directory / journal_name(stream)) for stream in streams}
        self.clients: set[Client] = set()
        self._audiences: dict[str, _Audience] = {}

    @property
    def subscribed(self) -> Collection[str]:
        """The distinct streams that somebody is subscribed to, known or not."""
        return self._audiences.keys()

    def subscribe(self, client: Client, streams: Iterable[str], *, combined: bool) -> None:
        """Deliver these streams to the client from now on; the caller asks once per client and stream."""
        for stream in streams:
            audience = self._audiences.get(stream)
            if audience is None:
                audience = self._audiences[stream] = _Audience(stream)
            (audience.combined if combined else audience.raw).append(client)

    def unsubscribe(self, client: Client, streams: Iterable[str], *, combined: bool) -> None:
        """Deliver these streams to the client no more."""
        for stream in streams:
            audience = self._audiences[stream]
            (audience.combined if combined else audience.raw).remove(client)
            if not (audience.raw or audience.combined):
                del self._audiences[stream]

    def publish(self, issued: Issued) -> None:
        """Write one payload to its journal and queue it for everyone who listens."""
        stream, id_, time_ms, payload = issued
        self.journals[stream].append(id_, time_ms, payload)
        audience = self._audiences.get(stream)
        if audience is None:
            return
        if audience.raw:
            frame = text_frame(payload)
            for client in audience.raw:
                client.queue.append(frame)
        if audience.combined:
            frame = text_frame(audience.prefix + payload + b"}")
            for client in audience.combined:
                client.queue.append(frame)

    def ready(self) -> bool:
        """Whether somebody listens and every client has room for more."""
        return bool(self._audiences) and all(client.has_room for client in self.clients)

    def flush(self) -> None:
        """Write what is queued to the clients."""
        for client in self.clients:
            if client.queue:
                client.flush()

    def flush_journals(self) -> None:
        """Write what is pending to the files."""
        for journal in self.journals.values():
            journal.flush()

    def close(self) -> None:
        """Complete and close every journal."""
        for journal in self.journals.values():
            journal.close()


def journal_name(stream: str) -> str:
    """Return the file name of a stream's truth: `btcusdt@trade` is kept in `BTCUSDT@trade.jsonl`."""
    symbol, at, channel = stream.partition("@")
    return f"{symbol.upper()}{at}{channel}.jsonl"
