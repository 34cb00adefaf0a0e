"""From counted rows to a proof, and to the words for it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from marketfeed.events import Grade
from marketfeed.ledger import MINUTE_US, Entry
from marketfeed.proof import Break, Proof, assemble
from marketfeed.verify import render, verdict
from records import START_US

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def entry(channel: str, minute: int, stored: int, first: int, last: int) -> Entry:
    """Return the entry of a minute of 2026."""
    return Entry("binance", "BTCUSDT", channel, START_US + minute * MINUTE_US, stored, 0, first, last)


def between(channel: str, number: int, following: int) -> Break:
    """Return two neighbours, a second apart."""
    return Break("binance", "BTCUSDT", channel, number, NEW_YEAR, following, NEW_YEAR + timedelta(seconds=1))


WHOLE = [entry("trade", 0, 10, 1, 10), entry("trade", 1, 5, 11, 15), entry("bookTicker", 0, 7, 100, 900)]
HOLED = [entry("trade", 0, 10, 1, 10), entry("trade", 1, 3, 13, 15)]


def test_contiguous_ids_and_an_agreeing_ledger_are_complete() -> None:
    """Nothing missing: complete, with what is provable added up apart from what is not."""
    proof = assemble(WHOLE, WHOLE, [])
    assert proof.complete
    assert (proof.totals.expected, proof.totals.stored, proof.totals.missing) == (15, 22, 0)
    assert (proof.totals.unprovable, proof.gaps, proof.disagreements) == (7, (), ())


def test_a_gap_is_named_by_its_ids_and_times() -> None:
    """Two ids between neighbours: not complete, and the gap says which ids, how many and between which times."""
    proof = assemble(HOLED, HOLED, [between("trade", 10, 13)])
    assert not proof.complete
    (gap,) = proof.gaps
    assert (gap.first_id, gap.last_id, gap.count) == (11, 12, 2)
    assert (gap.after, gap.before) == (NEW_YEAR, NEW_YEAR + timedelta(seconds=1))
    assert [(minute.expected, minute.missing) for minute in proof.minutes] == [(10, 0), (5, 2)]


def test_streams_are_proven_apart() -> None:
    """Trade and aggTrade of one symbol are different number spaces: neither fills the other's ids."""
    rows = [entry("trade", 0, 5, 1, 5), entry("aggTrade", 0, 5, 1000, 1004)]
    proof = assemble(rows, rows, [])
    assert [(stream.channel, stream.expected) for stream in proof.streams] == [("aggTrade", 5), ("trade", 5)]


def test_ids_that_prove_nothing_are_never_counted_as_proven() -> None:
    """A book ticker's update ids skip: that is no gap, and its rows have nothing expected."""
    rows = [entry("bookTicker", 0, 7, 100, 900)]
    proof = assemble(rows, rows, [between("bookTicker", 100, 900)])
    assert (proof.complete, proof.gaps) == (True, ())
    assert (proof.streams[0].expected, proof.streams[0].missing, proof.minutes[0].expected) == (None, None, None)


def test_nothing_stored_is_not_complete() -> None:
    """An empty database proves nothing."""
    proof = assemble([], [], [])
    assert not proof.complete
    assert verdict(proof) == "Not complete: nothing is stored."


@pytest.mark.parametrize(
    ("ledger", "words"),
    [
        ([entry("trade", 0, 9, 1, 10)], "the ledger says 9 rows (0 repaired), ids 1 to 10, the table holds 10 rows"),
        ([], "the ledger says nothing, the table holds 10 rows (0 repaired), ids 1 to 10"),
        ([entry("trade", 0, 10, 1, 10), entry("trade", 1, 1, 11, 11)], "the ledger says 1 rows (0 repaired), ids 11"),
    ],
)
def test_a_ledger_that_disagrees_is_an_error_by_name(ledger: list[Entry], words: str) -> None:
    """Too few, none, or one for rows that are not there: not complete, and the minute is named with both numbers."""
    proof = assemble([entry("trade", 0, 10, 1, 10)], ledger, [])
    assert not proof.complete
    (said,) = proof.disagreements
    assert said.startswith("BTCUSDT@trade (binance), minute 2026-01-01T00:0")
    assert words in said


