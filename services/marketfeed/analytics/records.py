"""Reads the topics' bytes into columns, and says of each record whether it is one: the same as `codec.decode` takes.

What does not live here: which records an analytic counts, and what becomes of malformed ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own custom

from marketfeed.events import EARLIEST_US, END_US, Channel

# A field is NULL where it is missing or of another type. `v` and `source` are judged by their text below.
_SCHEMA = (
    "channel STRING, exchange STRING, symbol STRING, trade_id BIGINT, update_id BIGINT, "
    "price STRING, quantity STRING, side STRING, first_trade_id BIGINT, last_trade_id BIGINT, "
    "bid_price STRING, bid_quantity STRING, ask_price STRING, ask_quantity STRING, "
    "event_time BIGINT, ingestion_time BIGINT"
)

# Jackson is to be no more generous than the consumer's decoder.
_JSON = {"mode": "PERMISSIVE", "allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}

# What Spark takes and the consumer refuses, found in the text by one search: numbers that are no plain decimals or
# stand without quotes, other versions, unknown words, anything after the object, a character that no database holds.
# A brace or such a field within a field that is none of ours may be refused too: too few is what the ledger repairs.
_REFUSED = (
    r'"(?:'
    r'(?:bid_|ask_)?(?:price|quantity)"\s*+:\s*+(?!"[0-9]++(?:\.[0-9]++)?")'
    r'|(?:exchange|symbol)"\s*+:\s*+(?!")'
    r'|channel"\s*+:\s*+(?!"(?:trade|aggTrade|bookTicker)")'
    r'|side"\s*+:\s*+(?!"(?:buy|sell)")'
    r'|source"\s*+:\s*+(?!"(?:stream|backfill)")'
    r'|v"\s*+:\s*+(?!1\s*+[,}])'
    r")"
    r"|^[^{}]*+\{[^{}]*+\}\s*+\S"
    r"|\\u0000"
)


def parse(raw: DataFrame, exchange: str, encoding: str = "json") -> DataFrame:
    """Return the records of a venue, and those that cannot be read, as columns.

    raw: Kafka's columns, of which `value` is read. Columns: exchange, symbol, channel, id (bigint); price, quantity,
    side, bid_price, ask_price (text, the venue's digits); first_trade_id, last_trade_id (bigint); event_time
    (timestamp); ok (boolean, never NULL): whether the consumer takes it. Only where it is true do the others hold.

    Spark moves a filter on these columns to before the parsing, and then parses a record for each column it names:
    `observe` the result first, as the job does to count malformed records, and it parses each of them once.

    Raises KeyError for an encoding that PARSERS lacks.
    """
    return PARSERS[encoding](raw).where(~F.col("ok") | (F.col("exchange") == exchange))


def _json(raw: DataFrame) -> DataFrame:
    text = raw.select(F.col("value").cast("string").alias("text"))
    read = text.select("text", F.from_json("text", _SCHEMA, _JSON).alias("record")).select("text", "record.*")
    return read.select(
        "exchange",
        "symbol",
        "channel",
        F.coalesce(F.when(F.col("channel") == Channel.BOOK_TICKER, F.col("update_id")), F.col("trade_id")).alias("id"),
        "price",
        "quantity",
        "side",
        "bid_price",
        "ask_price",
        "first_trade_id",
        "last_trade_id",
        F.timestamp_micros("event_time").alias("event_time"),
        F.coalesce(_is_good(), F.lit(False)).alias("ok"),  # noqa: FBT003 - a column's value
    )


PARSERS: Mapping[str, Callable[[DataFrame], DataFrame]] = {"json": _json}
"""By a topic's encoding: raw rows to the columns of `parse`, for all venues. Another encoding is another function."""


def _is_good() -> Column:
    """Return whether the row is a record; NULL counts as no."""
    known = _holds("exchange", "symbol") & _is_time("event_time") & _is_time("ingestion_time")
    return known & _is_of_its_channel() & F.is_valid_utf8("text") & ~F.col("text").rlike(_REFUSED)


def _is_of_its_channel() -> Column:
    """Return whether the fields are there that the record's channel asks for."""
    trade = _holds("price", "quantity", "side") & _is_id("trade_id")
    quote = _holds("bid_price", "bid_quantity", "ask_price", "ask_quantity") & _is_id("update_id")
    aggregate = trade & _is_id("first_trade_id") & _is_id("last_trade_id")
    channel = F.col("channel")
    return (
        F.when(channel == Channel.TRADE, trade)
        .when(channel == Channel.AGG_TRADE, aggregate)
        .when(channel == Channel.BOOK_TICKER, quote)
    )


def _holds(*names: str) -> Column:
    there = F.lit(True)  # noqa: FBT003 - a column's value
    for name in names:
        there &= F.col(name).isNotNull()
    return there


def _is_id(name: str) -> Column:
    return F.col(name) >= 0


def _is_time(name: str) -> Column:
    return (F.col(name) >= EARLIEST_US) & (F.col(name) < END_US)
