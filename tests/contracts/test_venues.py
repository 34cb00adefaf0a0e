"""What `exchanges.base.Venue` promises, held against every venue."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed import exchanges
from marketfeed.errors import BadFrame
from marketfeed.events import AggTrade, BookTicker, Channel, Gap, Grade, Record, Stream, Trade
from marketfeed.exchanges.base import Acknowledged, Closing, Refused, Venue

AT_MS = 1_672_515_782_136
RECEIVED_US = 1_672_515_782_140_123

BINANCE_TRADE: dict[str, Any] = {
    "e": "trade", "E": AT_MS + 1, "s": "BNBBTC", "t": 12345, "p": "0.00100000", "q": "100.00000000", "T": AT_MS,
    "m": True, "M": True,
}  # fmt: skip
BINANCE_AGG_TRADE: dict[str, Any] = {
    "e": "aggTrade", "E": AT_MS + 1, "s": "BNBBTC", "a": 777, "p": "0.001", "q": "100", "f": 100, "l": 105, "T": AT_MS,
    "m": False, "M": True,
}  # fmt: skip
BINANCE_BOOK_TICKER: dict[str, Any] = {
    "u": 400900217, "s": "BNBBTC", "b": "25.35190000", "B": "31.21000000", "a": "25.36520000", "A": "40.66000000"
}  # fmt: skip


def combined(channel: str, payload: dict[str, Any]) -> bytes:
    """Return a combined frame as the venue writes it."""
    stream = {"stream": f"{payload.get('s', 'BNBBTC').lower()}@{channel}", "data": payload}
    return json.dumps(stream, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Case:
    """A venue with a frame of each channel and the records that they are."""

    name: str
    payloads: dict[Channel, dict[str, Any]]

    @property
    def venue(self) -> Venue:
        return exchanges.venue(self.name)

    def expected(self) -> dict[Channel, Record]:
        at, name = AT_MS * 1000, self.name
        return {
            Channel.TRADE: Trade(name, "BNBBTC", 12345, "0.00100000", "100.00000000", "sell", at, RECEIVED_US),
            Channel.AGG_TRADE: AggTrade(name, "BNBBTC", 777, "0.001", "100", "buy", 100, 105, at, RECEIVED_US),
            Channel.BOOK_TICKER: BookTicker(
                name, "BNBBTC", 400900217, "25.35190000", "31.21000000", "25.36520000", "40.66000000", RECEIVED_US,
                RECEIVED_US,
            ),
        }  # fmt: skip


_COMMON = {
    Channel.TRADE: BINANCE_TRADE,
    Channel.AGG_TRADE: BINANCE_AGG_TRADE,
    Channel.BOOK_TICKER: BINANCE_BOOK_TICKER,
}
CASES = [
    Case("binance", _COMMON),
    Case("binance_us", _COMMON | {Channel.TRADE: BINANCE_TRADE | {"b": 88, "a": 50}}),  # order ids come along
]
each_venue = pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
each_channel = pytest.mark.parametrize("channel", [Channel.TRADE, Channel.AGG_TRADE, Channel.BOOK_TICKER])


def test_every_venue_is_held_to_the_contract() -> None:
    """No venue is registered without a case here."""
    assert {case.name for case in CASES} == set(exchanges.NAMES)


# ---- Frames ----


@each_venue
@each_channel
def test_a_frame_becomes_its_record(case: Case, channel: Channel) -> None:
    """Each channel's frame gives the one expected record, the first time and, by the short way, every time after."""
    parse = case.venue.parser()
    frame = combined(channel, case.payloads[channel])
    for _ in range(3):
        assert list(parse(frame, RECEIVED_US)) == [case.expected()[channel]]


@each_venue
@each_channel
def test_a_raw_frame_is_the_same_record(case: Case, channel: Channel) -> None:
    """A raw stream's payload, without the combined wrapper, gives the same record."""
    frame = json.dumps(case.payloads[channel]).encode()
    assert list(case.venue.parser()(frame, RECEIVED_US)) == [case.expected()[channel]]


@each_venue
@each_channel
def test_order_of_fields_and_blanks_do_not_matter(case: Case, channel: Channel) -> None:
    """The parser reads JSON, not one spelling of it."""
    payload = dict(reversed(case.payloads[channel].items()))
    frame = json.dumps({"data": payload, "stream": f"bnbbtc@{channel}"}, indent=2).encode()
    assert list(case.venue.parser()(frame, RECEIVED_US)) == [case.expected()[channel]]


