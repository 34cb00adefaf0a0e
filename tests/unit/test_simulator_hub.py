"""Who hears what, and in which order truth and frames are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from marketfeed.simulator.hub import Hub, journal_name, text_frame
from marketfeed.simulator.payloads import Form
from marketfeed.simulator.source import Issued

RAW, COMBINED = Form(combined=False), Form(combined=True)
PAYLOAD = b'{"e":"trade","t":1}'


class Client:
    """Collects what it is sent, and what the truth held at that moment."""

    def __init__(self, truth: Path) -> None:
        self.queue: list[bytes] = []
        self.sent: list[bytes] = []
        self.truth_when_sent = b""
        self.has_room = True
        self._truth = truth

    def flush(self) -> None:
        """Take the queue."""
        self.truth_when_sent = self._truth.read_bytes()
        self.sent += self.queue
        self.queue = []


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """Return a hub with two streams."""
    with closing(Hub(["a@trade", "b@trade"], tmp_path)) as made:
        yield made


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    """Return a client that is connected and subscribed to nothing."""
    made = Client(tmp_path / "A@trade.jsonl")
    hub.clients.add(made)
    return made


def _publish(hub: Hub, stream: str) -> None:
    hub.publish(Issued(stream, 1, 1, PAYLOAD))
    hub.flush()


@pytest.mark.parametrize("size", [0, 125, 126, 1023, 1024, 65_535, 65_536])
def test_frames_carry_their_length(size: int) -> None:
    """A frame is a whole unmasked text frame with the length encoded as RFC 6455 says."""
    frame = text_frame(b"x" * size)
    assert frame[0] == 0x81
    code = frame[1]
    extended = {126: 2, 127: 8}.get(code, 0)
    assert (int.from_bytes(frame[2 : 2 + extended], "big") if extended else code) == size
    assert extended == (0 if size < 126 else 2 if size < 65_536 else 8)
    assert frame[2 + extended :] == b"x" * size


def test_only_subscribers_hear_a_stream(hub: Hub, client: Client) -> None:
    """A client gets its own streams, in its form, until it unsubscribes."""
    hub.subscribe(client, ["a@trade"], RAW)
    _publish(hub, "a@trade")
    _publish(hub, "b@trade")
    assert client.sent == [text_frame(PAYLOAD)]
    hub.unsubscribe(client, ["a@trade"], RAW)
    _publish(hub, "a@trade")
    assert len(client.sent) == 1


def test_combined_frames_name_their_stream(hub: Hub, client: Client) -> None:
    """The combined form wraps the untouched payload."""
    hub.subscribe(client, ["a@trade"], COMBINED)
    _publish(hub, "a@trade")
    assert client.sent == [text_frame(b'{"stream":"a@trade","data":' + PAYLOAD + b"}")]


def test_each_client_gets_times_in_its_unit(hub: Hub, client: Client, tmp_path: Path) -> None:
    """Event and trade times gain three digits for who asked for microseconds, and for nobody else."""
    other = Client(tmp_path / "A@trade.jsonl")
    hub.clients.add(other)
    hub.subscribe(client, ["a@trade"], Form(combined=True, microseconds=True))
    hub.subscribe(other, ["a@trade"], RAW)
    hub.publish(Issued("a@trade", 1, 1, b'{"e":"trade","E":1672515782136,"s":"T","t":5,"T":1672515782135}'))
    hub.flush()
    in_us = b'{"e":"trade","E":1672515782136000,"s":"T","t":5,"T":1672515782135000}'
    assert client.sent == [text_frame(b'{"stream":"a@trade","data":' + in_us + b"}")]
    assert other.sent == [text_frame(other.truth_when_sent[:-1])]


def test_the_truth_is_written_before_it_is_sent(hub: Hub, client: Client) -> None:
    """When a client is written to, the journal's file holds the payload already."""
    hub.subscribe(client, ["a@trade"], RAW)
    _publish(hub, "a@trade")
    assert client.truth_when_sent == PAYLOAD + b"\n"


def test_unheard_payloads_are_kept_too(hub: Hub) -> None:
    """The truth does not depend on anyone being connected."""
    _publish(hub, "b@trade")
    assert hub.journals["b@trade"].last(1) == [PAYLOAD]


def test_unknown_streams_are_accepted_and_forgotten(hub: Hub, client: Client) -> None:
    """A stream that does not exist counts as subscribed while somebody is, and leaves nothing behind."""
    hub.subscribe(client, ["nope@trade"], RAW)
    assert list(hub.subscribed) == ["nope@trade"]
    hub.unsubscribe(client, ["nope@trade"], RAW)
    assert not hub.subscribed


def test_ready_needs_a_subscriber_and_room(hub: Hub, client: Client) -> None:
    """Flat out, the venue waits while nobody is subscribed and while any client has no room."""
    assert not hub.ready()
    hub.subscribe(client, ["a@trade"], RAW)
    assert hub.ready()
    client.has_room = False
    assert not hub.ready()


def test_files_are_named_after_symbol_and_channel() -> None:
    """The symbol is upper case, whatever follows it is kept."""
    assert journal_name("nknusdt@depth@100ms") == "NKNUSDT@depth@100ms.jsonl"
