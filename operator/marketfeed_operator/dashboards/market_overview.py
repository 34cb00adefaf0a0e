"""The market: prices, volume, spreads, the newest prints."""

from __future__ import annotations

from grafana_foundation_sdk.builders import candlestick, table, timeseries

from marketfeed_operator.dashboards.board import Board, Row, exchange_and_symbol
from marketfeed_operator.dashboards.panels import About, bars, candles, lines, logarithmic, rows
from marketfeed_operator.dashboards.queries import Sql

_NO_WINDOWS = "no windows in this range: the streaming job writes them"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "market_overview",
        "market overview",
        "Prices, volume and spreads of the chosen symbols, from the windows that the streaming job writes.",
        exchange_and_symbol(),
        [
            Row("Symbols", [_summary()]),
            Row("Prices", _prices()),
            Row("Trading", _trading()),
            Row("Candles of each symbol", [_candles()], is_closed=True),
            Row("Prints", [_prints()]),
        ],
    )


def _summary() -> table.Panel:
    about = About(
        "Last prices",
        "The last price of each symbol, and what its windows in the range add up to.",
        width=24,
        no_data=_NO_WINDOWS,
    )
    units = {"change": "percentunit", "taker_buy_share": "percentunit", "last_price": "none", "vwap": "none"}
    return rows(about, Sql("market_overview/summary"), units)


def _prices() -> list[timeseries.Panel]:
    vwap = About("Price", "Volume-weighted mean price (VWAP), logarithmic.", unit="none", no_data=_NO_WINDOWS)
    change = About(
        "Change of price",
        "How far the last price of each minute is from the first of the range.",
        unit="percentunit",
        no_data=_NO_WINDOWS,
    )
    return [logarithmic(lines(vwap, Sql("market_overview/vwap"))), lines(change, Sql("market_overview/price_change"))]


def _trading() -> list[timeseries.Panel]:
    volume = About("Volume", "Traded volume in the quote asset.", no_data=_NO_WINDOWS)
    trades = About(
        "Trades per minute", "Prints per minute; an aggTrade counts as the prints it sums up.", no_data=_NO_WINDOWS
    )
    spread = About(
        "Spread",
        "Mean spread of all quote updates, in basis points of the middle price.",
        unit="none",
        no_data="no quotes in this range: the feed needs the channel bookTicker",
    )
    share = About(
        "Taker buys",
        "Share of the volume that takers bought: above half, buyers were in a hurry.",
        unit="percentunit",
        no_data=_NO_WINDOWS,
        limits=[(0.5, "blue")],
    )
    return [
        bars(volume, Sql("market_overview/volume")),
        lines(trades, Sql("market_overview/trades_per_minute")),
        lines(spread, Sql("market_overview/spread_bps")),
        lines(share, Sql("market_overview/taker_buy_share")).min(0).max(1),
    ]


def _candles() -> candlestick.Panel:
    about = About("$symbol", "Open, high, low, close and volume of each interval.", "none", no_data=_NO_WINDOWS)
    return candles(about, Sql("market_overview/candles")).repeat("symbol").repeat_direction("h").max_per_row(2)


def _prints() -> table.Panel:
    about = About("Newest prints", "The newest fifty of the range.", "none", 24, no_data="no prints in this range")
    return rows(about, Sql("market_overview/latest_prints"), {})