@each_venue
@pytest.mark.parametrize("symbol", ["A", "BNBBTC", "1000SATSUSDT", "X" * 60, "币安人生USDT"])
def test_symbols_of_any_length_are_told_apart(case: Case, symbol: str) -> None:
    """Neither the length of a name nor its letters lead a frame to another stream's record."""
    parse = case.venue.parser()
    for _ in range(2):
        for channel, payload in case.payloads.items():
            for name in (symbol, symbol + "2"):
                (record,) = parse(combined(channel, payload | {"s": name}), RECEIVED_US)
                assert isinstance(record, Trade | AggTrade | BookTicker)
                assert (record.symbol, record.channel) == (name, channel)


@each_venue
@given(st.decimals(min_value=0, allow_nan=False, allow_infinity=False, places=8), st.integers(0, 10**12))
def test_digits_survive(case: Case, price: Decimal, quantity: int) -> None:
    """The digits of a record are the digits of the frame, whatever number they write."""
    digits = {"p": f"{price:f}", "q": str(quantity)}
    (record,) = case.venue.parser()(combined(Channel.TRADE, BINANCE_TRADE | digits), RECEIVED_US)
    assert isinstance(record, Trade)
    assert (record.price, record.quantity) == (digits["p"], digits["q"])


@each_venue
@pytest.mark.parametrize(("maker_is_buyer", "side"), [(True, "sell"), (False, "buy")])
def test_the_side_is_the_takers(case: Case, side: str, *, maker_is_buyer: bool) -> None:
    """A buyer who was the maker means that the taker sold."""
    parse = case.venue.parser()
    for channel in (Channel.TRADE, Channel.AGG_TRADE):
        (record,) = parse(combined(channel, case.payloads[channel] | {"m": maker_is_buyer}), RECEIVED_US)
        assert isinstance(record, Trade | AggTrade)
        assert record.side == side


def _without(payload: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name != field}


NO_NUMBERS = ("", "x", "NaN", "Infinity", "-1", "+1", "1e5", ".5", "5.", "1.2.3", "1,5", " 1", "1.0 2.0", "٣", "1.0\n")

BAD_FRAMES = [
    (b"", "not_json"),
    (b"not json", "not_json"),
    (b"\xff\xfe", "not_json"),
    (combined("trade", BINANCE_TRADE)[:-20], "not_json"),
    (combined("trade", BINANCE_TRADE) + b"}", "not_json"),
    (b"[" * 100_000, "wrong_type"),
    (b'{"stream":"bnbbtc@trade","data":' + b"[" * 100_000, "not_json"),
    (b"[]", "wrong_type"),
    (b"7", "wrong_type"),
    (b"null", "wrong_type"),
    (b'{"stream":7,"data":{}}', "wrong_type"),
    (b'{"stream":"bnbbtc@trade","data":[]}', "wrong_type"),
    (b"{}", "unknown_type"),
    (b'{"e":"kline","s":"BNBBTC"}', "unknown_type"),
    (combined("kline_1m", BINANCE_TRADE), "unknown_type"),
    (combined("depth@100ms", BINANCE_TRADE), "unknown_type"),
    (combined("trade", BINANCE_TRADE | {"e": "blockTrade"}), "unknown_type"),
    (b'{"stream":"bnbbtc@trade"}', "missing_field"),
    *[
        (combined("trade", _without(BINANCE_TRADE, field)), "missing_field")
        for field in ("e", "s", "t", "p", "q", "T", "m")
    ],
    *[
        (combined("aggTrade", _without(BINANCE_AGG_TRADE, field)), "missing_field")
        for field in ("e", "s", "a", "p", "q", "f", "l", "T", "m")
    ],
    *[
        (combined("bookTicker", _without(BINANCE_BOOK_TICKER, field)), "missing_field")
        for field in ("u", "s", "b", "B", "a", "A")
    ],
    (combined("trade", BINANCE_TRADE | {"p": 0.001}), "wrong_type"),
    (combined("trade", BINANCE_TRADE | {"p": None}), "wrong_type"),
    (combined("trade", BINANCE_TRADE | {"t": "12345"}), "wrong_type"),
    (combined("trade", BINANCE_TRADE | {"t": 1.5}), "wrong_type"),
    (combined("trade", BINANCE_TRADE | {"m": "true"}), "wrong_type"),
    (combined("trade", BINANCE_TRADE | {"t": -1}), "out_of_range"),
    (combined("trade", BINANCE_TRADE | {"t": 2**63}), "out_of_range"),
    (combined("trade", BINANCE_TRADE | {"T": 0}), "out_of_range"),
    (combined("trade", BINANCE_TRADE | {"T": AT_MS * 1000}), "out_of_range"),
    *[
        (combined("trade", BINANCE_TRADE | {field: text}), "not_a_number")
        for field in ("p", "q")
        for text in NO_NUMBERS
    ],
    *[
        (combined("bookTicker", BINANCE_BOOK_TICKER | {field: "0.-10000"}), "not_a_number")
        for field in ("b", "B", "a", "A")
    ],
]  # fmt: skip


