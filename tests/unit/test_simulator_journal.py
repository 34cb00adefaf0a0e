"""The truth on disk: every query agrees with a plain list, whatever the index has forgotten."""

from __future__ import annotations

import json
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.simulator.journal import Journal
from marketfeed.simulator.payloads import trade_key
from marketfeed.simulator.source import Issued


def _trade(number: int, time_ms: int) -> Issued:
    row = {"e": "trade", "t": number, "p": "1.00000000", "q": "2.00000000", "T": time_ms, "m": True, "M": True}
    return Issued("btcusdt@trade", number, time_ms, json.dumps(row, separators=(",", ":")).encode())


def _fill(journal: Journal, records: list[Issued], batch: int = 7) -> None:
    for start in range(0, len(records), batch):
        journal.pending.extend(records[start : start + batch])
        journal.flush()


def _records(count: int, first_id: int = 100) -> list[Issued]:
    """Return trades of which three share each millisecond."""
    return [_trade(id_, 1000 + (id_ - 100) // 3) for id_ in range(first_id, first_id + count)]


def _payloads(some: list[Issued]) -> list[bytes]:
    return [one.payload for one in some]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 120),
    stride=st.integers(1, 5),
    index_limit=st.integers(2, 6),
    batch=st.integers(1, 30),
    first=st.integers(90, 230),
    span=st.integers(0, 50),
    limit=st.integers(1, 40),
)
def test_queries_agree_with_a_list(
    *, count: int, stride: int, index_limit: int, batch: int, first: int, span: int, limit: int
) -> None:
    """By id, by time and from the end a journal finds what a list of all records holds, however thin its index."""
    known = _records(count)
    start = 1000 + (first - 100) // 3
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "x.jsonl", stride=stride, index_limit=index_limit)
        with closing(journal):
            _fill(journal, known, batch)
            assert journal.count == count
            by_id = [one for one in known if one.id is not None and one.id >= first][:limit]
            assert journal.from_id(first, limit, trade_key) == _payloads(by_id)
            timed = [one for one in known if one.time_ms is not None and start <= one.time_ms <= start + span]
            assert journal.between(start, start + span, limit, trade_key) == _payloads(timed[:limit])
            early = [one for one in known if one.time_ms is not None and one.time_ms <= start]
            assert journal.until(start, limit, trade_key) == _payloads(early[-limit:])
            assert journal.last(limit) == _payloads(known[-limit:])


def test_the_index_stays_bounded(tmp_path: Path) -> None:
    """The index never holds more than its limit, however long the stream."""
    with closing(Journal(tmp_path / "x.jsonl", stride=2, index_limit=8)) as journal:
        for start in range(0, 5000, 100):
            _fill(journal, _records(100, 100 + start))
            assert len(journal._offsets) <= 8


def test_lines_are_the_exact_payloads(tmp_path: Path) -> None:
    """The file holds one payload a line, byte for byte, and ends in a newline."""
    path = tmp_path / "x.jsonl"
    with closing(Journal(path)) as journal:
        _fill(journal, _records(20))
        assert path.read_bytes() == b"".join(payload + b"\n" for payload in _payloads(_records(20)))


def test_a_journal_goes_on_where_an_earlier_one_ended(tmp_path: Path) -> None:
    """A journal opened on an existing file counts, finds and appends as if it had never been closed."""
    path = tmp_path / "x.jsonl"
    with closing(Journal(path, stride=4)) as journal:
        _fill(journal, _records(50))
    with closing(Journal(path, stride=4)) as journal:
        _fill(journal, _records(50, first_id=150))
        assert (journal.count, journal.ids) == (100, (100, 199))
        assert journal.from_id(148, 4, trade_key) == _payloads(_records(100)[48:52])


def test_a_torn_last_line_is_taken_off(tmp_path: Path) -> None:
    """What a killed process left half written is gone, and the next line starts on its own."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(_records(1)[0].payload + b'\n{"e":"trade","t":10')
    with closing(Journal(path)) as journal:
        _fill(journal, _records(1, first_id=101))
    assert [json.loads(line)["t"] for line in path.read_bytes().splitlines()] == [100, 101]


def test_what_comes_after_an_id_can_be_dropped(tmp_path: Path) -> None:
    """After `drop_after` the file ends with that id, and appending goes on behind it."""
    path = tmp_path / "x.jsonl"
    with closing(Journal(path, stride=3)) as journal:
        _fill(journal, _records(10))
        journal.drop_after(104, trade_key)
        assert (journal.count, journal.ids) == (5, (100, 104))
        _fill(journal, _records(2, first_id=105))
        assert journal.last(3) == _payloads(_records(7)[4:])
    assert len(path.read_bytes().splitlines()) == 7
