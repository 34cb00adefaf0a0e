"""The Spark side of the job: its session, its streaming queries, and their end. Needs pyspark; nothing else here does.

topic → `records.parse` → counted → one analytic → the windows that a batch touched, as rows for the database.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own custom
from pyspark.sql.streaming.query import StreamingQuery

from marketfeed.analytics import session_options
from marketfeed.analytics.kafka_options import source_options
from marketfeed.analytics.listener import Listener
from marketfeed.analytics.progress import OBSERVED, Offsets
from marketfeed.analytics.records import parse
from marketfeed.analytics.spread_metrics import spread_metrics
from marketfeed.analytics.trade_metrics import trade_metrics
from marketfeed.analytics.watch import Watch
from marketfeed.analytics.windows import SpreadWindow, TradeWindow
from marketfeed.errors import ConfigurationError, MarketfeedError
from marketfeed.events import Channel
from marketfeed.logs import logger
from marketfeed.settings import AnalyticsSettings

Deliver = Callable[[Callable[[], list[Any]], int], None]
"""Writes one batch; returns when it is written. Given: what computes its windows, and its number."""

_EPOCH = datetime.fromtimestamp(0, UTC)
_TIMES = ("window_start", "window_end")
_POLL_S = 0.02
_JAVA_END_S = 10.0

_log = logger("analytics")


@dataclass(frozen=True, slots=True)
class _Analytic:
    """One query: its table, what it reads, and the function that makes windows of records."""

    table: str
    topic: str
    channel: str
    window_ms: int
    windows: Callable[[DataFrame], DataFrame]
    row: type[TradeWindow | SpreadWindow]


def session(settings: AnalyticsSettings, environ: Mapping[str, str]) -> SparkSession:
    """Return the session; where this is the driver of what somebody submitted, set as it was submitted.

    Raises MarketfeedError when Spark, or its Java, does not start.
    """
    with _named():
        return _session(settings, environ)


def _session(settings: AnalyticsSettings, environ: Mapping[str, str]) -> SparkSession:
    if session_options.submitted(environ):
        SparkContext._ensure_initialized()  # noqa: SLF001 - else SparkConf would not know what was submitted
    conf = SparkConf()
    for name, text in session_options.defaults(settings, environ).items():
        conf.setIfMissing(name, text)
    for name, text in session_options.required(settings).items():
        conf.set(name, text)
    return SparkSession.builder.config(conf=conf).getOrCreate()


def start(
    spark: SparkSession,
    settings: AnalyticsSettings,
    broker: Mapping[str, str],
    deliver: Mapping[str, Deliver],
    watch: Watch,
) -> list[StreamingQuery]:
    """Start a query for each topic that is set; `deliver` gives, per table, who writes its windows.

    Raises ConfigurationError for what Spark refuses, MarketfeedError for what it cannot do now.
    """
    with _named():
        spark.streams.addListener(Listener(watch, lambda query: _committed(spark, query)))
        return [_started(spark, settings, broker, each, deliver[each.table]) for each in _analytics(settings)]


@contextmanager
def _named() -> Iterator[None]:
    """Turn Spark's errors into one line; its own words fill pages."""
    try:
        yield
    except AnalysisException as error:
        raise ConfigurationError(f"Spark refuses the job: {_line(error)}") from None
    except (PySparkException, Py4JError) as error:
        raise MarketfeedError(f"Spark does not start: {_line(error)}") from None