@each_venue
@pytest.mark.parametrize(("frame", "error_type"), BAD_FRAMES)
def test_a_bad_frame_is_named(case: Case, frame: bytes, error_type: str) -> None:
    """Each kind of bad frame is refused with its word, also when good ones of its stream came before and come after."""
    parse = case.venue.parser()
    for channel, payload in case.payloads.items():
        parse(combined(channel, payload), RECEIVED_US)
    for _ in range(2):
        with pytest.raises(BadFrame) as caught:
            parse(frame, RECEIVED_US)
        assert caught.value.error_type == error_type
    good = combined(Channel.TRADE, case.payloads[Channel.TRADE])
    assert list(parse(good, RECEIVED_US)) == [case.expected()[Channel.TRADE]]


@each_venue
@pytest.mark.parametrize(
    ("frame", "place"),
    [
        (combined("trade", BINANCE_TRADE | {"p": "abc"}), "$.data.p"),
        (combined("bookTicker", BINANCE_BOOK_TICKER | {"A": "x"}), "$.data.A"),
        (combined("trade", BINANCE_TRADE | {"q": 1}), "$.data.q"),
        (combined("trade", _without(BINANCE_TRADE, "m")), "`m` - at `$.data`"),
        (combined("kline_1m", BINANCE_TRADE), "bnbbtc@kline_1m"),
    ],
)
def test_a_refusal_says_where(case: Case, frame: bytes, place: str) -> None:
    """The message of a refusal names the field, or the stream, that is wrong."""
    with pytest.raises(BadFrame) as caught:
        case.venue.parser()(frame, RECEIVED_US)
    assert place in str(caught.value)


@each_venue
@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_no_bytes_raise_anything_else(case: Case, frame: bytes) -> None:
    """Whatever arrives, a parser gives events or says BadFrame."""
    with suppress(BadFrame):
        case.venue.parser()(frame, RECEIVED_US)


@each_venue
@given(st.data())
def test_no_damaged_frame_raises_anything_else(case: Case, data: st.DataObject) -> None:
    """A frame that is cut, or has a byte changed, gives events or BadFrame, also by the short way."""
    parse = case.venue.parser()
    frame = bytearray(combined(Channel.TRADE, case.payloads[Channel.TRADE]))
    parse(bytes(frame), RECEIVED_US)
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] = data.draw(st.integers(0, 255))
    with suppress(BadFrame):
        parse(bytes(frame), RECEIVED_US)
    with suppress(BadFrame):
        parse(bytes(frame[:at]), RECEIVED_US)


# ---- Control ----


@each_venue
@pytest.mark.parametrize(
    ("frame", "event"),
    [
        (b'{"result":null,"id":1}', Acknowledged(1)),
        (b'{"result":[],"id":3}', Acknowledged(3, ())),
        (
            b'{"result":["btcusdt@aggTrade","ethusdt@kline_1m"],"id":3}',
            Acknowledged(3, (Stream("BTCUSDT", Channel.AGG_TRADE),)),
        ),
        (b'{"code":2,"msg":"Invalid request: x","id":7}', Refused(7, 2, "Invalid request: x")),
        (b'{"code":3,"msg":"Invalid JSON"}', Refused(None, 3, "Invalid JSON")),
        (b'{"error":{"code":2,"msg":"Invalid request"},"id":7}', Refused(7, 2, "Invalid request")),
        (b'{"e":"serverShutdown","E":1770123456789}', Closing("serverShutdown")),
        (
            b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
            Closing("serverShutdown"),
        ),
    ],
)
def test_what_a_venue_says_beside_its_data(case: Case, frame: bytes, event: object) -> None:
    """Answers, refusals and the notice of a shutdown are told apart."""
    assert list(case.venue.parser()(frame, RECEIVED_US)) == [event]


@each_venue
def test_an_answer_to_nobody_is_refused(case: Case) -> None:
    """An answer whose id we cannot have given is not taken for one of ours."""
    with pytest.raises(BadFrame):
        case.venue.parser()(b'{"result":null,"id":"abc"}', RECEIVED_US)