def test_an_id_under_two_times_is_an_error_by_name() -> None:
    """The venue said two things of one id: both are stored, and the proof does not pass over it."""
    rows = [entry("trade", 0, 11, 1, 10)]
    proof = assemble(rows, rows, [between("trade", 4, 4)])
    assert not proof.complete
    assert "id 4 is stored twice" in proof.disagreements[0]
    assert proof.gaps == ()


def test_a_proof_survives_json() -> None:
    """What is written as JSON reads back as the same proof, and has the shape that tools rely on."""
    proof = assemble(HOLED, HOLED, [between("trade", 10, 13)])
    values = json.loads(json.dumps(proof.to_json()))
    assert Proof.from_json(values) == proof
    assert values["complete"] is False
    assert values["minutes"][1] == {
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "channel": "trade",
        "minute": "2026-01-01T00:01:00Z",
        "expected": 5,
        "stored": 3,
        "missing": 2,
        "repaired": 0,
        "grade": "proven",
    }
    assert values.keys() == {"complete", "totals", "streams", "minutes", "gaps", "disagreements", "metrics"}


def test_the_table_for_people() -> None:
    """Columns are aligned, a stream without a proof shows a dash, and one sentence sums it up."""
    proof = assemble(WHOLE, WHOLE, [])
    assert list(render(proof)) == [
        "stream              grade    minutes  expected  stored  missing  repaired",
        "BTCUSDT@bookTicker  unknown        1         -       7        -         0",
        "BTCUSDT@trade       proven         2        15      15        0         0",
        "total                              3        15      22        0         0",
        "",
        "Complete: all 15 ids of 1 stream are stored, none is missing; 7 rows carry no ids that could prove anything.",
    ]


def test_several_exchanges_are_told_apart() -> None:
    """One symbol of two venues has a row for each, with the venue's name; for one venue the name says nothing."""
    both = [*WHOLE, replace(WHOLE[0], exchange="binance_us")]
    lines = list(render(assemble(both, both, [])))
    assert lines[0] == "stream              exchange    grade    minutes  expected  stored  missing  repaired"
    assert sum(line.startswith("BTCUSDT@trade ") for line in lines) == 2
    assert any(line.startswith("BTCUSDT@trade       binance_us  proven ") for line in lines)


def test_the_gaps_for_people() -> None:
    """Each gap has a line with its ids and times, and the sentence counts what is missing."""
    lines = list(render(assemble(HOLED, HOLED, [between("trade", 10, 13)])))
    gap, empty, sentence = lines[-3:]
    assert gap.startswith("  BTCUSDT@trade (binance, proven): 2 ids missing, 11 to 12, between ")
    assert gap.endswith(" 2026-01-01T00:00:00+00:00 and 2026-01-01T00:00:01+00:00")
    assert (empty, sentence) == ("", "Not complete: 2 ids missing in 1 gap.")


def test_minutes_for_people() -> None:
    """Asked for, every minute has a line."""
    lines = list(render(assemble(HOLED, HOLED, []), minutes=True))
    assert "2026-01-01 00:01  BTCUSDT@trade  proven         5       3        2         0" in lines


def test_a_long_list_is_cut_with_its_number() -> None:
    """Beyond twenty gaps the rest is counted; JSON has them all."""
    breaks = [between("trade", 2 * number, 2 * number + 2) for number in range(30)]
    proof = assemble([entry("trade", 0, 31, 0, 60)], [entry("trade", 0, 31, 0, 60)], breaks)
    assert "  and 10 more: --json lists all" in list(render(proof))
    assert len(proof.to_json()["gaps"]) == 30


def test_a_probable_gap_is_shown_and_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a venue's ids only hint, a jump is listed with its grade, and completeness is not denied for it."""
    monkeypatch.setattr("marketfeed.proof.grade", lambda *_: Grade.PROBABLE)
    proof = assemble(HOLED, HOLED, [between("trade", 10, 13)])
    assert proof.complete
    assert (proof.gaps[0].grade, proof.gaps[0].count) == (Grade.PROBABLE, 2)
