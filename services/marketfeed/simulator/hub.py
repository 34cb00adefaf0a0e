"""Who hears what: streams, their journals and the clients subscribed to them. Encodes each payload once for all.

What does not live here: sockets (websocket.py), time (engine.py) and what clients may ask (session.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

from marketfeed.simulator.journal import Journal
from marketfeed.simulator.payloads import Form
from marketfeed.simulator.source import Issued

_TEXT = 0x81  # a whole text frame; RFC 6455 section 5.2


def _header(size: int) -> bytes:
    if size < 126:  # noqa: PLR2004 - the RFC's own borders
        return bytes((_TEXT, size))
    if size < 1 << 16:
        return bytes((_TEXT, 126)) + size.to_bytes(2, "big")
    return bytes((_TEXT, 127)) + size.to_bytes(8, "big")


_HEADERS = [_header(size) for size in range(1024)]  # nearly every payload is one of these sizes


def text_frame(payload: bytes) -> bytes:
    """Return the payload as one unmasked websocket text frame, as a server sends it."""
    size = len(payload)
    return (_HEADERS[size] if size < len(_HEADERS) else _header(size)) + payload


class Client(Protocol):
    """A connection as the hub sees it: frames are queued and written together."""

    queue: list[bytes]

    @property
    def has_room(self) -> bool:
        """Whether it reads as fast as it is written to."""

    def flush(self) -> None:
        """Write the queued frames to the socket."""


class Hub:
    """Journals and audiences of all streams; `streams` are those that the source will issue on."""

    def __init__(self, streams: Iterable[str], directory: Path) -> None:
        self.journals: dict[str, Journal] = {}
        self._directory = directory
        self.add(streams)
        self.clients: set[Client] = set()
        self._unwritten: list[Journal] = []
        self._audiences: dict[str, dict[Form, list[Client]]] = {}  # stream, then the form in which they get it

    def add(self, streams: Iterable[str]) -> None:
        """Open the journals of these streams: the source is going to issue on them."""
        self.journals.update((stream, Journal(self._directory / journal_name(stream))) for stream in streams)

    @property
    def subscribed(self) -> Collection[str]:
        """The distinct streams that somebody is subscribed to, known or not."""
        return self._audiences.keys()

    def subscribe(self, client: Client, streams: Iterable[str], form: Form) -> None:
        """Deliver these streams to the client from now on; the caller asks once per client and stream."""
        for stream in streams:
            self._audiences.setdefault(stream, {}).setdefault(form, []).append(client)

    def unsubscribe(self, client: Client, streams: Iterable[str], form: Form) -> None:
        """Deliver these streams to the client no more."""
        for stream in streams:
            audience = self._audiences[stream]
            audience[form].remove(client)
            if not audience[form]:
                del audience[form]
            if not audience:
                del self._audiences[stream]

    def publish(self, issued: Issued) -> None:
        """Note one payload as true, then queue it for everyone who listens."""
        journal = self.journals[issued.stream]
        if not journal.pending:
            self._unwritten.append(journal)
        journal.pending.append(issued)
        self._deliver(issued)

    def flush(self) -> None:
        """Write what is queued: the truth first, so that no client ever saw what no journal holds."""
        for journal in self._unwritten:
            journal.flush()
        self._unwritten.clear()
        for client in tuple(self.clients):
            if client.queue:
                client.flush()

    def ready(self) -> bool:
        """Whether somebody listens and every client has room for more."""
        return bool(self._audiences) and all(client.has_room for client in self.clients)

    def close(self) -> None:
        """Complete and close every journal."""
        for journal in self.journals.values():
            journal.close()

    def _deliver(self, issued: Issued) -> None:
        """Queue one payload for its audience. What goes wrong on the wire goes wrong here."""
        for form, clients in self._audiences.get(issued.stream, {}).items():
            frame = text_frame(form.apply(issued.stream, issued.payload))
            for client in clients:
                client.queue.append(frame)


def journal_name(stream: str) -> str:
    """Return the file name of a stream's truth: `btcusdt@trade` is kept in `BTCUSDT@trade.jsonl`."""
    symbol, at, channel = stream.partition("@")
    return f"{symbol.upper()}{at}{channel}.jsonl"
