"""Binance spot, and what Binance.US shares with it: combined streams, control messages, id rules, REST repair.

Sources: binance-spot-api-docs, web-socket-streams.md and rest-api.md. Frames come as
`{"stream": "btcusdt@trade", "data": {...}}`, or bare where a raw stream was opened; both are understood.
Symbols are upper case here and lower case in stream names. Times on the wire are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import quote

import msgspec

from marketfeed.codec import is_decimal, validation_error_type
from marketfeed.errors import BadFrame
from marketfeed.events import EARLIEST_US, END_US, AggTrade, BookTicker, Channel, Gap, Grade, Id, Record, Stream, Trade
from marketfeed.exchanges.base import Acknowledged, Closing, Event, Field, Limits, Parse, Refused, Request

_CHANNELS = frozenset({Channel.TRADE, Channel.AGG_TRADE, Channel.BOOK_TICKER})
_SHUTDOWN = "serverShutdown"
_TAKER = {"trade_id": Field("t"), "price": Field("p"), "quantity": Field("q")}
_MATCHED = {"event_time": Field("T", "000")}  # milliseconds there, microseconds here
_FIELDS: dict[type[Record], dict[str, Field]] = {
    Trade: {**_TAKER, **_MATCHED},
    AggTrade: {
        **_TAKER,
        "trade_id": Field("a"),
        "first_trade_id": Field("f"),
        "last_trade_id": Field("l"),
        **_MATCHED,
    },
    BookTicker: {
        "update_id": Field("u"),
        "bid_price": Field("b"),
        "bid_quantity": Field("B"),
        "ask_price": Field("a"),
        "ask_quantity": Field("A"),
    },
}
_PAGE = 1000  # rows in one REST answer

LIMITS = Limits(
    streams_per_connection=1024,
    messages_per_second=5,
    connection_attempts=300,
    connection_window_s=300,
    connection_lifetime_s=86_400,
    request_weight_per_minute=6_000,
    # Not documented: of a message the venue reads the first 4,096 bytes, and calls the rest broken JSON or does not
    # answer at all. A hundred names stay below that at 37 bytes each.
    streams_per_request=100,
)


@dataclass(frozen=True, slots=True)
class BinanceVenue:
    """A venue that speaks Binance's spot protocol."""

    name: str
    websocket_url: str
    rest_urls: tuple[str, ...]
    limits: Limits = LIMITS
    channels: frozenset[Channel] = _CHANNELS
    fields: Mapping[type[Record], Mapping[str, Field]] = field(default_factory=lambda: _FIELDS)

    def url(self, base: str, streams: Collection[Stream]) -> str:
        """Return the combined-stream URL; without streams, the one that waits for SUBSCRIBE."""
        names = "/".join(quote(_stream_name(stream), safe="@") for stream in streams)
        return f"{base.rstrip('/')}/stream" + (f"?streams={names}" if names else "")

    def subscribe(self, streams: Collection[Stream], request_id: int) -> bytes:
        """Return the SUBSCRIBE message."""
        return _request("SUBSCRIBE", request_id, params=[_stream_name(stream) for stream in streams])

    def unsubscribe(self, streams: Collection[Stream], request_id: int) -> bytes:
        """Return the UNSUBSCRIBE message."""
        return _request("UNSUBSCRIBE", request_id, params=[_stream_name(stream) for stream in streams])

    def list_streams(self, request_id: int) -> bytes:
        """Return the LIST_SUBSCRIPTIONS message."""
        return _request("LIST_SUBSCRIPTIONS", request_id)

    def parser(self) -> Parse:
        """Return a parse function for one connection."""
        return _parser(self.name)

    def grade(self, channel: Channel) -> Grade:
        """Trades and aggregates are numbered without holes; a bookTicker's update id skips by design."""
        return Grade.PROVEN if channel in (Channel.TRADE, Channel.AGG_TRADE) else Grade.UNKNOWN

    def gap(self, previous: Record, record: Record) -> Gap | None:
        """Return the ids between two neighbours: `t` for trades, `a` for aggregates.

        An aggregate's `f` that does not follow the last `l` is a hole in the trades, not in the aggregates: the
        trade stream's own ids show it.
        """
        if isinstance(previous, BookTicker) or isinstance(record, BookTicker):
            return None
        first, last = previous.trade_id + 1, record.trade_id - 1
        return Gap(self.name, Stream(record.symbol, record.channel), first, last) if first <= last else None

    def backfill(self, gap: Gap) -> list[Request]:
        """Return one request per thousand ids.

        Prints have only historicalTrades (weight 25): an aggregate at weight 4 does not say which print had which
        quantity. Aggregates have only aggTrades.
        """
        symbol, channel = gap.stream
        if channel not in _REPAIRS:
            return []
        path, weight = _REPAIRS[channel]
        return [
            Request(
                path,
                {"symbol": symbol, "fromId": str(first), "limit": str(min(_PAGE, gap.last_id - first + 1))},
                weight,
            )
            for first in range(gap.first_id, gap.last_id + 1, _PAGE)
        ]


