"""Trades to their metrics per symbol and window: sums and bounds, exact. The database derives VWAP and deviation."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own custom

from marketfeed.analytics.frames import exact, where_all, windows
from marketfeed.analytics.windows import TradeWindow
from marketfeed.events import Channel

_DIGITS = ("price", "quantity")


def trade_metrics(trades: DataFrame, *, channel: str, window_ms: int, watermark_ms: int) -> DataFrame:
    """Return the columns of TradeWindow, in their order, a row for each exchange, symbol and window.

    trades: what `records.parse` returns; malformed records and those of other channels are left out. A product of
    price and quantity has 22 digits before its point and 16 after, and so have sums: what would not fit is NULL.
    """
    counted = trades.where(F.col("ok") & (F.col("channel") == channel)).select(
        "exchange",
        "symbol",
        "id",
        "event_time",
        exact("price", 18).alias("price"),
        exact("quantity", 19).alias("quantity"),
        (F.col("side") == "buy").alias("bought"),
        _prints(channel).alias("prints"),
    )
    grouped = windows(counted, window_ms=window_ms, watermark_ms=watermark_ms)
    return grouped.agg(*_figures()).select(*_columns(channel))


def _prints(channel: str) -> Column:
    """Return how many prints a record stands for."""
    return (
        F.expr("try_add(try_subtract(last_trade_id, first_trade_id), 1)") if channel == Channel.AGG_TRADE else F.lit(1)
    )


def _figures() -> list[Column]:
    price, quantity = F.col("price"), F.col("quantity")
    values = {
        "open": F.min_by("price", "id"),
        "high": F.max("price"),
        "low": F.min("price"),
        "close": F.max_by("price", "id"),
        "volume": F.try_sum(quantity),
        "quote_volume": F.try_sum(price * quantity),
        "taker_buy_volume": F.try_sum(F.when(F.col("bought"), quantity).otherwise(0)),
        "price_sum": F.try_sum(price),
        "price_square_sum": F.try_sum(price * price),
    }
    counts = {
        "record_count": F.count(F.lit(1)),
        "trade_count": F.coalesce(F.try_sum("prints"), F.count(F.lit(1))),
        "first_id": F.min("id"),
        "last_id": F.max("id"),
    }
    sums = {name: where_all(_DIGITS, value) for name, value in values.items()}
    return [value.alias(name) for name, value in (counts | sums).items()]


def _columns(channel: str) -> list[Column]:
    derived = {
        "window_start": F.col("span.start"),
        "window_end": F.col("span.end"),
        "channel": F.lit(channel),
    }
    return [derived.get(name, F.col(name)).alias(name) for name in TradeWindow._fields]
