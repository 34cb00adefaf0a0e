"""The REST endpoints: rows, parameters and refusals as the venue documents them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins
from multidict import MultiDict

from marketfeed.simulator.answers import Answers, in_microseconds
from marketfeed.simulator.hub import Hub
from marketfeed.simulator.instruments import parse_symbols
from marketfeed.simulator.market import Market
from marketfeed.simulator.parameters import Refused

NOW_MS = 1_700_000_000_000

LISTING_FIELDS = """
symbol status baseAsset baseAssetPrecision quoteAsset quotePrecision quoteAssetPrecision baseCommissionPrecision
quoteCommissionPrecision orderTypes icebergAllowed ocoAllowed otoAllowed opoAllowed quoteOrderQtyMarketAllowed
allowTrailingStop cancelReplaceAllowed amendAllowed pegInstructionsAllowed isSpotTradingAllowed isMarginTradingAllowed
filters permissions permissionSets defaultSelfTradePreventionMode allowedSelfTradePreventionModes
"""


class Venue:
    """A market that has traded a while, its journals and its answers."""

    def __init__(self, folder: Path) -> None:
        self.market = Market(parse_symbols("BTCUSDT,ETHUSDT"), 500.0, 4)
        self.hub = Hub(self.market.streams, folder)
        self.answers = Answers(self.market, self.hub.journals, 6000)
        self.market.begin(NOW_MS)
        for _ in range(3000):
            for issued in self.market.step():
                self.hub.publish(issued)
        self.hub.flush()

    def ask(self, endpoint: str, **query: object) -> Any:
        return self.answers.answer(endpoint, {name: str(value) for name, value in query.items()}, NOW_MS)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    """Return a venue with some thousand trades."""
    made = Venue(tmp_path_factory.mktemp("truth"))
    yield made
    made.hub.close()


def test_trades_are_the_latest(venue: Venue) -> None:
    """Without `fromId` both trade endpoints give the last trades, oldest first, 500 of them by default."""
    last = venue.hub.journals["btcusdt@trade"].ids[1]
    assert last is not None
    for endpoint in ("trades", "historicalTrades"):
        assert [row["id"] for row in venue.ask(endpoint, symbol="BTCUSDT", limit=3)] == [last - 2, last - 1, last]
        assert len(venue.ask(endpoint, symbol="BTCUSDT")) == 500


def test_a_trade_row_is_the_print(venue: Venue) -> None:
    """A row holds the stream's own digits, and the quote quantity with eight decimals."""
    row = venue.ask("trades", symbol="BTCUSDT", limit=1)[0]
    payload = venue.hub.journals["btcusdt@trade"].last(1)[0].decode()
    assert list(row) == ["id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch"]
    assert f'"t":{row["id"]},"p":"{row["price"]}","q":"{row["qty"]}","T":{row["time"]}' in payload
    assert float(row["quoteQty"]) == pytest.approx(float(row["price"]) * float(row["qty"]), abs=1e-8)
    assert len(row["quoteQty"].partition(".")[2]) == 8


@pytest.mark.parametrize(
    ("endpoint", "key", "channel"), [("historicalTrades", "id", "trade"), ("aggTrades", "a", "aggTrade")]
)
def test_from_id_pages_without_a_hole(venue: Venue, endpoint: str, key: str, channel: str) -> None:
    """Paging by `fromId` from the first id visits every record once; an id to come gives no rows."""
    first, last = venue.hub.journals[f"ethusdt@{channel}"].ids
    assert first is not None
    assert last is not None
    seen: list[int] = []
    while rows := venue.ask(endpoint, symbol="ETHUSDT", fromId=seen[-1] + 1 if seen else first, limit=400):
        seen += [row[key] if isinstance(row, dict) else getattr(row, key) for row in rows]
    assert seen == list(range(first, last + 1))


def test_aggregates_between_times(venue: Venue) -> None:
    """Both ends count; one end alone means from there on, or the last ones up to there."""
    everything = venue.ask("aggTrades", symbol="BTCUSDT", limit=1000)
    start, end = everything[200].T, everything[400].T
    inside = [row for row in everything if start <= row.T <= end]
    assert venue.ask("aggTrades", symbol="BTCUSDT", startTime=start, endTime=end, limit=1000) == inside
    assert venue.ask("aggTrades", symbol="BTCUSDT", startTime=start, limit=10) == inside[:10]
    assert venue.ask("aggTrades", symbol="BTCUSDT", endTime=end, limit=10) == inside[-10:]
    assert venue.ask("aggTrades", symbol="BTCUSDT", startTime=end + 1, endTime=end) == []


