"""The analytics' figures computed by plain Python with Decimal, and a seeded market to compute them of."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Context, Decimal, localcontext

from marketfeed.analytics.windows import SpreadWindow, TradeWindow
from marketfeed.events import AggTrade, BookTicker, Channel, Record, Side, Trade
from marketfeed.ledger import EPOCH
from records import START_US

_MINUTE_US = 60_000_000


def market(seed: int, count: int, *, minutes: int = 4, ids_of_each: int = 3) -> list[Record]:
    """Return records of all channels in several symbols, some twice, out of order, some at windows' very edges."""
    draw = random.Random(seed)  # noqa: S311 - a market, not a secret
    made = [_record(draw, number // ids_of_each, minutes) for number in range(count)]
    by_id = {(record.symbol, record.channel, _id(record)): record for record in made}
    twice = draw.choices(list(by_id.values()), k=count // 5)
    found = [*by_id.values(), *twice]
    draw.shuffle(found)
    return found


def trade_windows(records: Iterable[Record], channel: Channel, window_ms: int) -> set[TradeWindow]:
    """Return what trade_metrics must make of these records, each id once."""
    once = {(record.symbol, _id(record)): record for record in records if record.channel is channel}
    windows: defaultdict[tuple[str, int], list[Trade | AggTrade]] = defaultdict(list)
    for record in once.values():
        assert isinstance(record, Trade | AggTrade)
        windows[record.symbol, record.event_time // (window_ms * 1000)].append(record)
    with localcontext(Context(prec=200)):
        return {trade_window(found, channel, window_ms) for found in windows.values()}


def spread_windows(records: Iterable[Record], window_ms: int) -> set[SpreadWindow]:
    """Return what spread_metrics must make of these records, each id once."""
    once = {(record.symbol, record.update_id): record for record in records if isinstance(record, BookTicker)}
    windows: defaultdict[tuple[str, int], list[BookTicker]] = defaultdict(list)
    for record in once.values():
        windows[record.symbol, record.event_time // (window_ms * 1000)].append(record)
    with localcontext(Context(prec=200)):
        return {spread_window(found, window_ms) for found in windows.values()}


def _id(record: Record) -> int:
    return record.update_id if isinstance(record, BookTicker) else record.trade_id


def _record(draw: random.Random, number: int, minutes: int) -> Record:
    symbol = draw.choice(["BTCUSDT", "ETHUSDT", "PEPEUSDT", "币安人生USDT"])
    edge = draw.choice([0, 1, 29_999_999, 30_000_000, _MINUTE_US - 1])
    within = draw.choice([edge, draw.randrange(_MINUTE_US)])
    time_us = START_US + draw.randrange(minutes) * _MINUTE_US + within
    channel = draw.choice([Channel.TRADE, Channel.AGG_TRADE, Channel.BOOK_TICKER])
    if channel is Channel.BOOK_TICKER:
        return BookTicker("binance", symbol, number, _digits(draw), "1.00", _digits(draw), "0", time_us, time_us)
    side: Side = "buy" if draw.random() < 0.4 else "sell"
    if channel is Channel.TRADE:
        return Trade("binance", symbol, number, _digits(draw), _digits(draw), side, time_us, time_us)
    first = number * 3
    last = first + draw.randrange(3)
    return AggTrade("binance", symbol, number, _digits(draw), _digits(draw), side, first, last, time_us, time_us)


def _digits(draw: random.Random) -> str:
    """Return digits as venues write them, from a 10^-8 to ten before the point, with zeros before and behind."""
    return draw.choice(
        [
            f"{draw.randrange(10**7) / 100:.8f}",
            f"0.{draw.randrange(10**8):08d}",
            "0.00000001",
            f"{draw.randrange(10**10)}.{draw.randrange(10**8):08d}",
            f"00{draw.randrange(100)}",
            f"{draw.randrange(100)}.5000000000000",
            "0",
        ]
    )


def trade_window(found: Sequence[Trade | AggTrade], channel: Channel, window_ms: int) -> TradeWindow:
    """Sum up the records of one symbol and window."""
    ordered = sorted(found, key=lambda record: record.trade_id)
    prices, quantities = [Decimal(one.price) for one in ordered], [Decimal(one.quantity) for one in ordered]
    prints = [one.last_trade_id - one.first_trade_id + 1 if isinstance(one, AggTrade) else 1 for one in ordered]
    return TradeWindow(
        exchange=ordered[0].exchange,
        symbol=ordered[0].symbol,
        window_start=(start := _start(ordered[0], window_ms)),
        window_end=start + timedelta(milliseconds=window_ms),
        channel=channel,
        record_count=len(ordered),
        trade_count=sum(prints),
        first_id=ordered[0].trade_id,
        last_id=ordered[-1].trade_id,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        volume=sum(quantities, Decimal()),
        quote_volume=_dot(prices, quantities),
        taker_buy_volume=sum((Decimal(one.quantity) for one in ordered if one.side == "buy"), Decimal()),
        price_sum=sum(prices, Decimal()),
        price_square_sum=_dot(prices, prices),
    )


def spread_window(found: Sequence[BookTicker], window_ms: int) -> SpreadWindow:
    """Sum up the quotes of one symbol and window."""
    spreads = [Decimal(one.ask_price) - Decimal(one.bid_price) for one in found]
    bps = [basis_points(Decimal(one.bid_price), Decimal(one.ask_price)) for one in found]
    return SpreadWindow(
        exchange=found[0].exchange,
        symbol=found[0].symbol,
        window_start=(start := _start(found[0], window_ms)),
        window_end=start + timedelta(milliseconds=window_ms),
        quote_updates=len(found),
        first_id=min(one.update_id for one in found),
        last_id=max(one.update_id for one in found),
        spread_sum=sum(spreads, Decimal()),
        min_spread=min(spreads),
        max_spread=max(spreads),
        spread_bps_sum=sum(bps, Decimal()),
        min_spread_bps=min(bps),
        max_spread_bps=max(bps),
    )


def _start(record: Record, window_ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=record.event_time // (window_ms * 1000) * window_ms)


def basis_points(bid: Decimal, ask: Decimal) -> Decimal:
    """Return the spread in basis points of the mid price, cut off after 8 decimals."""
    if ask + bid == 0:
        return Decimal()
    units = int(abs(ask - bid) * 20_000 * 10**16) // int((ask + bid) * 10**8)  # 10^-8 of a basis point
    return (Decimal(units) if ask >= bid else Decimal(-units)).scaleb(-8)


def _dot(some: Sequence[Decimal], others: Sequence[Decimal]) -> Decimal:
    return sum((one * other for one, other in zip(some, others, strict=True)), Decimal())