def _line(error: Exception) -> str:
    """Return the line that says what happened: of Java's exceptions, the one after Python's account of the call."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line.removeprefix(": ") for line in lines if line.startswith(": ")), lines[0] if lines else "no word")


def failure(query: StreamingQuery) -> str | None:
    """Return why the query ended, in one line; None while it runs, and when it was stopped."""
    error = None if query.isActive else query.exception()
    return None if error is None else _line(error)


def stop(spark: SparkSession, queries: Sequence[StreamingQuery], deadline_s: float) -> None:
    """Stop each query between two batches, or within one when `deadline_s` is over; then stop Spark."""
    end = time.monotonic() + deadline_s
    for query in queries:
        while query.isActive and query.status["isTriggerActive"] and time.monotonic() < end:
            time.sleep(_POLL_S)
    for query in queries:
        try:
            query.stop()
        except Exception as error:  # noqa: BLE001 - Spark raises what it likes; the batch comes again
            _log.warning("query_not_stopped", query=query.name, reason=_line(error))
    spark.stop()
    _end_java()


def rows(frame: DataFrame, kind: type[TradeWindow | SpreadWindow]) -> list[Any]:
    """Return the frame's rows as windows.

    Times come as whole microseconds: Spark itself would turn them into the local time of this process.
    """
    columns = [F.unix_micros(name).alias(name) if name in _TIMES else F.col(name) for name in kind._fields]
    return [_window(kind, row.asDict()) for row in frame.select(*columns).collect()]


def _window(kind: type[TradeWindow | SpreadWindow], values: dict[str, Any]) -> TradeWindow | SpreadWindow:
    return kind(**{**values, **{name: _EPOCH + timedelta(microseconds=values[name]) for name in _TIMES}})


def _analytics(settings: AnalyticsSettings) -> list[_Analytic]:
    """Return the analytics whose topics are set."""
    watermark_ms = settings.watermark_ms
    channel, trade_ms, spread_ms = settings.trade_channel, settings.trade_window_ms, settings.spread_window_ms

    def trades(frame: DataFrame) -> DataFrame:
        return trade_metrics(frame, channel=channel, window_ms=trade_ms, watermark_ms=watermark_ms)

    def spreads(frame: DataFrame) -> DataFrame:
        return spread_metrics(frame, window_ms=spread_ms, watermark_ms=watermark_ms)

    found = []
    if settings.trade_topic:
        found.append(_Analytic("trade_metrics", settings.trade_topic, channel, trade_ms, trades, TradeWindow))
    if settings.quote_topic:
        quotes = Channel.BOOK_TICKER
        found.append(_Analytic("spread_metrics", settings.quote_topic, quotes, spread_ms, spreads, SpreadWindow))
    return found


def _started(
    spark: SparkSession,
    settings: AnalyticsSettings,
    broker: Mapping[str, str],
    analytic: _Analytic,
    deliver: Deliver,
) -> StreamingQuery:
    def write(batch: DataFrame, batch_id: int) -> None:
        deliver(lambda: rows(batch, analytic.row), batch_id)

    # Threads that Spark starts for a query inherit this: each query has its fair share of the cores.
    spark.sparkContext.setLocalProperty("spark.scheduler.pool", analytic.table)
    return (
        analytic.windows(_records(spark, settings, broker, analytic.topic))
        .writeStream.queryName(analytic.table)
        .outputMode("update")
        .trigger(processingTime=f"{settings.trigger_ms} milliseconds")
        .option("checkpointLocation", _checkpoint(settings, analytic))
        .foreachBatch(write)
        .start()
    )


def _records(spark: SparkSession, settings: AnalyticsSettings, broker: Mapping[str, str], topic: str) -> DataFrame:
    """Return the records of a topic that can be read, counting on their way those that cannot."""
    options = {**broker, **source_options(topic, settings.max_records_per_trigger)}
    raw = spark.readStream.format("kafka").options(**options).load()
    counted = parse(raw, settings.exchange).observe(
        OBSERVED, F.count(F.lit(1)).alias("records"), F.count_if(~F.col("ok")).alias("malformed")
    )
    return counted.where("ok")


def _checkpoint(settings: AnalyticsSettings, analytic: _Analytic) -> str:
    return session_options.checkpoint(
        settings.checkpoint, analytic.table, analytic.topic, analytic.channel, analytic.window_ms
    )


def _committed(spark: SparkSession, query_id: str) -> Offsets:
    """Return what a query has processed, as its checkpoint says; Python's API shows this of a new batch alone."""
    query = spark.streams.get(query_id)
    if query is None:
        return {}
    offsets = query._jsq.streamingQuery().committedOffsets().values().toSeq()  # noqa: SLF001
    found: dict[str, dict[str, int]] = {}
    for index in range(offsets.size()):
        found |= json.loads(offsets.apply(index).json())
    return found


def _end_java() -> None:
    """Let the Java that we started end, and wait for it: its last work is to remove its temporary files."""
    gateway = SparkContext._gateway  # noqa: SLF001 - Spark leaves this to the end of the process
    process = getattr(gateway, "proc", None)
    if gateway is None or process is None:
        return
    gateway.shutdown()
    process.stdin.close()
    try:
        process.wait(_JAVA_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
