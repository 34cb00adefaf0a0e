"""The ingestor against servers that are none of ours, and against what a venue had better not do."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from fake_venue import FakeVenue
from helpers import wait_until
from ingestors import SOON_S, ids, starter, trade, wait_ready, wait_reason, write_streams
from pipeline import Service

Ingest = Callable[[str], Service]


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Ingest]:
    """Return a function that starts an ingestor of BTCUSDT's trades at a websocket URL."""
    streams_file = tmp_path / "streams.json"
    write_streams(streams_file, "BTCUSDT@trade")
    with starter(tmp_path, "ws://127.0.0.1:1", streams_file) as start:
        yield lambda url: start(websocket_url=url)


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    """Return a venue on another websocket library."""
    with FakeVenue() as fake:
        yield fake


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """Answer every handshake with these bytes and hang up; yield the URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(reply)

        thread = Thread(target=serve, name="answering")
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"", "the handshake not answered"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the handshake not answered"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP 200 instead of a websocket"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: wss://elsewhere.example\r\nContent-Length: 0\r\n\r\n",
            "HTTP 302: redirected to wss://elsewhere.example",
        ),
        (
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://login.example/\r\nContent-Length: 0\r\n\r\n",
            "HTTP 307: redirected to https://login.example/",
        ),
    ],
)
def test_what_is_no_venue_is_named(ingest: Ingest, reply: bytes, words: str) -> None:
    """Whatever answers in a venue's place is the reason for not being ready, and never counts as a connection."""
    with answering(reply) as url:
        service = ingest(url)
        wait_reason(service, words)
        assert service.entries("connected") == []
        assert service.stats()["active_connections"] == 0


@pytest.mark.parametrize("url", ["https://127.0.0.1", "ws://", "ws://127.0.0.1:99999", "ws://127.0.0.1/?streams=a"])
def test_what_is_no_address_is_bad_configuration(ingest: Ingest, url: str) -> None:
    """A URL that no websocket can have ends the process with exit code 2 and an example."""
    service = ingest(url)
    assert service.exit_code() == 2
    assert "write one as wss://stream.binance.com:9443" in service.log


@pytest.mark.parametrize(("code", "reason"), [(1001, ""), (1008, "disconnected"), (1000, "")])
def test_a_venue_that_closes_is_answered_and_left(ingest: Ingest, venue: FakeVenue, code: int, reason: str) -> None:
    """A close frame is answered at once and named, and the next connection takes over where the first one ended."""
    service = ingest(venue.url)
    venue.send([json.dumps(trade(1))])
    wait_until(lambda: ids(service) == [1], SOON_S, "a record")
    first = venue.connections[0]
    first.close(code, reason)
    assert first.protocol.close_rcvd is not None
    wait_until(lambda: len(venue.connections) == 2, SOON_S, "another connection")
    assert service.entries("disconnected")[0]["reason"] == f"closed by the venue: {code} {reason}".rstrip()
    venue.send([json.dumps(trade(2))])
    wait_until(lambda: ids(service) == [1, 2], SOON_S, "the next record")


def test_a_venue_that_breaks_the_protocol_is_named_and_left(ingest: Ingest, venue: FakeVenue) -> None:
    """A frame that no websocket may send ends the connection with its reason; the next one takes over."""
    service = ingest(venue.url)
    wait_until(lambda: venue.connections, SOON_S, "a connection")
    venue.connections[0].socket.sendall(b"\x83\x00")
    wait_until(lambda: len(venue.connections) == 2, SOON_S, "another connection")
    assert "broken protocol: Received frame with invalid opcode" in service.entries("disconnected")[0]["reason"]
    venue.send([json.dumps(trade(1))])
    wait_until(lambda: ids(service) == [1], SOON_S, "a record")


def test_a_message_in_one_unfinished_part_is_one_message(ingest: Ingest, venue: FakeVenue) -> None:
    """A message whose first part is the whole of it, ended by an empty part, is one record and no bad frame."""
    service = ingest(venue.url)
    wait_ready(service)
    venue.send([[json.dumps(trade(1))], json.dumps(trade(2))])
    wait_until(lambda: ids(service) == [1, 2], SOON_S, "both records")
    wait_until(lambda: service.stats()["publish_count"] == 2, SOON_S, "the count")
    assert service.stats()["bad_frames"] == 0


def test_repeated_and_unasked_frames_are_passed_on(ingest: Ingest, venue: FakeVenue) -> None:
    """What comes twice or was not asked for is a record like any other: throwing it away is the table's business."""
    service = ingest(venue.url)
    wait_ready(service)
    venue.send(json.dumps(frame) for frame in (trade(1), trade(1), trade(7, "ETHUSDT"), trade(2)))
    wait_until(lambda: ids(service) == [1, 1, 7, 2], SOON_S, "four records")
    assert service.reason() is None
