"""One window of each analytic, as it travels from Spark to the database: names, order and units of its columns.

Derived figures (vwap, price_stddev, averages) are no columns here: the database generates them from these exact sums,
see sql/migrations/0003_metrics.sql. Times are timezone-aware datetimes at full milliseconds, numbers are exact.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple


class TradeWindow(NamedTuple):
    """A row of trade_metrics. A sum is None where a record's digits were too many to be summed exactly."""

    exchange: str
    symbol: str
    window_start: datetime
    window_end: datetime
    channel: str
    record_count: int
    trade_count: int
    first_id: int
    last_id: int
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal | None
    quote_volume: Decimal | None
    taker_buy_volume: Decimal | None
    price_sum: Decimal | None
    price_square_sum: Decimal | None


class SpreadWindow(NamedTuple):
    """A row of spread_metrics; None as above."""

    exchange: str
    symbol: str
    window_start: datetime
    window_end: datetime
    quote_updates: int
    first_id: int
    last_id: int
    spread_sum: Decimal | None
    min_spread: Decimal | None
    max_spread: Decimal | None
    spread_bps_sum: Decimal | None
    min_spread_bps: Decimal | None
    max_spread_bps: Decimal | None