@each_venue
def test_requests_name_their_streams(case: Case) -> None:
    """URL and messages are those of the venue's documentation: lower-case names, unsigned ids."""
    venue = case.venue
    streams = [Stream("BTCUSDT", Channel.TRADE), Stream("ETHUSDT", Channel.BOOK_TICKER)]
    assert venue.url("ws://host:1/", streams) == "ws://host:1/stream?streams=btcusdt@trade/ethusdt@bookTicker"
    assert venue.url("ws://host:1", []) == "ws://host:1/stream"
    assert venue.url("ws://h", [Stream("币USDT", Channel.TRADE)]).isascii()
    params = ["btcusdt@trade", "ethusdt@bookTicker"]
    assert json.loads(venue.subscribe(streams, 5)) == {"method": "SUBSCRIBE", "params": params, "id": 5}
    assert json.loads(venue.unsubscribe(streams, 6)) == {"method": "UNSUBSCRIBE", "params": params, "id": 6}
    assert json.loads(venue.list_streams(7) or b"") == {"method": "LIST_SUBSCRIPTIONS", "id": 7}


@each_venue
def test_a_full_request_is_small_enough(case: Case) -> None:
    """With as many streams as fit into a request, and the longest names there are, it stays below 4,096 bytes."""
    streams = [Stream(f"1000SATSANDMORE{number:03}FDUSD", channel) for number in range(40) for channel in Channel]
    most = case.venue.limits.streams_per_request
    assert len(streams) >= most
    for message in (case.venue.subscribe(streams[:most], 2**31), case.venue.unsubscribe(streams[:most], 2**31)):
        assert len(message) < 4096


# ---- Gaps and their repair ----


@each_venue
@pytest.mark.parametrize(
    ("previous", "following", "missing"),
    [(10, 11, None), (10, 12, (11, 11)), (10, 20, (11, 19)), (10, 10, None), (10, 5, None)],
)
def test_a_gap_is_the_ids_between(case: Case, previous: int, following: int, missing: tuple[int, int] | None) -> None:
    """Trades and aggregates are numbered without holes: a jump is a gap, a repetition or a step back is none."""
    for channel in (Channel.TRADE, Channel.AGG_TRADE):
        parse, field = case.venue.parser(), "t" if channel is Channel.TRADE else "a"
        first, second = (
            parse(combined(channel, case.payloads[channel] | {field: number}), RECEIVED_US)[0]
            for number in (previous, following)
        )
        assert isinstance(first, Trade | AggTrade)
        assert isinstance(second, Trade | AggTrade)
        found = case.venue.gap(first, second)
        stream = Stream("BNBBTC", channel)
        assert found == (None if missing is None else Gap(case.name, stream, *missing))


@each_venue
def test_book_tickers_have_no_gaps(case: Case) -> None:
    """A book ticker's update id skips by design, so nothing can be concluded from a jump."""
    assert case.venue.grade(Channel.BOOK_TICKER) is Grade.UNKNOWN
    assert case.venue.grade(Channel.TRADE) is case.venue.grade(Channel.AGG_TRADE) is Grade.PROVEN
    tickers = [case.expected()[Channel.BOOK_TICKER]] * 2
    assert case.venue.gap(*tickers) is None


REPAIRS = [
    (Channel.TRADE, "/api/v3/historicalTrades", 25),
    (Channel.AGG_TRADE, "/api/v3/aggTrades", 4),
]


@each_venue
@pytest.mark.parametrize("repair", REPAIRS)
@given(first=st.integers(0, 10**12), count=st.integers(1, 5_000))
def test_repair_asks_for_every_missing_id_once(
    case: Case, repair: tuple[Channel, str, int], first: int, count: int
) -> None:
    """The requests of a gap cover exactly its ids, a thousand at a time, at the documented weight."""
    channel, path, weight = repair
    requests = case.venue.backfill(Gap(case.name, Stream("BNBBTC", channel), first, first + count - 1))
    ranges = [(int(request.query["fromId"]), int(request.query["limit"])) for request in requests]
    assert [number for start, limit in ranges for number in range(start, start + limit)] == [
        *range(first, first + count)
    ]
    assert {(request.path, request.weight, request.query["symbol"]) for request in requests} == {
        (path, weight, "BNBBTC")
    }
    assert all(limit <= 1000 for _, limit in ranges)


@each_venue
def test_what_cannot_be_repaired_asks_nothing(case: Case) -> None:
    """A channel without a REST history gives no request."""
    assert case.venue.backfill(Gap(case.name, Stream("BNBBTC", Channel.BOOK_TICKER), 1, 2)) == []