_REPAIRS = {Channel.TRADE: ("/api/v3/historicalTrades", 25), Channel.AGG_TRADE: ("/api/v3/aggTrades", 4)}


def _stream_name(stream: Stream) -> str:
    return f"{stream.symbol.lower()}@{stream.channel}"


def _request(method: str, request_id: int, **more: object) -> bytes:
    return msgspec.json.encode({"method": method, **more, "id": request_id})


# ---- Frames. Decoded once, into exactly the fields that are needed; their checks are part of the decoding. ----

_Milliseconds = Annotated[int, msgspec.Meta(ge=EARLIEST_US // 1000, lt=END_US // 1000)]


class _Trade(msgspec.Struct, gc=False):
    e: Literal["trade"]
    s: str
    t: Id
    p: str
    q: str
    T: _Milliseconds
    m: bool


class _AggTrade(msgspec.Struct, gc=False):
    e: Literal["aggTrade"]
    s: str
    a: Id
    p: str
    q: str
    f: Id
    l: Id  # noqa: E741 - the wire's name
    T: _Milliseconds
    m: bool


class _BookTicker(msgspec.Struct, gc=False):
    s: str
    u: Id
    b: str
    B: str
    a: str
    A: str


class _TradeFrame(msgspec.Struct, gc=False):
    data: _Trade


class _AggTradeFrame(msgspec.Struct, gc=False):
    data: _AggTrade


class _BookTickerFrame(msgspec.Struct, gc=False):
    data: _BookTicker


class _Error(msgspec.Struct):
    code: int
    msg: str


class _Envelope(msgspec.Struct):
    """What tells frames apart: a stream's name, a raw payload's `e`, or the fields of an answer."""

    stream: str | None = None
    e: str | None = None
    u: int | None = None
    id: int | str | None = None
    result: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    error: _Error | None = None
    code: int | None = None
    msg: str = ""


_Read = Callable[[bytes, int], Record]


def _trade_reader(exchange: str) -> _Read:
    decode = msgspec.json.Decoder(_TradeFrame).decode

    def read(frame: bytes, ingestion_time: int) -> Trade:
        data = decode(frame).data
        side: Literal["buy", "sell"] = "sell" if data.m else "buy"  # the buyer was the maker: the taker sold
        return Trade(exchange, data.s, data.t, data.p, data.q, side, data.T * 1000, ingestion_time)

    return read


def _agg_trade_reader(exchange: str) -> _Read:
    decode = msgspec.json.Decoder(_AggTradeFrame).decode

    def read(frame: bytes, ingestion_time: int) -> AggTrade:
        data = decode(frame).data
        side: Literal["buy", "sell"] = "sell" if data.m else "buy"
        return AggTrade(exchange, data.s, data.a, data.p, data.q, side, data.f, data.l, data.T * 1000, ingestion_time)

    return read


def _book_ticker_reader(exchange: str) -> _Read:
    decode = msgspec.json.Decoder(_BookTickerFrame).decode

    def read(frame: bytes, ingestion_time: int) -> BookTicker:
        data = decode(frame).data
        return BookTicker(exchange, data.s, data.u, data.b, data.B, data.a, data.A, ingestion_time, ingestion_time)

    return read


def _check_numbers(record: Record) -> None:
    """Refuse a record whose prices or quantities are no decimal numbers, naming the field on the wire."""
    if isinstance(record, BookTicker):
        numbers = {"b": record.bid_price, "B": record.bid_quantity, "a": record.ask_price, "A": record.ask_quantity}
    else:
        numbers = {"p": record.price, "q": record.quantity}
    for key, number in numbers.items():
        if not is_decimal(number):
            raise BadFrame(
                "not_a_number",
                f"frame refused: {number!r} is not a decimal number such as 39432.48000000 - at `$.data.{key}`",
            )


def _parser(exchange: str) -> Parse:
    readers: dict[str, _Read] = {
        Channel.TRADE: _trade_reader(exchange),
        Channel.AGG_TRADE: _agg_trade_reader(exchange),
        Channel.BOOK_TICKER: _book_ticker_reader(exchange),
    }

    def parse(frame: bytes, ingestion_time: int) -> tuple[Event]:
        try:
            return (_parse_any(frame, ingestion_time, readers),)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_frame(error) from None

    return parse


def _parse_any(frame: bytes, ingestion_time: int, readers: dict[str, _Read]) -> Event:
    """Parse a frame of any kind."""
    envelope = _decode_envelope(frame)
    control = _control(envelope)
    if control is not None:
        return control
    read = readers.get(_channel(envelope))
    if read is None:
        raise BadFrame("unknown_type", f"frame refused: {_kind(envelope)} is not known here")
    record = read(frame if envelope.stream is not None else b'{"data":%b}' % frame, ingestion_time)
    _check_numbers(record)
    return record


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def _control(envelope: _Envelope) -> Acknowledged | Refused | Closing | None:
    """Return what is not market data: an answer to a request, or the notice that the server goes down."""
    if _SHUTDOWN in (envelope.e, (envelope.stream or "").removeprefix("!")):
        return Closing(_SHUTDOWN)
    if envelope.stream is not None or envelope.e is not None:
        return None
    request_id = envelope.id if isinstance(envelope.id, int) else None
    if envelope.error is not None:
        return Refused(request_id, envelope.error.code, envelope.error.msg)
    if envelope.code is not None:
        return Refused(request_id, envelope.code, envelope.msg)
    if envelope.result is msgspec.UNSET:
        return None
    if request_id is None:
        raise BadFrame("wrong_type", f"frame refused: the answer's id {envelope.id!r} is none that we gave - at `$.id`")
    return Acknowledged(request_id, None if envelope.result is None else _listed(envelope.result))


def _listed(names: list[str]) -> tuple[Stream, ...]:
    """Return the streams of a LIST_SUBSCRIPTIONS answer, without those of channels that are not known here."""
    pairs = (name.partition("@") for name in names)
    return tuple(Stream(symbol.upper(), Channel(channel)) for symbol, _, channel in pairs if channel in _CHANNELS)


def _channel(envelope: _Envelope) -> str:
    """Return the channel's name on the wire; a raw bookTicker is the one payload that does not say."""
    if envelope.stream is not None:
        return envelope.stream.partition("@")[2]
    return envelope.e or (Channel.BOOK_TICKER if envelope.u is not None else "")


def _kind(envelope: _Envelope) -> str:
    if envelope.stream is not None:
        return f"the stream {envelope.stream!r}"
    return f"the type {envelope.e!r}" if envelope.e else "a frame without stream, type, result or error"


def _bad_frame(error: Exception) -> BadFrame:
    """Name what is wrong with a frame; msgspec's message ends with the place, as in `$.data.p`."""
    if not isinstance(error, msgspec.ValidationError):
        return BadFrame("not_json", f"frame is not JSON: {error}")
    type_is_wrong = "Invalid enum value" in str(error)
    return BadFrame("unknown_type" if type_is_wrong else validation_error_type(error), f"frame refused: {error}")


VENUE = BinanceVenue(
    name="binance",
    websocket_url="wss://stream.binance.com:9443",
    rest_urls=("https://api.binance.com", "https://api-gcp.binance.com", "https://data-api.binance.vision"),
)
