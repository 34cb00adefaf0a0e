"""Recordings: nothing of them is changed, and what is no recording is refused by file and line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers import recordings
from marketfeed.errors import ConfigurationError
from marketfeed.simulator.source import Depth, Issued
from marketfeed.simulator.tape import Tape

TRADE = '{"e":"trade","E":5,"s":"BTCUSDT","t":%d,"p":"39432.48000000","q":"0.10","T":4,"m":true,"M":true}'
BOOK = '{"u":%d,"s":"BTCUSDT","b":"1.10","B":"2.0","a":"1.2","A":"3"}'
DEPTH = '{"e":"depthUpdate","E":7,"s":"BTCUSDT","U":1,"u":3,"b":[["0.1","1"]],"a":[]}'


def _write(path: Path, *lines: tuple[float, str, str]) -> None:
    path.write_text("".join(f'{{"t":{at},"frame":{{"stream":"{name}","data":{data}}}}}\n' for at, name, data in lines))


def _play(tape: Tape) -> list[tuple[float, Issued]]:
    tape.begin(0)
    played: list[tuple[float, Issued]] = []
    while (due := tape.due()) is not None:
        played.extend((due, issued) for issued in tape.step())
    return played


def test_payloads_come_out_byte_by_byte(tmp_path: Path) -> None:
    """Digits, order of fields and unknown kinds are untouched; ids and times are read from each kind's own fields."""
    _write(
        tmp_path / "x.jsonl",
        (10, "btcusdt@trade", TRADE % 8),
        (11, "btcusdt@bookTicker", BOOK % 9),
        (12, "btcusdt@depth@100ms", DEPTH),
    )
    assert [issued for _, issued in _play(Tape(tmp_path))] == [
        Issued("btcusdt@trade", 8, 4, (TRADE % 8).encode()),
        Issued("btcusdt@bookTicker", 9, None, (BOOK % 9).encode()),
        Issued("btcusdt@depth@100ms", 3, 7, DEPTH.encode()),
    ]


def test_recordings_start_together(tmp_path: Path) -> None:
    """Each file's first frame is due at once, the others as long after it as they were recorded."""
    _write(tmp_path / "a.jsonl", (1000, "a@trade", TRADE % 1), (1500, "a@trade", TRADE % 2))
    _write(tmp_path / "b.jsonl", (9_000_000, "b@trade", TRADE % 3), (9_000_200, "b@trade", TRADE % 4))
    assert [(due, issued.id) for due, issued in _play(Tape(tmp_path))] == [(0, 1), (0, 3), (200, 4), (500, 2)]


def test_a_tape_knows_its_streams_before_it_plays(tmp_path: Path) -> None:
    """Streams and symbols of all files are known at once."""
    _write(tmp_path / "a.jsonl", (1, "btcusdt@trade", TRADE % 1), (2, "xrpeth@aggTrade", TRADE % 1))
    tape = Tape(tmp_path)
    assert (list(tape.streams), list(tape.symbols)) == (["btcusdt@trade", "xrpeth@aggTrade"], ["BTCUSDT", "XRPETH"])


def test_depth_is_the_last_book_ticker(tmp_path: Path) -> None:
    """The book is empty before the first bookTicker and shows its best prices afterwards."""
    _write(tmp_path / "a.jsonl", (1, "btcusdt@bookTicker", BOOK % 77))
    tape = Tape(tmp_path)
    assert tape.depth("BTCUSDT", 5) == Depth(0, [], [])
    _play(tape)
    assert tape.depth("BTCUSDT", 5) == Depth(77, [("1.10", "2.0")], [("1.2", "3")])


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        '{"t":1}',
        '{"t":1,"frame":{"type":"ticker","sequence":1}}',
        '{"t":1,"frame":{"stream":"a@trade","data":[1]}}',
        '{"t":"now","frame":{"stream":"a@trade","data":{}}}',
    ],
)
def test_other_lines_are_refused_by_file_and_line(tmp_path: Path, line: str) -> None:
    """A line that is no frame of the venue ends the start with a sentence that says where it is."""
    path = tmp_path / "x.jsonl"
    _write(path, (1, "a@trade", TRADE % 1))
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ConfigurationError, match=r"x\.jsonl:2 "):
        Tape(tmp_path)


def test_a_directory_without_recordings_is_refused(tmp_path: Path) -> None:
    """An empty directory is a mistake, not an empty market."""
    with pytest.raises(ConfigurationError, match="holds no recording"):
        Tape(tmp_path)


@pytest.mark.parametrize(("name", "frames"), [("btcusdt.trade.jsonl", 2001), ("xrpeth.aggTrade.jsonl", 8000)])
def test_real_recordings_play_whole(name: str, frames: int, tmp_path: Path) -> None:
    """Every frame of a real recording is issued, in order, with contiguous ids."""
    (tmp_path / name).symlink_to(recordings() / "binance" / name)
    played: Sequence[int | None] = [issued.id for _, issued in _play(Tape(tmp_path))]
    assert played[0] is not None
    assert played == list(range(played[0], played[0] + frames))
