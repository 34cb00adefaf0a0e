"""The streaming job: its rate against a bare query's and DuckDB's, and how soon after its end a window is complete.

Rates are of `analytics_sides` and `analytics_peer`, on records that a broker holds; the delay is of the real
`marketfeed analytics`, beside simulator, ingestor and the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median

import psycopg2

from benchmarks import database
from benchmarks.broker import Topics
from benchmarks.children import Child, Failed
from benchmarks.figures import Figure, median_ratio, say
from benchmarks.live import ingestor_settings
from benchmarks.market import SYMBOLS, frames
from benchmarks.services import LOCAL_HTTP, Service, environment, wait_for
from marketfeed import codec
from marketfeed.events import AggTrade, BookTicker, Channel, Trade
from marketfeed.exchanges import venue
from marketfeed.kafka import producer, producer_config
from marketfeed.local.kafka import EmbeddedKafka
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.local.spark import provide
from marketfeed.settings import AnalyticsSettings, KafkaSettings, KeyStyle, ProducerSettings, Secret

RECORDS = 1_000_000
_TRADES, _QUOTES = "analytics.trades", "analytics.book_ticker"
_TOPICS = {Channel.TRADE: _TRADES, Channel.AGG_TRADE: _TRADES, Channel.BOOK_TICKER: _QUOTES}
_EVERY_US = 200
_FLUSH_S = 60.0
_SIDE_S = 600.0  # a first run compiles what it runs, on a machine that may be busy

_LIVE_WINDOW_MS = 10_000
_LIVE_PER_S = 1_000
_LIVE_S = 90.0
_START_S = 180.0
_ALLOWANCE_S = 5.0
_LOOK_EVERY_S = 0.1

_COUNTS = """
SELECT 't' || symbol, extract(epoch FROM window_end)::float8, record_count FROM trade_metrics
UNION ALL SELECT 'q' || symbol, extract(epoch FROM window_end)::float8, quote_updates FROM spread_metrics
"""

Sample = Mapping[str, float]


def run(kafka: EmbeddedKafka, postgres: EmbeddedPostgres, folder: Path, rounds: int) -> Iterator[Figure]:
    """Yield the ratios of rates, medians over the rounds, and the delay."""
    yield from _rates(kafka.settings, postgres, folder, rounds)
    yield _delay(kafka, postgres, folder)


def _rates(kafka: KafkaSettings, postgres: EmbeddedPostgres, folder: Path, rounds: int) -> Iterator[Figure]:
    values = folder / "analytics.ndjson"
    _fill(kafka, values)
    found: dict[str, list[Sample]] = {"product": [], "bare": [], "duckdb": []}
    with database.fresh(postgres) as dsn:
        settings = _settings(kafka, dsn, folder)
        variables = environment(settings, **{settings.variable("dsn"): dsn}) | _spark(folder)
        with Child("analytics_sides", {"side": "bare"}, secrets=variables) as spark:
            spark.answer(_SIDE_S)
            _side(spark, "product")  # as the bare run before it: not counted, its code was not yet compiled
            for number in range(1, rounds + 1):
                found["bare"].append(_side(spark, "bare"))
                found["product"].append(_side(spark, "product"))
                found["duckdb"].append(_duckdb(values))
                rates = {name: round(_rate(samples[-1])) for name, samples in found.items()}
                say(f"analytics, round {number} of {rounds}: {rates} records/s")
            spark.tell({"side": ""})
    yield from _ratios(found)


def _ratios(found: Mapping[str, list[Sample]]) -> Iterator[Figure]:
    rates = {name: [_rate(sample) for sample in samples] for name, samples in found.items()}
    cpu = {name: [sample["cpu_s"] for sample in samples] for name, samples in found.items()}
    details: dict[str, object] = {
        "rounds": len(rates["product"]),
        "records": RECORDS,
        "records_per_s": {name: round(median(values)) for name, values in rates.items()},
        "trades_per_s": round(median(sample["trades_per_s"] for sample in found["product"])),
        "quotes_per_s": round(median(sample["quotes_per_s"] for sample in found["product"])),
        "cpu_us_per_record": {name: round(median(values) / RECORDS * 1e6, 2) for name, values in cpu.items()},
    }
    for ratio, other, target in (("of_bare", "bare", 0.6), ("of_duckdb", "duckdb", None)):
        by_cpu = round(median_ratio(cpu[other], cpu["product"]), 3)
        value = median_ratio(rates["product"], rates[other])
        yield Figure(
            benchmark="analytics", ratio=ratio, value=value, target=target, details=details | {"value_by_cpu": by_cpu}
        )


def _side(spark: Child, name: str) -> Sample:
    """Run one side; raises Failed unless it read every record."""
    spark.tell({"side": name})
    sample: Sample = spark.answer(_SIDE_S)
    if sample["records"] != RECORDS:
        raise Failed(f"{name} read {sample['records']:g} records, not {RECORDS}")
    return sample


def _duckdb(values: Path) -> Sample:
    with Child("analytics_peer", {"values": str(values)}) as peer:
        found: Sample = peer.answer(_SIDE_S)
    return found


def _rate(sample: Sample) -> float:
    return sample["records"] / sample["seconds"]


def _fill(kafka: KafkaSettings, values: Path) -> None:
    """Put the records into the topics as an ingestor would have, and the same bytes into a file, one a line."""
    Topics(kafka, _TOPICS.values())
    client = producer(producer_config(kafka, ProducerSettings()))
    parse = venue("binance").parser()
    start_us = time.time_ns() // 1_000 - RECORDS * _EVERY_US
    with values.open("wb") as lines:
        for number, frame in enumerate(frames(RECORDS, start_us // 1_000)):
            for record in parse(frame, start_us + number * _EVERY_US):
                if not isinstance(record, Trade | AggTrade | BookTicker):
                    raise Failed(f"a frame of ours is no record: {frame!r}")
                data = codec.encode(record)
                lines.write(data + b"\n")
                key = KeyStyle.SYMBOL.key(record.exchange, record.symbol)
                while True:
                    try:
                        client.produce(_TOPICS[record.channel], data, key)
                        break
                    except BufferError:
                        client.poll(0.01)
    if client.flush(_FLUSH_S):
        raise Failed("the broker did not take the records")


def _delay(kafka: EmbeddedKafka, postgres: EmbeddedPostgres, folder: Path) -> Figure:
    """Return the longest time from a window's end to the moment in which its row counts all that it will ever count."""
    with database.fresh(postgres) as dsn, ExitStack() as running:
        settings = _live_settings(kafka.settings, dsn, folder)

        def start(arguments: list[str], variables: dict[str, str]) -> Service:
            return running.enter_context(Service(arguments, variables, folder / f"delay-{arguments[0]}.log"))

        Topics(kafka.settings, ["live.trades", "live.book_ticker", "live.dlq"])
        variables = environment(settings, **{settings.variable("dsn"): dsn}) | _spark(folder)
        start(["analytics"], variables).listening(_START_S)
        simulator = start(
            ["simulate", "--rate", str(_LIVE_PER_S), "--symbols", ",".join(SYMBOLS), "--wait-for-streams", "9"], {}
        )
        start(["ingest"], environment(ingestor_settings(kafka, simulator.listening(), folder))).listening()
        say(f"analytics: {_LIVE_PER_S} records/s for {_LIVE_S:g} s")
        delays = _delays(dsn)
    allowed_s = (settings.trigger_ms + settings.watermark_ms) / 1_000 + _ALLOWANCE_S
    return Figure(
        benchmark="analytics",
        ratio="delay_of_allowed",
        value=max(delays) / allowed_s,
        target=1.0,
        sense="at most",
        details={
            "max_s": round(max(delays), 2),
            "median_s": round(median(delays), 2),
            "allowed_s": allowed_s,
            "windows": len(delays),
            "records_per_s": _LIVE_PER_S,
        },
    )


