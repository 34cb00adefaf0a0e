"""What the store path is compared with, each in a process of its own: raw COPY, and the plain consumer of many scripts.

Job: `side`, `rows_per_commit`; `folder` with one prepared text per table, or `kafka`, `topics`, `group` and `records`.
The DSN comes in MARKETFEED_DSN. Answer: `cpu_s`. How fast it was is read from the database afterwards.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg2
from confluent_kafka import Consumer
from psycopg2.extras import execute_values

from benchmarks.children import job, reply
from benchmarks.database import TABLES
from marketfeed import logs
from marketfeed.kafka import consumer_config
from marketfeed.settings import ConsumerSettings, KafkaSettings

_COLUMNS = {
    "trades": "exchange symbol channel trade_id price quantity side first_trade_id last_trade_id event_time "
    "ingestion_time source",
    "book_ticker": "exchange symbol update_id bid_price bid_quantity ask_price ask_quantity event_time "
    "ingestion_time source",
}


def raw_copy(work: dict[str, Any], dsn: str) -> None:
    """COPY text that was prepared beforehand, one commit per `rows_per_commit` rows, and nothing else."""
    batches = _prepared(Path(work["folder"]), work["rows_per_commit"])
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        before = time.process_time()
        for table, text in batches:
            cursor.copy_expert(f"COPY {table} FROM STDIN", StringIO(text))
            connection.commit()
        reply(cpu_s=time.process_time() - before)


def _prepared(folder: Path, size: int) -> list[tuple[str, str]]:
    """Return the commits, each of one table, as the product makes them; the tables take turns by their share."""
    batches: list[tuple[float, str, str]] = []
    for table in TABLES:
        rows = (folder / table).read_text().splitlines(keepends=True)
        batches += [(at / len(rows), table, "".join(rows[at : at + size])) for at in range(0, len(rows), size)]
    return [(table, text) for _, table, text in sorted(batches)]


def plain(work: dict[str, Any], dsn: str) -> None:
    """Consume as most scripts do: `json.loads`, `execute_values`, commit, then commit the offsets and wait for it."""
    consumer = Consumer(consumer_config(KafkaSettings(bootstrap_servers=work["kafka"]), work["group"], "earliest"))
    consumer.subscribe(work["topics"])
    left, size = work["records"], work["rows_per_commit"]
    batch: list[dict[str, Any]] = []
    with closing(psycopg2.connect(dsn)) as connection, closing(consumer):
        before = time.process_time()
        while left:
            for message in consumer.consume(min(size - len(batch), left), 1.0):
                batch.append(json.loads(message.value() or b""))
                left -= 1
            if len(batch) == size or not left:
                _insert(connection, batch, size)
                consumer.commit(asynchronous=False, offsets=consumer.position(consumer.assignment()))
                batch.clear()
        reply(cpu_s=time.process_time() - before)


def _insert(connection: psycopg2.extensions.connection, batch: list[dict[str, Any]], page_size: int) -> None:
    for record in batch:
        for name in ("event_time", "ingestion_time"):
            record[name] = datetime.fromtimestamp(record[name] / 1e6, UTC)
    with connection.cursor() as cursor:
        for table, columns in _COLUMNS.items():
            names = columns.split()
            rows = [[record.get(name) for name in names] for record in batch if _table(record) == table]
            if rows:
                statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES %s ON CONFLICT DO NOTHING"
                execute_values(cursor, statement, rows, page_size=page_size)
    connection.commit()


def _table(record: dict[str, Any]) -> str:
    return "book_ticker" if record["channel"] == "bookTicker" else "trades"


SIDES = {"raw_copy": raw_copy, "plain": plain}

if __name__ == "__main__":
    logs.configure("ERROR")  # what the clients say of a broker that comes and goes is no news here
    _work = job()
    SIDES[_work["side"]](_work, os.environ[ConsumerSettings.variable("dsn")])
