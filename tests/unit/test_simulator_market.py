"""The synthetic market: what it issues must be possible at the venue that it imitates."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from random import Random
from statistics import mean, pvariance
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.errors import ConfigurationError
from marketfeed.simulator.arrivals import Arrivals
from marketfeed.simulator.book import DEPTH, Book
from marketfeed.simulator.instruments import digits, instrument, parse_symbols, units
from marketfeed.simulator.market import History, Market
from marketfeed.simulator.source import Issued

NOW_MS = 1_700_000_000_000

seeds = st.integers(0, 2**31)


def _market(seed: int = 1, symbols: str = "BTCUSDT:1,XRPETH:1", rate: float = 500.0, **more: Any) -> Market:
    made = Market(parse_symbols(symbols), rate, seed, **more)
    made.begin(NOW_MS)
    return made


def _play(source: Market, steps: int) -> list[Issued]:
    return [issued for _ in range(steps) for issued in source.step()]


def _by_stream(issued: list[Issued]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in issued:
        found[one.stream].append(json.loads(one.payload))
    return found


def _ids(rows: list[dict[str, Any]], key: str) -> list[int]:
    return [row[key] for row in rows]


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_ids_are_contiguous_and_aggregates_chain(seed: int) -> None:
    """Trade and aggregate ids have no hole, and each aggregate starts where the last one ended."""
    streams = _by_stream(_play(_market(seed), 400))
    for symbol in ("btcusdt", "xrpeth"):
        trades, aggregates = _ids(streams[f"{symbol}@trade"], "t"), streams[f"{symbol}@aggTrade"]
        assert trades == list(range(trades[0], trades[0] + len(trades)))
        numbers = _ids(aggregates, "a")
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert [row["f"] for row in aggregates[1:]] == [row["l"] + 1 for row in aggregates[:-1]]
        assert (aggregates[0]["f"], aggregates[-1]["l"]) == (trades[0], trades[-1])


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_an_aggregate_sums_up_its_trades(seed: int) -> None:
    """Price, side and time of an aggregate are those of each of its trades; its quantity is their sum."""
    streams = _by_stream(_play(_market(seed), 300))
    trades = {row["t"]: row for row in streams["btcusdt@trade"]}
    for aggregate in streams["btcusdt@aggTrade"]:
        parts = [trades[number] for number in range(aggregate["f"], aggregate["l"] + 1)]
        assert {(part["p"], part["m"], part["T"]) for part in parts} == {
            (aggregate["p"], aggregate["m"], aggregate["T"])
        }
        assert sum(Decimal(part["q"]) for part in parts) == Decimal(aggregate["q"])


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_times_never_run_backwards(seed: int) -> None:
    """`T` and `E` never fall along a stream, and no event is sent before it happened."""
    for stream, rows in _by_stream(_play(_market(seed), 400)).items():
        if stream.endswith("@bookTicker"):
            continue
        assert _ids(rows, "T") == sorted(_ids(rows, "T"))
        assert _ids(rows, "E") == sorted(_ids(rows, "E"))
        assert all(NOW_MS - 3 <= row["T"] <= row["E"] for row in rows)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_every_number_lies_on_its_grid(seed: int) -> None:
    """Prices are positive multiples of the tick, quantities of the step, both with eight decimals."""
    grids = {listed.symbol: listed for listed in parse_symbols("BTCUSDT,XRPETH")}
    for rows in _by_stream(_play(_market(seed), 200)).values():
        for row in rows:
            listed = grids[row["s"]]
            numbers = [("p", listed.tick), ("q", listed.step)]
            if "b" in row:
                numbers = [("b", listed.tick), ("B", listed.step), ("a", listed.tick), ("A", listed.step)]
            for key, grid in numbers:
                assert units(row[key]) > 0
                assert units(row[key]) % grid == 0
                assert len(row[key].partition(".")[2]) == 8


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_every_book_ticker_is_news(seed: int) -> None:
    """`u` grows with each bookTicker, bid and ask never cross, and each differs from the one before."""
    rows = _by_stream(_play(_market(seed), 400))["btcusdt@bookTicker"]
    assert all(earlier["u"] < later["u"] for earlier, later in pairwise(rows))
    assert all(Decimal(row["b"]) < Decimal(row["a"]) for row in rows)
    quotes = [(row["b"], row["B"], row["a"], row["A"]) for row in rows]
    assert all(earlier != later for earlier, later in pairwise(quotes))


def test_equal_seeds_give_equal_bytes() -> None:
    """Two markets of one seed issue the same payloads; another seed issues others."""
    assert _play(_market(7), 200) == _play(_market(7), 200)
    assert _play(_market(7), 200) != _play(_market(8), 200)


def test_rate_and_weights_are_kept() -> None:
    """Over many events the rate is within a tenth of what was asked for, and weights share it out."""
    made = _market(3, "BTCUSDT:3,ETHUSDT:1", rate=1000.0)
    counts = {"btcusdt": 0, "ethusdt": 0}
    while made.due() < 300_000:
        for issued in made.step():
            counts[issued.stream.partition("@")[0]] += 1
    assert sum(counts.values()) / 300 == pytest.approx(1000, rel=0.1)
    assert counts["btcusdt"] / counts["ethusdt"] == pytest.approx(3, rel=0.2)


def test_activity_comes_in_bursts() -> None:
    """Counts per second vary several times more than a Poisson process's, whose variance is its mean."""
    arrivals = Arrivals(20.0, Random(5))  # noqa: S311 - a test's own dice
    counts = [0] * 600
    while (at := arrivals.next()) < 600_000:
        counts[int(at / 1000)] += 1
    assert mean(counts) == pytest.approx(20, rel=0.15)
    assert pvariance(counts) > 3 * mean(counts)


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([1, 30, 891, 100_000]))
def test_a_book_stays_a_book(seed: int, opening: int) -> None:
    """However cheap the coin: prices stay positive and sorted, bid below ask, and no side runs empty."""
    book = Book(opening, 1, Random(seed))  # noqa: S311
    for number in range(600):
        if number % 3:
            book.quote()
        else:
            book.trade()
        prices = [price for price, _ in book.bids] + [price for price, _ in reversed(book.asks)]
        assert prices == sorted(set(prices))
        assert prices[0] >= 1
        assert book.bids
        assert len(book.asks) >= DEPTH
        assert all(size > 0 for _, size in book.bids + book.asks)


