"""What the analytics share: exact decimals of text, each id once, rows of one window together."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own custom
from pyspark.sql.group import GroupedData

DECIMALS = 8
"""As many as venues write. More of them, other than zeros, do not fit: the column is NULL then, never rounded."""


def exact(name: str, precision: int) -> Column:
    """Return a text column's number as DECIMAL(precision, 8), NULL where its digits do not fit."""
    fits = f"instr({name}, '.') = 0 OR length(rtrim('0', {name})) - instr({name}, '.') <= {DECIMALS}"
    return F.expr(f"CASE WHEN {fits} THEN try_cast({name} AS DECIMAL({precision}, {DECIMALS})) END")


def windows(records: DataFrame, *, window_ms: int, watermark_ms: int) -> GroupedData:
    """Return records grouped by exchange, symbol and tumbling window, each id once.

    A stream forgets ids and closes windows when `watermark_ms` have passed in the records' own time; a static frame
    does neither. records: exchange, symbol, id, event_time and whatever is to be aggregated.
    """
    late = records.withWatermark("event_time", f"{watermark_ms} milliseconds")
    keys = ["exchange", "symbol", "id"]
    once = late.dropDuplicatesWithinWatermark(keys) if records.isStreaming else late.dropDuplicates(keys)
    return once.groupBy("exchange", "symbol", F.window("event_time", f"{window_ms} milliseconds").alias("span"))


def where_all(names: Sequence[str], value: Column) -> Column:
    """Return an aggregate's value, NULL where one of the window's records lacks one of these columns."""
    complete = F.lit(True)  # noqa: FBT003 - a column's value
    for name in names:
        complete &= F.count(name) == F.count(F.lit(1))
    return F.when(complete, value)
