"""The whole way at a steady 5,000 records a second: latency from receipt to committed row, and each process's memory.

Simulator, ingestor and consumer are the real processes with their default settings, beside a real broker and database.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import database
from benchmarks.broker import Topics
from benchmarks.figures import Figure, say
from benchmarks.market import SYMBOLS
from benchmarks.services import LOCAL_HTTP, Service, environment
from marketfeed.events import Channel
from marketfeed.local.kafka import EmbeddedKafka
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.settings import ConsumerSettings, IngestorSettings, Secret

RECORDS_PER_S = 5_000
_SETTLE_S = 5.0
_RUN_S = 30.0
_ALLOWANCE_MS = 150.0
_MEMORY_MIB = 120.0
_TOPICS = {Channel.TRADE: "live.trades", Channel.AGG_TRADE: "live.trades", Channel.BOOK_TICKER: "live.book_ticker"}
_DEAD_LETTERS = "live.dlq"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was noted while the processes ran: each one's memory at the end, and the slowest partition's records/s."""

    memory_mib: dict[str, float]
    slowest_per_s: float


def run(kafka: EmbeddedKafka, postgres: EmbeddedPostgres, folder: Path, names: frozenset[str]) -> Iterator[Figure]:
    """Run once; yield the figures of those benchmarks of `names` that are here: `latency` and `memory`."""
    with database.fresh(postgres) as dsn:
        consumer = _consumer_settings(kafka, dsn)
        seen = _live(kafka, consumer, folder)
        latency = database.latency(dsn, _SETTLE_S)
    if "latency" in names:
        yield from _latency_figures(latency, consumer, seen.slowest_per_s)
    if "memory" in names:
        for name, mib in seen.memory_mib.items():
            yield Figure(
                benchmark="memory",
                ratio=f"{name}_of_{_MEMORY_MIB:g}_mib",
                value=mib / _MEMORY_MIB,
                target=1.0,
                sense="at most",
                details={"mib": round(mib, 1)},
            )


def _live(kafka: EmbeddedKafka, consumer_settings: ConsumerSettings, folder: Path) -> _Seen:
    """Run the processes for a while."""
    Topics(kafka.settings, [_DEAD_LETTERS])
    market = Topics(kafka.settings, _TOPICS.values())
    with ExitStack() as running:

        def start(arguments: list[str], variables: dict[str, str]) -> Service:
            return running.enter_context(Service(arguments, variables, folder / f"{arguments[0]}.log"))

        venue = start(
            ["simulate", "--rate", str(RECORDS_PER_S), "--symbols", ",".join(SYMBOLS), "--wait-for-streams", "9"], {}
        )
        urls = venue.listening()
        secret = {ConsumerSettings.variable("dsn"): consumer_settings.dsn}
        consumer = start(["consume"], environment(consumer_settings, **secret))
        consumer.listening()
        ingestor = start(["ingest"], environment(ingestor_settings(kafka, urls, folder)))
        ingestor.listening()
        say(f"live: {RECORDS_PER_S} records/s for {_RUN_S:g} s")
        time.sleep(_RUN_S)
        say(f"live: {consumer.stats()['rows_stored']} rows stored")
        memory_mib = {process.name: process.memory_mib() for process in (venue, ingestor, consumer)}
        return _Seen(memory_mib, min(end for end in market.ends() if end) / _RUN_S)


def _latency_figures(found: database.Latency, consumer: ConsumerSettings, slowest_per_s: float) -> Iterator[Figure]:
    """Yield p99 against the longest wait that the settings allow, and against the slowest partition's time to fill."""
    max_delay_ms = float(consumer.batch_max_delay_ms)
    fill_ms = min(max_delay_ms, 1_000 * consumer.batch_rows / slowest_per_s)
    for ratio, wait_ms in (("p99_of_max_delay", max_delay_ms), ("p99_of_batch_fill", fill_ms)):
        allowed_ms = wait_ms + _ALLOWANCE_MS
        yield Figure(
            benchmark="latency",
            ratio=ratio,
            value=found.p99_ms / allowed_ms,
            target=1.0,
            sense="at most",
            details={
                "p50_ms": round(found.p50_ms, 1),
                "p99_ms": round(found.p99_ms, 1),
                "max_ms": round(found.max_ms, 1),
                "allowed_ms": round(allowed_ms, 1),
                "rows": found.rows,
                "records_per_s": RECORDS_PER_S,
            },
        )


def ingestor_settings(kafka: EmbeddedKafka, urls: dict[str, str], folder: Path) -> IngestorSettings:
    """Return what ingests the live market; the simulator said at which `urls` it listens."""
    streams = folder / "live-streams.json"
    streams.write_text(json.dumps({"streams": [f"{symbol}@{channel}" for symbol in SYMBOLS for channel in _TOPICS]}))
    return IngestorSettings(
        feed="live",
        shard="live-0",
        exchange="binance",
        websocket_url=urls["websocket"],
        rest_urls=(urls["rest"],),
        streams_file=str(streams),
        topics={str(channel): topic for channel, topic in _TOPICS.items()},
        dead_letter_topic=_DEAD_LETTERS,
        kafka=kafka.settings,
        http=LOCAL_HTTP,
    )


def _consumer_settings(kafka: EmbeddedKafka, dsn: str) -> ConsumerSettings:
    return ConsumerSettings(
        feed="live",
        sink="live",
        sink_type="postgresql",
        topics=tuple(sorted(set(_TOPICS.values()))),
        group="live",
        dsn=Secret(dsn),
        dead_letter_topic=_DEAD_LETTERS,
        kafka=kafka.settings,
        http=LOCAL_HTTP,
    )
