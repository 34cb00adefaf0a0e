"""The running count of what is missing: nothing false at the ends of its stretch, nothing overlooked within."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.ledger import MINUTE_US, Entry
from marketfeed.proof import WINDOW_S, Stretch, Tally, tally
from records import START_US

NOW_US = START_US + 90 * MINUTE_US + 40_000_000
STRETCH = Stretch.settled(NOW_US)
HOUR_US = WINDOW_S * 1_000_000

Print = tuple[int, int]
"""Id, and µs of event time."""


def parts(prints: Iterable[Print], stretch: Stretch = STRETCH, channel: str = "trade") -> list[Entry]:
    """Return what the query makes of the ledger of these prints."""
    found: dict[tuple[bool, ...], list[Print]] = defaultdict(list)
    for number, time_us in prints:
        minute = time_us // MINUTE_US * MINUTE_US
        if minute >= stretch.read_from:
            part = minute >= stretch.margin, minute >= stretch.since, minute >= stretch.until
            found[part].append((number, minute))
    return [
        Entry(
            "binance",
            "BTCUSDT",
            channel,
            min(minute for _, minute in rows),
            len(rows),
            0,
            min(number for number, _ in rows),
            max(number for number, _ in rows),
        )
        for rows in found.values()
    ]


def steady(first: int, last: int, every_us: int = 10_000_000, start_us: int = START_US) -> list[Print]:
    """Return prints of these ids, one every ten seconds."""
    return [(number, start_us + number * every_us) for number in range(first, last + 1)]


@st.composite
def orderly_markets(draw: st.DrawFn) -> list[Print]:
    """Draw a stream whose ids have no hole, and whose times contradict their order by less than two minutes."""
    count = draw(st.integers(min_value=1, max_value=120))
    pauses = st.integers(min_value=0, max_value=4 * MINUTE_US)
    late = st.one_of(st.just(0), st.integers(min_value=0, max_value=2 * MINUTE_US - 1))
    time_us, prints = START_US, []
    for number in range(count):
        time_us += draw(pauses)
        prints.append((number + 7, time_us + draw(late)))
    return prints


def test_the_stretch_is_an_hour_that_is_over() -> None:
    """Sixty whole minutes, the last of which ended at least 30 s ago and at most 90 s."""
    for second in range(120):
        stretch = Stretch.settled(START_US + second * 1_000_000)
        assert stretch.until - stretch.since == HOUR_US
        assert 30_000_000 <= START_US + second * 1_000_000 - stretch.until < 90_000_000
        assert stretch.since % MINUTE_US == 0


def test_what_is_all_there_is_complete() -> None:
    """With no id missing, as many are expected as are stored within the hour."""
    assert tally(parts(steady(1, 540)), STRETCH) == Tally(0, 360, 360, 0)


def test_a_hole_within_the_hour_is_counted() -> None:
    """Three ids that never came are missing, and expected."""
    prints = [(number, time_us) for number, time_us in steady(1, 540) if number not in {300, 301, 302}]
    assert tally(parts(prints), STRETCH) == Tally(3, 360, 357, 0)


def test_a_hole_before_the_hour_counts_no_longer() -> None:
    """What was missing earlier than an hour ago is the proof's business, not the running count's."""
    early = (STRETCH.margin - START_US) // 10_000_000 - 1
    prints = [(number, time_us) for number, time_us in steady(1, 540) if number != early]
    assert tally(parts(prints), STRETCH).missing == 0


def test_the_running_minutes_are_not_judged() -> None:
    """A hole of a moment ago may be a batch under way: it counts once its minute has been over for half a minute."""
    prints = steady(1, 540, start_us=NOW_US - 541 * 10_000_000)
    holed = [row for row in prints if row[0] != 538]
    assert tally(parts(holed), STRETCH).missing == 0
    later = Stretch.settled(NOW_US + 2 * MINUTE_US)
    assert tally(parts(holed, later), later).missing == 1
    assert tally(parts(prints, later), later).missing == 0


@given(orderly_markets(), st.data())
def test_no_false_gap_wherever_the_hour_begins_and_ends(market: Sequence[Print], data: st.DataObject) -> None:
    """However far a complete stream is stored in the order of its ids, at no moment is anything of it missing.

    A writer commits the batches of one partition in order, so what is stored is always a beginning of the stream.
    """
    stored = data.draw(st.integers(min_value=0, max_value=len(market)))
    last_us = max(time_us for _, time_us in market)
    stretch = Stretch.settled(data.draw(st.integers(min_value=START_US, max_value=last_us + 2 * HOUR_US)))
    counted = tally(parts(market[:stored], stretch), stretch)
    assert counted.missing == 0
    assert counted.expected == counted.stored


@given(st.sets(st.integers(min_value=1, max_value=538)), st.data())
def test_every_gap_within_the_hour_is_counted(lost: set[int], data: st.DataObject) -> None:
    """Of a stream in the order of its times, exactly the lost ids between stored ones of the hour are missing."""
    stretch = Stretch.settled(START_US + data.draw(st.integers(min_value=62, max_value=90)) * MINUTE_US)
    prints = [row for row in steady(0, 540) if row[0] not in lost]
    within = [number for number, us in prints if stretch.margin <= us < stretch.until]
    before = max((number for number, us in prints if stretch.read_from <= us < stretch.margin), default=-1)
    judged = [number for number, us in prints if stretch.since <= us < stretch.until]
    counted = tally(parts(prints, stretch), stretch)
    assert counted.stored == len(judged)
    if judged and (earlier := [number for number in within if number < judged[0]]):
        assert counted.missing == judged[-1] - earlier[-1] - len(judged)
    elif judged:
        assert counted.missing == judged[-1] - max(judged[0] - 1, before) - len(judged)


@pytest.mark.parametrize("channel", ["bookTicker", "a-channel-to-come"])
def test_ids_that_prove_nothing_are_only_counted_as_streams(channel: str) -> None:
    """A channel whose ids have holes by nature is neither missing nor stored: it is a stream that cannot be proven."""
    prints = [(number * 7, time_us) for number, time_us in steady(1, 540)]
    assert tally([*parts(prints, channel=channel), *parts(steady(1, 540))], STRETCH) == Tally(0, 360, 360, 1)


def test_nothing_is_nothing_to_prove() -> None:
    """An empty ledger expects nothing."""
    assert tally([], STRETCH) == Tally(0, 0, 0, 0)