def _delays(dsn: str) -> list[float]:
    """Watch the tables; return the delays, in seconds, of the windows that were open after the first row came."""
    reached: dict[tuple[str, float], tuple[int, float]] = {}
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True

        def look() -> bool:
            cursor.execute(_COUNTS)
            now = time.time()
            for name, end, count in cursor.fetchall():
                if reached.get((name, end), (0, 0.0))[0] != count:
                    reached[name, end] = (count, now)
            return bool(reached)

        wait_for(look, "a first window", _START_S)
        begun = time.time()
        while time.time() < begun + _LIVE_S:
            look()
            time.sleep(_LOOK_EVERY_S)
    # The last windows may still grow when this ends.
    settled = begun + _LIVE_S - 2 * _LIVE_WINDOW_MS / 1_000 - _ALLOWANCE_S
    delays = [max(0.0, at - end) for (_, end), (_, at) in reached.items() if begun < end < settled]
    if not delays:
        raise Failed("no window ended while it was watched")
    return delays


def _settings(kafka: KafkaSettings, dsn: str, folder: Path) -> AnalyticsSettings:
    return AnalyticsSettings(
        feed="bench",
        exchange="binance",
        sink="bench",
        dsn=Secret(dsn),
        trade_topic=_TRADES,
        quote_topic=_QUOTES,
        checkpoint=str(folder / "checkpoint"),
        kafka=kafka,
        http=LOCAL_HTTP,
    )


def _live_settings(kafka: KafkaSettings, dsn: str, folder: Path) -> AnalyticsSettings:
    return AnalyticsSettings(
        feed="live",
        exchange="binance",
        sink="live",
        dsn=Secret(dsn),
        trade_topic="live.trades",
        quote_topic="live.book_ticker",
        trade_window_ms=_LIVE_WINDOW_MS,
        spread_window_ms=_LIVE_WINDOW_MS,
        checkpoint=str(folder / "live-checkpoint"),
        kafka=kafka,
        http=LOCAL_HTTP,
    )


def _spark(folder: Path) -> dict[str, str]:
    scratch = folder / "spark"
    scratch.mkdir(exist_ok=True)
    return provide().environment(scratch=scratch)
