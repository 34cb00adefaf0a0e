"""Kafka to committed rows: the real `marketfeed consume` against raw COPY and against a plain script.

All sides write the same rows into the same empty tables, with the same number of rows per commit, one after the other.
How fast each was is read from the commit times that PostgreSQL keeps.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import database
from benchmarks.broker import Topics
from benchmarks.children import Child, Failed
from benchmarks.figures import Figure, median_ratio, say
from benchmarks.market import frames
from benchmarks.services import LOCAL_HTTP, Service, environment, wait_for
from marketfeed import codec
from marketfeed.events import AggTrade, BookTicker, Channel, Trade
from marketfeed.exchanges import venue
from marketfeed.kafka import producer, producer_config
from marketfeed.local.kafka import EmbeddedKafka
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.settings import ConsumerSettings, KeyStyle, ProducerSettings, Secret

RECORDS = 300_000
PLAIN_RECORDS = 60_000  # at a fifth of the rate; its smaller tables are in its favour
ROWS_PER_COMMIT = (500, 5_000)
TOPICS = {Channel.TRADE: "bench.trades", Channel.AGG_TRADE: "bench.trades", Channel.BOOK_TICKER: "bench.book_ticker"}
_DEAD_LETTERS = "bench.dlq"
_RECEIPT_EVERY_US = 200
_DEADLINE_S = 60.0
# Every batch of a backlog fills at once, but for the last one of each partition: its wait is not a rate.
_LAST_BATCHES_WAIT_MS = 100


class _Round:
    """Runs the sides, each in a fresh process and a fresh database, on one broker and one server."""

    def __init__(self, kafka: EmbeddedKafka, postgres: EmbeddedPostgres, folder: Path) -> None:
        self._kafka = kafka.settings
        self._postgres = postgres
        self._folder = folder
        Topics(self._kafka, [*TOPICS.values(), _DEAD_LETTERS])
        self._fill()
        self._warm_up()

    def _warm_up(self) -> None:
        """Read everything once: the first reader finds the broker's code not yet compiled."""
        with database.fresh(self._postgres) as dsn:
            self._product(dsn, ROWS_PER_COMMIT[-1])

    def sides(self, rows_per_commit: int) -> dict[str, float]:
        """Return each side's rows per second; raw COPY takes the very rows that the product has just written."""
        with database.fresh(self._postgres) as ours:
            product = self._product(ours, rows_per_commit)
            database.export(ours, self._folder)
            with database.fresh(self._postgres) as copied:
                database.make_days(copied, ours)
                raw_copy = self._side(copied, {"side": "raw_copy", "folder": str(self._folder)}, rows_per_commit)
            with database.fresh(self._postgres) as plainly:
                database.make_days(plainly, ours)
                plain = self._side(plainly, self._plain_job(), rows_per_commit, PLAIN_RECORDS)
        return {"product": product, "raw_copy": raw_copy, "plain": plain}

    def _product(self, dsn: str, rows_per_commit: int) -> float:
        settings = self._settings(dsn, rows_per_commit)
        secret = {ConsumerSettings.variable("dsn"): dsn}
        with Service(["consume"], environment(settings, **secret), self._folder / "consume.log") as consumer:
            consumer.listening()
            wait_for(lambda: consumer.stats()["rows_stored"] >= RECORDS, "all records stored", _DEADLINE_S)
        return _rate(dsn, RECORDS)

    def _side(self, dsn: str, job: dict[str, object], rows_per_commit: int, records: int = RECORDS) -> float:
        job |= {"rows_per_commit": rows_per_commit, "records": records}
        with Child("store_sides", job, secrets={ConsumerSettings.variable("dsn"): dsn}) as side:
            side.answer()
        return _rate(dsn, records)

    def _plain_job(self) -> dict[str, object]:
        kafka = {"kafka": self._kafka.bootstrap_servers, "topics": sorted(set(TOPICS.values()))}
        return {"side": "plain", "group": _new_group(), **kafka}

    def _settings(self, dsn: str, rows_per_commit: int) -> ConsumerSettings:
        return ConsumerSettings(
            feed="bench",
            sink="bench",
            sink_type="postgresql",
            topics=tuple(sorted(set(TOPICS.values()))),
            group=_new_group(),
            dsn=Secret(dsn),
            dead_letter_topic=_DEAD_LETTERS,
            batch_rows=rows_per_commit,
            batch_max_delay_ms=_LAST_BATCHES_WAIT_MS,
            kafka=self._kafka,
            http=LOCAL_HTTP,
        )

    def _fill(self) -> None:
        """Put the records into the topics as an ingestor that received one every 200 µs would have."""
        client = producer(producer_config(self._kafka, ProducerSettings()))
        parse = venue("binance").parser()
        start_us = time.time_ns() // 1_000 - RECORDS * _RECEIPT_EVERY_US
        for number, frame in enumerate(frames(RECORDS, start_us // 1_000)):
            for record in parse(frame, start_us + number * _RECEIPT_EVERY_US):
                if not isinstance(record, Trade | AggTrade | BookTicker):
                    raise Failed(f"a frame of ours is no record: {frame!r}")
                key = KeyStyle.SYMBOL.key(record.exchange, record.symbol)
                while True:
                    try:
                        client.produce(TOPICS[record.channel], codec.encode(record), key)
                        break
                    except BufferError:
                        client.poll(0.01)
        if client.flush(_DEADLINE_S):
            raise Failed("the broker did not take the records")


def run(kafka: EmbeddedKafka, postgres: EmbeddedPostgres, folder: Path, rounds: int) -> Iterator[Figure]:
    """Yield two ratios for each number of rows per commit, medians over the rounds."""
    one = _Round(kafka, postgres, folder)
    measured: dict[int, list[dict[str, float]]] = {rows: [] for rows in ROWS_PER_COMMIT}
    for number in range(1, rounds + 1):
        for rows, found in measured.items():
            found.append(one.sides(rows))
            say(f"store, round {number} of {rounds}, {rows} rows per commit: {_rounded(found[-1])} rows/s")
    for rows, found in measured.items():
        sides = {side: [sample[side] for sample in found] for side in found[0]}
        details: dict[str, object] = {
            "rounds": rounds,
            "rows_per_commit": rows,
            "rows_per_s": _rounded({side: median(rates) for side, rates in sides.items()}),
        }
        for ratio, other, target in (("of_raw_copy", "raw_copy", 0.5), ("of_execute_values", "plain", 3.0)):
            value = median_ratio(sides["product"], sides[other])
            yield Figure(benchmark="store", ratio=f"{ratio}_{rows}", value=value, target=target, details=details)


def _rate(dsn: str, records: int) -> float:
    """Return the rows per second that the database saw; raises Failed unless every record is a row."""
    found = database.commits(dsn)
    if found.rows != records:
        raise Failed(f"{found.rows} rows are stored, not {records}")
    return found.rows_per_s


def _rounded(rates: dict[str, float]) -> dict[str, int]:
    return {name: round(rate) for name, rate in rates.items()}


def _new_group() -> str:
    return f"bench-{secrets.token_hex(4)}"