def test_times_may_be_given_in_microseconds(venue: Venue) -> None:
    """A timestamp in us means the same moment as in ms; between two ms it includes neither too much nor too little."""
    everything = venue.ask("aggTrades", symbol="BTCUSDT", limit=1000)
    start, end = everything[200].T, everything[400].T
    inside = [row for row in everything if start <= row.T <= end]
    ask = partial(venue.ask, "aggTrades", symbol="BTCUSDT", limit=1000)
    assert ask(startTime=start * 1000, endTime=end * 1000 + 999) == inside
    assert ask(startTime=start * 1000 + 1, endTime=end * 1000) == [row for row in inside if row.T - start]


def test_times_can_be_asked_for_in_microseconds(venue: Venue) -> None:
    """Every time of an answer gains three digits, and nothing else changes."""
    for endpoint, key in (("trades", "time"), ("aggTrades", "T")):
        rows = to_builtins(venue.ask(endpoint, symbol="BTCUSDT", limit=2))
        in_us = to_builtins(in_microseconds(venue.ask(endpoint, symbol="BTCUSDT", limit=2)))
        assert in_us == [row | {key: row[key] * 1000} for row in rows]
    assert in_microseconds(venue.ask("time")) == {"serverTime": NOW_MS * 1000}
    assert in_microseconds(venue.ask("ping")) == {}


def test_no_answer_holds_more_than_a_thousand_rows(venue: Venue) -> None:
    """A larger limit is cut to what the venue gives."""
    assert len(venue.ask("trades", symbol="BTCUSDT", limit=5000)) == 1000


def test_depth_agrees_with_the_stream(venue: Venue) -> None:
    """The snapshot's first levels and id are the last bookTicker's."""
    book = venue.ask("depth", symbol="BTCUSDT", limit=5)
    payload = venue.hub.journals["btcusdt@bookTicker"].last(1)[0].decode()
    (bid, bid_size), (ask, ask_size) = book["bids"][0], book["asks"][0]
    assert payload == (
        f'{{"u":{book["lastUpdateId"]},"s":"BTCUSDT","b":"{bid}","B":"{bid_size}","a":"{ask}","A":"{ask_size}"}}'
    )
    assert len(book["bids"]) == 5


def test_exchange_info_lists_what_trades(venue: Venue) -> None:
    """Every symbol is TRADING with its filters; `symbol` and `symbols` choose among them."""
    rows = venue.ask("exchangeInfo")["symbols"]
    assert [(row["symbol"], row["status"], row["baseAsset"]) for row in rows] == [
        ("BTCUSDT", "TRADING", "BTC"),
        ("ETHUSDT", "TRADING", "ETH"),
    ]
    assert {part["filterType"] for part in rows[0]["filters"]} >= {"PRICE_FILTER", "LOT_SIZE", "NOTIONAL"}


@pytest.mark.parametrize(
    ("query", "symbols"),
    [
        ({"symbol": "ETHUSDT"}, ["ETHUSDT"]),
        ({"symbols": '["ETHUSDT","BTCUSDT"]'}, ["ETHUSDT", "BTCUSDT"]),
        ({"permissions": "SPOT"}, ["BTCUSDT", "ETHUSDT"]),
        ({"permissions": '["MARGIN","SPOT"]'}, ["BTCUSDT", "ETHUSDT"]),
        ({"permissions": "LEVERAGED"}, []),
        ({"symbolStatus": "TRADING"}, ["BTCUSDT", "ETHUSDT"]),
        ({"symbolStatus": "BREAK"}, []),
    ],
)
def test_exchange_info_can_be_narrowed(venue: Venue, query: dict[str, str], symbols: list[str]) -> None:
    """Symbols are chosen by name, by permission or by status."""
    assert [row["symbol"] for row in venue.ask("exchangeInfo", **query)["symbols"]] == symbols


def test_exchange_info_has_the_venues_fields(venue: Venue) -> None:
    """A row has every field of the documentation, and permission sets unless they are switched off."""
    row = venue.ask("exchangeInfo", symbol="BTCUSDT")["symbols"][0]
    assert set(row) == set(re.findall(r"\w+", LISTING_FIELDS))
    assert row["permissionSets"] == [["SPOT"]]
    bare = venue.ask("exchangeInfo", symbol="BTCUSDT", showPermissionSets="false")["symbols"][0]
    assert bare == row | {"permissionSets": []}


def test_ping_and_time(venue: Venue) -> None:
    """`ping` is empty and `time` is the venue's clock in ms."""
    assert (venue.ask("ping"), venue.ask("time")) == ({}, {"serverTime": NOW_MS})


