"""The streaming job's transformations with its store, and a bare query, in one Spark: warmed up, they take turns.

Job: a `side` a line, an empty one ends it. The settings come as AnalyticsSettings' variables in the environment.
Answer: `records`, `seconds` (of the batches) and `cpu_s` (of Spark's Java).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own custom

from benchmarks.children import job, reply
from marketfeed import logs
from marketfeed.analytics import queries, records
from marketfeed.analytics.kafka_options import kafka_options, source_options
from marketfeed.analytics.progress import OBSERVED
from marketfeed.analytics.spread_metrics import spread_metrics
from marketfeed.analytics.store import MetricsStore
from marketfeed.analytics.thresholds import Thresholds
from marketfeed.analytics.trade_metrics import trade_metrics
from marketfeed.analytics.windows import SpreadWindow, TradeWindow
from marketfeed.settings import AnalyticsSettings

_FIELDS = "exchange STRING, symbol STRING, channel STRING, price STRING, quantity STRING, event_time BIGINT"

Write = Callable[[DataFrame, int], None]


class _Sides:
    """Both sides on one session, each run with a checkpoint of its own."""

    def __init__(self, settings: AnalyticsSettings) -> None:
        self._settings = settings
        self._spark: SparkSession = queries.session(settings, os.environ)
        self._java = next(child for child in psutil.Process().children(recursive=True) if "java" in child.name())
        self._thresholds = Thresholds()

    def bare(self) -> dict[str, float]:
        """Count prints and take their VWAP, per minute, in floating point, and throw it away."""
        read = self._raw(f"{self._settings.trade_topic},{self._settings.quote_topic}").select(
            F.from_json(F.col("value").cast("string"), _FIELDS).alias("record")
        )
        trades = read.select("record.*").where(F.col("channel") == self._settings.trade_channel)
        numbers = trades.select(
            "exchange",
            "symbol",
            F.col("price").try_cast("double").alias("price"),
            F.col("quantity").try_cast("double").alias("quantity"),
            F.timestamp_micros("event_time").alias("event_time"),
        )
        late = numbers.withWatermark("event_time", f"{self._settings.watermark_ms} milliseconds")
        grouped = late.groupBy("exchange", "symbol", F.window("event_time", "1 minute"))
        vwap = F.sum(F.col("price") * F.col("quantity")) / F.sum("quantity")
        with self._measured() as found:
            found.update(self._run(grouped.agg(F.count("*"), vwap), lambda batch, _: batch.collect() and None))
        return found

    def product(self) -> dict[str, float]:
        """Run both analytics, one after the other, each batch written to the database and judged."""
        with closing(MetricsStore.of(self._settings)) as store, self._measured() as found:
            trades = self._run(self._trades(), lambda batch, number: self._write_trades(store, batch, number))
            quotes = self._run(self._quotes(), lambda batch, number: self._write_quotes(store, batch, number))
            found.update({name: trades[name] + quotes[name] for name in trades})
            found["trades_per_s"] = trades["records"] / trades["seconds"]
            found["quotes_per_s"] = quotes["records"] / quotes["seconds"]
        return found

    def _trades(self) -> DataFrame:
        settings = self._settings
        return trade_metrics(
            self._records(settings.trade_topic),
            channel=settings.trade_channel,
            window_ms=settings.trade_window_ms,
            watermark_ms=settings.watermark_ms,
        )

    def _quotes(self) -> DataFrame:
        settings = self._settings
        quotes = self._records(settings.quote_topic)
        return spread_metrics(quotes, window_ms=settings.spread_window_ms, watermark_ms=settings.watermark_ms)

    def _records(self, topic: str | None) -> DataFrame:
        """Return a topic's records as the service takes them: counted, which keeps Spark from parsing them twice."""
        counted = records.parse(self._raw(topic), self._settings.exchange).observe(
            OBSERVED, F.count(F.lit(1)).alias("records"), F.count_if(~F.col("ok")).alias("malformed")
        )
        return counted.where("ok")

    def _write_trades(self, store: MetricsStore, batch: DataFrame, number: int) -> None:
        store.write_trades(queries.rows(batch, TradeWindow), number, self._thresholds)

    def _write_quotes(self, store: MetricsStore, batch: DataFrame, number: int) -> None:
        store.write_spreads(queries.rows(batch, SpreadWindow), number, self._thresholds)

    def _raw(self, topics: str | None) -> DataFrame:
        options = kafka_options(self._settings.kafka, None)
        options |= source_options(topics or "", self._settings.max_records_per_trigger)
        return self._spark.readStream.format("kafka").options(**options).load()

    @contextmanager
    def _measured(self) -> Iterator[dict[str, float]]:
        """Yield what to fill in; Java's processor time within the block is added."""
        before = self._cpu_s()
        found: dict[str, float] = {}
        yield found
        found["cpu_s"] = self._cpu_s() - before

    def _cpu_s(self) -> float:
        times = self._java.cpu_times()
        return float(times.user + times.system)

    def _run(self, frame: DataFrame, write: Write) -> dict[str, float]:
        """Run a query over all that its topics hold; return its records, and how long its batches took."""
        checkpoint = tempfile.mkdtemp(prefix="checkpoint-")
        writer = frame.writeStream.outputMode("update").option("checkpointLocation", checkpoint)
        query = writer.trigger(availableNow=True).foreachBatch(write).start()
        try:
            query.awaitTermination()
            batches = [batch for batch in query.recentProgress if batch["numInputRows"]]
        finally:
            query.stop()
            shutil.rmtree(checkpoint, ignore_errors=True)
        taken_ms = sum(batch["durationMs"]["triggerExecution"] for batch in batches)
        return {"records": sum(batch["numInputRows"] for batch in batches), "seconds": taken_ms / 1_000}


def main() -> None:
    """Answer each line with what its side took, until an empty side ends it."""
    logs.configure("ERROR")
    sides = _Sides(AnalyticsSettings.from_env(os.environ, lambda path: Path(path).read_text()))
    known: dict[str, Callable[[], dict[str, Any]]] = {"bare": sides.bare, "product": sides.product}
    while side := job()["side"]:
        reply(**known[side]())


if __name__ == "__main__":
    main()
