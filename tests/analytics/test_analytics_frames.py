"""The analytics' transformations, on static frames and in a streaming query, against plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from analytics_records import market, spread_windows, trade_windows
from marketfeed import codec
from marketfeed.analytics.windows import SpreadWindow, TradeWindow
from marketfeed.errors import BadRecord
from marketfeed.events import BookTicker, Channel, Record, Trade
from records import START_US, agg_trade, book_ticker, trade

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_MINUTE_MS, _HALF_MS = 60_000, 30_000
_GOOD = codec.encode(trade(7))
_AGGREGATE = codec.encode(agg_trade(7))
_QUOTE = codec.encode(book_ticker(7))


def _with(good: bytes, **fields: Any) -> bytes:
    """Return a good record with some fields of other values."""
    return msgspec.json.encode({**msgspec.json.decode(good), **fields})


_VALUES: tuple[Any, ...] = (
    *(None, 1, -1, 1.5, 10**30, True, [], {}),
    *("", "x", "1", "1e5", "NaN", "-1", "+1", " 1", ".5"),
)


def _ugly() -> Iterator[bytes]:
    for good in (_GOOD, _AGGREGATE, _QUOTE):
        yield good
        yield msgspec.json.format(good, indent=2)
        fields = msgspec.json.decode(good)
        yield msgspec.json.encode(dict(reversed(fields.items())))
        for name in fields:
            yield msgspec.json.encode({key: value for key, value in fields.items() if key != name})
            for value in _VALUES:
                yield _with(good, **{name: value})
        yield from (good[:-cut] for cut in (1, 2, 10, 50))
        yield from (good + tail for tail in (b" ", b"\n", b"}", b"x", b" x", good))
        yield from (_with(good, extra=value) for value in ("x", 1, None, [1, {"a": 2}], {"nested": {"x": 1}}))
        yield from (_with(good, channel=value) for value in ("depth", "trade", "aggTrade", "bookTicker", "TRADE"))
    for digits in (
        "1.",
        "1.2.3",
        "1\n",
        "٣",
        "0x10",
        "1,5",
        "1_0",
        "Infinity",
        "9" * 400,
        "0." + "0" * 99 + "1",
        "00.10",
    ):
        yield _with(_GOOD, price=digits)
        yield _with(_QUOTE, ask_quantity=digits)
    for time_us in (1_230_940_799_999_999, 1_230_940_800_000_000, 4_102_444_799_999_999, 4_102_444_800_000_000, 2**63):
        yield _with(_GOOD, event_time=time_us)
        yield _with(_AGGREGATE, ingestion_time=time_us)
    yield from (_with(_GOOD, trade_id=value) for value in (0, 2**63 - 1, 2**63, 7.0))
    yield from (_with(_GOOD, v=value) for value in (0, 2, 11, 1.0, "1"))
    yield from (b"", b" ", b"null", b"1", b'"x"', b"[]", b"{}", b"[" + _GOOD + b"]", b"\xef\xbb\xbf" + _GOOD, b"\x00")
    yield from (_GOOD.replace(b"BTCUSDT", bytes(name)) for name in (b"\xff", b"\xc3\xa9", b"\xed\xa0\x80"))
    yield from (_GOOD.replace(b'"', b"'"), _GOOD.replace(b'"price"', b"price"), _GOOD.replace(b":7,", b":07,"))
    yield from (_GOOD.replace(b'"buy"', b'"buy","extra":NaN'), _GOOD.replace(b'"buy"', b'"sell","side":"buy"'))


def _takes(record: bytes) -> bool:
    try:
        codec.decode(record)
    except BadRecord:
        return False
    return True


def _frame(spark: SparkSession, values: Iterable[bytes | None]) -> DataFrame:
    return spark.createDataFrame([(value,) for value in values], "value binary")


def _parsed(spark: SparkSession, records: Iterable[Record]) -> DataFrame:
    from marketfeed.analytics.records import parse  # noqa: PLC0415 - pyspark is there once the fixture is

    return parse(_frame(spark, map(codec.encode, records)), "binance")


def _trades(frame: DataFrame, channel: Channel, window_ms: int = _MINUTE_MS) -> DataFrame:
    from marketfeed.analytics.trade_metrics import trade_metrics  # noqa: PLC0415

    return trade_metrics(frame, channel=channel, window_ms=window_ms, watermark_ms=10_000)


def _spreads(frame: DataFrame, window_ms: int = _HALF_MS) -> DataFrame:
    from marketfeed.analytics.spread_metrics import spread_metrics  # noqa: PLC0415

    return spread_metrics(frame, window_ms=window_ms, watermark_ms=10_000)


def _rows(frame: DataFrame, kind: type[Any]) -> list[Any]:
    from marketfeed.analytics.queries import rows  # noqa: PLC0415

    return rows(frame, kind)


def _verdicts(spark: SparkSession, values: list[bytes]) -> list[bool]:
    """Return whether the job takes each of these records."""
    from marketfeed.analytics.records import parse  # noqa: PLC0415

    found = [row.ok for row in parse(_frame(spark, values).coalesce(1), "binance").select("ok").collect()]
    assert len(found) == len(values)
    return found


def test_the_job_takes_the_records_that_the_consumer_takes(spark: SparkSession) -> None:
    """Of several hundred ugly records none is taken by one of consumer and job alone, and none fails the query."""
    ugly = [value for value in _ugly() if not _takes(value) or codec.decode(value).exchange == "binance"]
    verdicts = _verdicts(spark, ugly)
    different = [(value, took) for value, took in zip(ugly, verdicts, strict=True) if took != _takes(value)]
    assert different == []
    assert 20 < sum(verdicts) < len(ugly) - 200


def test_what_no_database_can_hold_is_refused(spark: SparkSession) -> None:
    """A symbol with a zero character is malformed to the job; the consumer's database refuses it."""
    assert _verdicts(spark, [_with(_GOOD, symbol="A\0B"), _GOOD]) == [False, True]