@pytest.mark.parametrize(
    ("endpoint", "query", "code", "text"),
    [
        ("trades", {}, -1102, "Mandatory parameter 'symbol' was not sent"),
        ("trades", {"limit": "x", "foo": "1"}, -1102, "Mandatory parameter 'symbol' was not sent"),
        ("trades", {"symbol": ""}, -1105, "Parameter 'symbol' was empty."),
        ("trades", {"symbol": "NOPE"}, -1121, "Invalid symbol."),
        ("depth", {"symbol": "btcusdt"}, -1100, r"parameter 'symbol'; legal range is '^[\w\-._&&[^a-z]]{1,50}$'."),
        ("depth", {"symbol": "BTC/USDT"}, -1100, "Illegal characters found in parameter 'symbol'"),
        ("depth", {"symbol": "币安人生USDT"}, -1121, "Invalid symbol."),
        ("depth", {"symbol": "NOPE", "foo": "1"}, -1104, "read '1' parameter(s) but was sent '2'"),
        ("depth", {"symbol": "BTCUSDT", "symbolStatus": "BREAK"}, -1220, "does not match the requested symbolStatus"),
        ("depth", {"symbol": "BTCUSDT", "symbolStatus": "OPEN"}, -1122, "Invalid symbolStatus."),
        ("time", {"x": "1"}, -1101, "Too many parameters; expected '0' and received '1'."),
        ("trades", {"symbol": "BTCUSDT", "limit": "x"}, -1100, "legal range is '^[0-9]{1,20}$'"),
        ("trades", {"symbol": "BTCUSDT", "limit": "-1"}, -1100, "Illegal characters found in parameter 'limit'"),
        ("trades", {"symbol": "BTCUSDT", "limit": ""}, -1105, "Parameter 'limit' was empty."),
        ("trades", {"symbol": "BTCUSDT", "limit": "0"}, -1130, "Data sent for parameter 'limit' is not valid."),
        ("trades", {"symbol": "BTCUSDT", "fromId": "1"}, -1104, "read '1' parameter(s) but was sent '2'"),
        (
            "aggTrades",
            {"symbol": "BTCUSDT", "fromId": "1", "endTime": "1"},
            -1128,
            "Combination of optional parameters",
        ),
        ("exchangeInfo", {"symbols": "BTCUSDT"}, -1100, "Illegal characters found in parameter 'symbols'"),
        (
            "exchangeInfo",
            {"symbols": '["BTCUSDT", "ETHUSDT"]'},
            -1100,
            "Illegal characters found in parameter 'symbols'",
        ),
        ("exchangeInfo", {"symbols": '["BTCUSDT","BTCUSDT"]'}, -1151, "Symbol is present multiple times in the list."),
        ("exchangeInfo", {"symbol": "BTCUSDT", "permissions": "SPOT"}, -1128, "Combination"),
        ("exchangeInfo", {"showPermissionSets": "yes"}, -1100, "parameter 'showPermissionSets'"),
        ("exchangeInfo", {"symbols": '["NOPE"]'}, -1121, "Invalid symbol."),
        ("exchangeInfo", {"symbol": "BTCUSDT", "symbols": '["BTCUSDT"]'}, -1128, "Combination"),
    ],
)
def test_refusals_speak_the_venues_words(
    venue: Venue, endpoint: str, query: dict[str, str], code: int, text: str
) -> None:
    """Each mistake gets the venue's code and sentence."""
    with pytest.raises(Refused) as refused:
        venue.ask(endpoint, **query)
    assert refused.value.body["code"] == code
    assert text in str(refused.value.body["msg"])


def test_a_parameter_sent_twice_is_refused(venue: Venue) -> None:
    """The venue does not choose between two values."""
    with pytest.raises(Refused) as refused:
        venue.answers.answer("trades", MultiDict([("symbol", "BTCUSDT"), ("symbol", "BTCUSDT")]), NOW_MS)
    assert refused.value.body == {"code": -1101, "msg": "Duplicate values for a parameter detected."}


@pytest.mark.parametrize(
    ("endpoint", "limit", "weight"),
    [
        ("ping", "", 1),
        ("time", "", 1),
        ("exchangeInfo", "", 20),
        ("trades", "", 25),
        ("historicalTrades", "1000", 25),
        ("aggTrades", "1000", 4),
        ("depth", "", 5),
        ("depth", "100", 5),
        ("depth", "101", 25),
        ("depth", "1000", 50),
        ("depth", "5000", 250),
        ("klines", "", None),
    ],
)
def test_weights_are_the_venues(venue: Venue, endpoint: str, limit: str, weight: int | None) -> None:
    """Each request costs what the venue charges; an endpoint that does not exist has no weight."""
    assert venue.answers.weight(endpoint, {"limit": limit}) == weight
