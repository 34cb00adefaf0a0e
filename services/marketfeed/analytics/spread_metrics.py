"""Best bids and asks to their spreads per symbol and window, in price and in basis points, exact."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own custom

from marketfeed.analytics.frames import exact, where_all, windows
from marketfeed.analytics.windows import SpreadWindow
from marketfeed.events import Channel

_DIGITS = ("spread", "bps")

# Basis points of the mid price, (ask - bid) / ((ask + bid) / 2) * 10^4, as a whole number of 10^-8: `div` cuts off
# toward zero, and the quotient is never above 2 * 10^12.
_BPS = """
    CASE WHEN ask + bid = 0 THEN 0L
         WHEN ask + bid > 0 THEN ((ask - bid) * CAST(2000000000000 AS DECIMAL(13, 0))) div (ask + bid) END
"""
_BPS_UNIT = "CAST('0.00000001' AS DECIMAL(8, 8))"


def spread_metrics(quotes: DataFrame, *, window_ms: int, watermark_ms: int) -> DataFrame:
    """Return the columns of SpreadWindow, in their order, a row for each exchange, symbol and window.

    quotes: what `records.parse` returns; malformed records and other channels are left out. A window in which a
    number has more than ten digits before its point, or more than eight after, has NULL for its sums.
    """
    counted = (
        quotes.where(F.col("ok") & (F.col("channel") == Channel.BOOK_TICKER))
        .select(
            "exchange",
            "symbol",
            "id",
            "event_time",
            exact("bid_price", 18).alias("bid"),
            exact("ask_price", 18).alias("ask"),
        )
        .select(
            "exchange", "symbol", "id", "event_time", F.expr("ask - bid").alias("spread"), F.expr(_BPS).alias("bps")
        )
    )
    grouped = windows(counted, window_ms=window_ms, watermark_ms=watermark_ms)
    return grouped.agg(*_figures()).select(*_columns())


def _figures() -> list[Column]:
    values = {
        "spread_sum": F.try_sum("spread"),
        "min_spread": F.min("spread"),
        "max_spread": F.max("spread"),
        "spread_bps_sum": _in_bps(F.try_sum("bps")),
        "min_spread_bps": _in_bps(F.min("bps")),
        "max_spread_bps": _in_bps(F.max("bps")),
    }
    counts = {
        "quote_updates": F.count(F.lit(1)),
        "first_id": F.min("id"),
        "last_id": F.max("id"),
    }
    sums = {name: where_all(_DIGITS, value) for name, value in values.items()}
    return [value.alias(name) for name, value in (counts | sums).items()]


def _in_bps(units: Column) -> Column:
    return units.cast("decimal(20, 0)") * F.expr(_BPS_UNIT)


def _columns() -> list[Column]:
    derived = {"window_start": F.col("span.start"), "window_end": F.col("span.end")}
    return [derived.get(name, F.col(name)).alias(name) for name in SpreadWindow._fields]
