"""The streams file: read whole, checked, and followed through every way in which it is changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from marketfeed import exchanges
from marketfeed.errors import ConfigurationError
from marketfeed.events import Channel, Stream
from marketfeed.ingest.streams import StreamsFile, parse_streams

VENUE = exchanges.venue("binance")
TRADE = Stream("BTCUSDT", Channel.TRADE)
TICKER = Stream("BTCUSDT", Channel.BOOK_TICKER)


def text(*streams: str) -> bytes:
    """Return a file's content."""
    return json.dumps({"streams": streams}).encode()


def test_streams_are_read_once_each() -> None:
    """A stream that stands there twice is one stream; an empty list is allowed."""
    assert parse_streams(text("BTCUSDT@trade", "BTCUSDT@trade", "BTCUSDT@bookTicker"), VENUE, VENUE.channels) == {
        TRADE,
        TICKER,
    }
    assert parse_streams(text(), VENUE, VENUE.channels) == frozenset()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "write"),
        (b"{", "write"),
        (b"\xff", "write"),
        (b"[]", 'write {"streams"'),
        (b"{}", "`streams`"),
        (b'{"stream": []}', "`stream`"),
        (b'{"streams": [7]}', "streams"),
        (text("BTCUSDT"), "write SYMBOL@channel"),
        (text("BTCUSDT@candle"), "write SYMBOL@channel"),
        (text("BTCUSDT@depth"), "BTCUSDT@depth: its channel is not known of binance"),
        (text("BTCUSDT@aggTrade"), "BTCUSDT@aggTrade: its channel has no topic"),
        (text(*(f"S{number}@trade" for number in range(1025))), "at most 1024"),
    ],
)
def test_what_cannot_be_carried_is_refused(content: bytes, words: str) -> None:
    """Each wrong file is refused with a sentence that says what is wrong or what to write."""
    with pytest.raises(ConfigurationError) as caught:
        parse_streams(content, VENUE, {Channel.TRADE, Channel.BOOK_TICKER})
    assert words in str(caught.value)


def test_a_missing_file_is_bad_configuration(tmp_path: Path) -> None:
    """A file that is not there at the start is named."""
    with pytest.raises(ConfigurationError, match=r"nothing\.json"):
        StreamsFile(tmp_path / "nothing.json", VENUE, VENUE.channels)


def test_a_change_is_seen_once(tmp_path: Path) -> None:
    """A look tells of a change when there is one, and of none when the same streams are written again."""
    path = tmp_path / "streams.json"
    path.write_bytes(text("BTCUSDT@trade"))
    file = StreamsFile(path, VENUE, VENUE.channels)
    assert not file.look()
    path.write_bytes(text("BTCUSDT@trade", "BTCUSDT@bookTicker"))
    assert file.look()
    assert file.streams == {TRADE, TICKER}
    path.write_bytes(text("BTCUSDT@bookTicker", "BTCUSDT@trade"))
    assert not file.look()


def test_a_swapped_link_is_a_change(tmp_path: Path) -> None:
    """A ConfigMap's volume changes by a swapped symlink to a folder: the file behind the same path is another one."""
    for version, streams in (("v1", text("BTCUSDT@trade")), ("v2", text("BTCUSDT@bookTicker"))):
        (tmp_path / version).mkdir()
        (tmp_path / version / "streams.json").write_bytes(streams)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "streams.json").symlink_to("..data/streams.json")
    file = StreamsFile(tmp_path / "streams.json", VENUE, VENUE.channels)
    (tmp_path / "new").symlink_to("v2")
    (tmp_path / "new").replace(tmp_path / "..data")
    assert file.look()
    assert file.streams == {TICKER}


@pytest.mark.parametrize("mended", [text("BTCUSDT@trade"), text("BTCUSDT@bookTicker")])
def test_a_broken_file_keeps_the_streams_of_before(tmp_path: Path, mended: bytes) -> None:
    """A broken or missing file is a problem, told once; the streams stay, and a mended file ends the problem."""
    path = tmp_path / "streams.json"
    path.write_bytes(text("BTCUSDT@trade"))
    file = StreamsFile(path, VENUE, VENUE.channels)
    path.write_bytes(b"{")
    assert file.look()
    assert file.streams == {TRADE}
    assert "the streams of before are kept" in str(file.problem)
    assert not file.look()
    path.unlink()
    assert file.look()
    assert "No such file" in str(file.problem)
    path.write_bytes(mended)
    assert file.look()
    assert file.problem is None
    assert file.streams == parse_streams(mended, VENUE, VENUE.channels)