def test_depth_agrees_with_the_last_book_ticker() -> None:
    """The best levels and the update id of the depth snapshot are the last bookTicker's."""
    made = _market()
    last = _by_stream(_play(made, 300))["btcusdt@bookTicker"][-1]
    depth = made.depth("BTCUSDT", 5)
    assert depth.update_id == last["u"]
    assert (depth.bids[0], depth.asks[0]) == ((last["b"], last["B"]), (last["a"], last["A"]))
    assert len(depth.bids) == len(depth.asks) == 5


def test_a_history_is_continued() -> None:
    """A market with a history goes on with the next ids, near its price, and not before its last event."""
    past = History(trade_id=41, agg_trade_id=17, update_id=1000, bid=units("65000.01000000"), time_ms=NOW_MS + 60_000)
    streams = _by_stream(_play(_market(1, "BTCUSDT", histories={"BTCUSDT": past}), 100))
    assert (streams["btcusdt@trade"][0]["t"], streams["btcusdt@aggTrade"][0]["a"]) == (42, 18)
    assert streams["btcusdt@bookTicker"][0]["u"] > 1000
    assert float(streams["btcusdt@trade"][0]["p"]) == pytest.approx(65_000, rel=0.001)
    assert all(row["E"] >= NOW_MS + 60_000 for row in streams["btcusdt@trade"])


def test_a_symbol_added_later_disturbs_no_other() -> None:
    """What the first symbol issues is the same whether or not a second one is listed in between."""
    alone, joined = _market(1, "BTCUSDT"), _market(1, "BTCUSDT")
    first = _play(joined, 50)
    joined.add([instrument("ETHUSDT")], {})
    first += _play(joined, 400)
    mine = [issued for issued in first if issued.stream.startswith("btcusdt")]
    assert mine == _play(alone, 450)[: len(mine)]
    assert len(mine) < len(first)


@given(st.integers(0, 10**18))
def test_digits_and_units_are_inverse(value: int) -> None:
    """A number of 1e-8 survives being written and read."""
    assert units(digits(value).decode()) == value


@pytest.mark.parametrize("text", ["", "btcusdt", "BTCUSDT,BTCUSDT", "BTCUSDT:0", "BTCUSDT:much", "BTCUSDT:nan", "B/X"])
def test_bad_symbols_are_refused(text: str) -> None:
    """What is no list of symbols and weights raises ConfigurationError."""
    with pytest.raises(ConfigurationError):
        parse_symbols(text)


def test_symbols_outside_the_catalogue_are_listed_too() -> None:
    """Any symbol trades: its assets are found by the quotes that the venue knows."""
    listed = instrument("PEPEFDUSD")
    assert (listed.base, listed.quote) == ("PEPE", "FDUSD")
