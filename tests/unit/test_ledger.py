"""The ledger's arithmetic."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.events import Grade, Record, Source, Trade
from marketfeed.ledger import MINUTE_US, Entry, entries, grade, prove

START = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC
STREAM = ("binance", "BTCUSDT", "trade")


def trade(number: int, time_us: int, source: Source = "stream") -> Trade:
    """Return a print at `time_us` into 2026."""
    return Trade("binance", "BTCUSDT", number, "1.50", "2", "buy", START + time_us, START + time_us, source)


def entry(minute: int, stored: int, first: int, last: int, repaired: int = 0) -> Entry:
    """Return the entry of a minute of 2026."""
    return Entry(*STREAM, START + minute * MINUTE_US, stored, repaired, first, last)


@st.composite
def stored_trades(draw: st.DrawFn) -> list[Trade]:
    """Draw some ids of a stream, whose times mostly follow the ids and sometimes run behind by up to two minutes."""
    ids = draw(st.sets(st.integers(min_value=0, max_value=300), min_size=1))
    late = st.integers(min_value=0, max_value=2 * MINUTE_US)
    return [trade(number, number * MINUTE_US // 40 + draw(late)) for number in sorted(ids)]


def test_one_entry_for_each_minute() -> None:
    """Rows of two minutes become two entries, each with its own count, repairs and ids, whatever their order."""
    rows: list[Record] = [trade(7, MINUTE_US), trade(5, 10), trade(6, MINUTE_US - 1, "backfill")]
    assert entries(STREAM, rows) == [entry(0, 2, 5, 6, repaired=1), entry(1, 1, 7, 7)]


def test_a_minute_begins_with_its_first_microsecond() -> None:
    """A row at exactly 00:01:00 belongs to minute 1, one a microsecond before to minute 0."""
    assert [row.minute for row in entries(STREAM, [trade(1, MINUTE_US - 1), trade(2, MINUTE_US)])] == [
        START,
        START + MINUTE_US,
    ]


def test_a_hole_inside_a_minute_is_missed_there() -> None:
    """Ids 1 to 10 of which 8 are stored: 10 expected, 2 missing, in that minute."""
    proven = prove([entry(0, 8, 1, 10), entry(1, 5, 11, 15)], Grade.PROVEN)
    assert [(minute.expected, minute.stored, minute.missing) for minute in proven] == [(10, 8, 2), (5, 5, 0)]


def test_a_hole_between_minutes_is_missed_in_the_later_one() -> None:
    """What comes after the last id of a minute is expected in the next one that has rows, across silent minutes."""
    proven = prove([entry(0, 10, 1, 10), entry(5, 5, 16, 20)], Grade.PROVEN)
    assert [(minute.expected, minute.missing) for minute in proven] == [(10, 0), (10, 5)]


def test_an_id_that_comes_in_a_later_minute_is_not_missing() -> None:
    """Id 10 is the last of minute 0 and id 9 the first of minute 1: nothing is missing, nothing is negative."""
    proven = prove([entry(0, 9, 1, 10), entry(1, 6, 9, 15)], Grade.PROVEN)
    assert [(minute.expected, minute.missing) for minute in proven] == [(9, 0), (6, 0)]


def test_an_id_below_the_first_minute_extends_the_range() -> None:
    """The least id of the stream begins the range, even when it was stored in a later minute."""
    proven = prove([entry(0, 2, 5, 6), entry(1, 2, 3, 7)], Grade.PROVEN)
    assert sum(minute.expected or 0 for minute in proven) == 7 - 3 + 1


def test_ids_that_prove_nothing_are_not_expected() -> None:
    """With the grade unknown, expected and missing are None, and what is stored is still told."""
    (minute,) = prove([entry(0, 3, 100, 900, repaired=1)], Grade.UNKNOWN)
    assert (minute.expected, minute.missing, minute.stored, minute.repaired) == (None, None, 3, 1)


def test_a_minute_names_its_time() -> None:
    """The proof carries the minute as a time in UTC."""
    (minute,) = prove([entry(2, 1, 1, 1)], Grade.PROVEN)
    assert minute.minute == datetime(2026, 1, 1, 0, 2, tzinfo=UTC)


def test_nothing_proves_nothing() -> None:
    """No entries, no minutes."""
    assert prove([], Grade.PROVEN) == []


@given(stored_trades())
def test_totals_telescope(trades: Sequence[Trade]) -> None:
    """Whatever the order of times, expected adds up to last - first + 1 and missing to the ids that are not there.

    No minute's number is negative, and in each expected is stored + missing.
    """
    ids = [row.trade_id for row in trades]
    proven = prove(entries(STREAM, trades), Grade.PROVEN)
    assert sum(minute.expected or 0 for minute in proven) == max(ids) - min(ids) + 1
    assert sum(minute.stored for minute in proven) == len(trades)
    assert sum(minute.missing or 0 for minute in proven) == max(ids) - min(ids) + 1 - len(ids)
    for minute in proven:
        assert minute.missing is not None
        assert minute.missing >= 0
        assert minute.expected == minute.stored + minute.missing


@pytest.mark.parametrize(
    ("exchange", "channel", "expected"),
    [
        ("binance", "trade", Grade.PROVEN),
        ("binance", "bookTicker", Grade.UNKNOWN),
        ("a-venue-to-come", "trade", Grade.UNKNOWN),
        ("binance", "a-channel-to-come", Grade.UNKNOWN),
    ],
)
def test_grade_is_the_venues_word(exchange: str, channel: str, expected: Grade) -> None:
    """The venue's module says how strong its ids are; what nobody here knows proves nothing."""
    assert grade(exchange, channel) is expected