def test_a_missing_value_and_another_venue(spark: SparkSession) -> None:
    """A record without a value is malformed; one of another venue is neither counted nor malformed."""
    from marketfeed.analytics.records import parse  # noqa: PLC0415

    found = parse(_frame(spark, [None, _with(_GOOD, exchange="kraken"), _GOOD]), "binance").collect()
    assert sorted((row.ok, row.exchange) for row in found) == [(False, None), (True, "binance")]


def test_an_unknown_encoding_is_an_error(spark: SparkSession) -> None:
    """Only encodings with a parser are read."""
    from marketfeed.analytics.records import parse  # noqa: PLC0415

    with pytest.raises(KeyError, match="morse"):
        parse(_frame(spark, []), "binance", "morse")


@pytest.mark.parametrize("channel", [Channel.TRADE, Channel.AGG_TRADE])
@pytest.mark.parametrize(("seed", "window_ms"), [(1, _MINUTE_MS), (2, 5_000), (3, 120_000)])
def test_trade_metrics_equal_plain_python(spark: SparkSession, channel: Channel, seed: int, window_ms: int) -> None:
    """Two channels in one topic, twice, out of order, at windows' edges: one is counted, each id once, exactly."""
    made = market(seed, 3_000)
    found = _rows(_trades(_parsed(spark, made), channel, window_ms), TradeWindow)
    assert len(found) == len(set(found))
    assert set(found) == trade_windows(made, channel, window_ms)


@pytest.mark.parametrize(("seed", "window_ms"), [(4, _HALF_MS), (5, 1_000)])
def test_spread_metrics_equal_plain_python(spark: SparkSession, seed: int, window_ms: int) -> None:
    """Crossed, zero, tiny and huge quotes: spreads and basis points equal, to the last digit."""
    made = market(seed, 3_000)
    found = _rows(_spreads(_parsed(spark, made), window_ms), SpreadWindow)
    assert len(found) == len(set(found))
    assert set(found) == spread_windows(made, window_ms)


@pytest.mark.parametrize("digits", ["0.000000001", "12345678901", "1.123456789", "9" * 400, "0." + "0" * 99 + "1"])
def test_a_number_that_does_not_fit_is_not_rounded(spark: SparkSession, digits: str) -> None:
    """A window with such a price has its counts and no figure at all; the window beside it has all of them."""
    odd = msgspec.structs.replace(trade(2), price=digits)
    made = [trade(1), odd, trade(3, after_us=60_000_000)]
    found = sorted(_rows(_trades(_parsed(spark, made), Channel.TRADE), TradeWindow))
    assert [(row.record_count, row.first_id, row.last_id) for row in found] == [(2, 1, 2), (1, 3, 3)]
    assert set(found[0][9:]) == {None}
    assert {found[1]} == trade_windows(made[2:], Channel.TRADE, _MINUTE_MS)


def test_a_quote_that_does_not_fit_is_not_rounded(spark: SparkSession) -> None:
    """As for trades: counts, and no figure."""
    made = [book_ticker(1), msgspec.structs.replace(book_ticker(2), ask_price="1.123456789")]
    (row,) = _rows(_spreads(_parsed(spark, made)), SpreadWindow)
    assert (row.quote_updates, row.first_id, row.last_id, set(row[7:])) == (2, 1, 2, {None})


def test_sums_that_overflow_are_none(spark: SparkSession) -> None:
    """Products too large to be summed within 38 digits make that sum NULL, and nothing fails."""
    huge = "9999999999.99999999"
    made = [Trade("binance", "A", number, huge, huge, "buy", START_US, START_US) for number in range(200)]
    (row,) = _rows(_trades(_parsed(spark, made), Channel.TRADE), TradeWindow)
    assert (row.record_count, row.quote_volume, row.price_square_sum) == (200, None, None)
    assert row.volume == 200 * Decimal(huge)


def test_a_stream_equals_the_static_frame(spark: SparkSession, tmp_path: Path) -> None:
    """Five batches that repeat a fifth of each other's records, each batch a minute: the windows' last states equal."""
    made = sorted(market(6, 4_000, minutes=5), key=lambda record: record.event_time)
    size = len(made) // 5
    batches = [made[max(0, number * size - size // 50) : (number + 1) * size] for number in range(6)]
    trades, spreads = _streamed(spark, tmp_path, batches)
    assert trades == trade_windows(made, Channel.TRADE, _MINUTE_MS)
    assert spreads == spread_windows(made, _HALF_MS)


def _streamed(spark: SparkSession, folder: Path, batches: list[list[Record]]) -> tuple[set[Any], set[Any]]:
    """Return the last state of each window when these batches come one after the other."""
    from marketfeed.analytics.records import parse  # noqa: PLC0415

    for number, batch in enumerate(batches):
        if batch:
            _frame(spark, map(codec.encode, batch)).coalesce(1).write.parquet(str(folder / "in" / f"{number}"))
    source = spark.readStream.schema("value binary").option("maxFilesPerTrigger", 1)
    parsed = parse(source.parquet(str(folder / "in" / "*")), "binance")
    found = []
    for frame, kind in ((_trades(parsed, Channel.TRADE), TradeWindow), (_spreads(parsed), SpreadWindow)):
        held: dict[Any, Any] = {}

        def keep(batch: DataFrame, _: int, held: dict[Any, Any] = held, kind: type[Any] = kind) -> None:
            held.update({row[:3]: row for row in _rows(batch, kind)})

        writer = frame.writeStream.outputMode("update").option("checkpointLocation", str(folder / kind.__name__))
        query = writer.trigger(availableNow=True).foreachBatch(keep).start()
        query.awaitTermination()
        found.append(set(held.values()))
    return found[0], found[1]


def test_the_market_of_these_tests_is_ugly_enough() -> None:
    """It has duplicates, all channels, crossed quotes and quotes of nothing."""
    made = market(1, 3_000)
    quotes = [record for record in made if isinstance(record, BookTicker)]
    assert {record.channel for record in made} == {Channel.TRADE, Channel.AGG_TRADE, Channel.BOOK_TICKER}
    assert len(set(map(codec.encode, made))) < len(made)
    assert any(Decimal(quote.bid_price) > Decimal(quote.ask_price) for quote in quotes)
    assert any(Decimal(quote.bid_price) + Decimal(quote.ask_price) == 0 for quote in quotes)
