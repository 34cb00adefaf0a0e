"""The streaming job when it is killed, when its progress is lost, when its database is away, when it is far behind.

In the end, every window is as the stored records make it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from analytics_jobs import Job, blocked, kill_group, print_of, quote_of, ready
from helpers import wait_until
from marketfeed.events import Record
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.settings import KafkaSettings, Secret
from pipeline import RECOVERY_S, query, watched

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(900)]

_MINUTE_US = 60_000_000
_SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture
def job(tmp_path: Path, kafka_settings: KafkaSettings, database: Secret, topic_name: str) -> Iterator[Job]:
    """Return a job whose topics and tables exist."""
    with Job(tmp_path, kafka_settings, database, topic_name) as made:
        made.prepare()
        yield made


def _market(first_minute: int, minutes: int) -> list[Record]:
    """Return two prints and two quotes a second of each symbol; ids go on from minute to minute."""
    half_seconds = range(first_minute * 120, (first_minute + minutes) * 120)
    return [
        make(number + 1, number * 500_000, symbol=symbol)
        for number in half_seconds
        for symbol in _SYMBOLS
        for make in (print_of, quote_of)
    ]


def test_a_kill_in_the_middle_of_a_batch_counts_nothing_twice(job: Job) -> None:
    """Killed while the database writes its batch, the job goes on from its checkpoint and every window is right."""
    job.feed(_market(0, 2))
    service = job.start()
    job.wait_until_processed(service)
    with closing(psycopg2.connect(job.dsn)) as holding, holding, holding.cursor() as cursor:
        cursor.execute("LOCK TABLE trade_metrics, spread_metrics IN SHARE MODE")
        job.feed(_market(2, 1))
        wait_until(lambda: blocked(job.dsn), RECOVERY_S, "a batch that is being written")
        kill_group(service)
    job.feed(_market(3, 2))
    again = job.start()
    job.wait_until_processed(again)
    job.wait_until_right(again)
    assert again.stats()["queries"]["trade_metrics"]["input_records"] <= 3 * 120 * len(
        _SYMBOLS
    )  # no more than was left
    assert again.terminate() == 0


def test_a_lost_checkpoint_changes_no_window(job: Job) -> None:
    """Without its checkpoint the job reads everything again and writes what is there already."""
    job.feed(_market(0, 3))
    service = job.start()
    job.wait_until_processed(service)
    job.wait_until_right(service)
    assert service.terminate() == 0
    before = query(job.dsn, "SELECT count(*) FROM trade_metrics")
    shutil.rmtree(job.checkpoint)
    job.feed(_market(3, 1))
    again = job.start(max_records_per_trigger=100)  # old windows come in parts, each with fewer records than are held
    job.wait_until_processed(again)
    job.wait_until_right(again)
    assert before < query(job.dsn, "SELECT count(*) FROM trade_metrics")
    assert again.terminate() == 0


def test_waits_for_a_database_that_is_away(
    tmp_path: Path,
    kafka_settings: KafkaSettings,
    topic_name: str,
    own_postgres: Callable[[], EmbeddedPostgres],
) -> None:
    """A database that is stopped makes the job unready, never dead; once it is back, every window is right."""
    server = own_postgres()
    with Job(tmp_path, kafka_settings, Secret(server.dsn), topic_name) as job:
        job.prepare()
        job.feed(_market(0, 1))
        service = job.start()
        ready(service)
        with watched(service) as pulse:
            server.stop()
            market = _market(1, 2)
            job.produce(market)
            wait_until(lambda: "database" in (service.reason() or ""), RECOVERY_S, "the job to say what it waits for")
            server.start()
            job.store(market)
            job.wait_until_processed(service)
        pulse.assert_live()
        wait_until(lambda: service.reason() is None, RECOVERY_S, "the job to be ready again")
        job.wait_until_right(service)
        assert service.stats()["error_count"] > 0
        assert service.terminate() == 0


def test_ends_in_order_while_the_database_is_away(
    tmp_path: Path,
    kafka_settings: KafkaSettings,
    topic_name: str,
    own_postgres: Callable[[], EmbeddedPostgres],
) -> None:
    """Told to end while it waits for the database, the job ends with 0; the batch comes again after the next start."""
    server = own_postgres()
    with Job(tmp_path, kafka_settings, Secret(server.dsn), topic_name) as job:
        job.prepare()
        service = job.start()
        ready(service)
        server.stop()
        market = _market(0, 2)
        job.produce(market)
        wait_until(lambda: "database" in (service.reason() or ""), RECOVERY_S, "the job to wait")
        assert service.terminate() == 0
        server.start()
        job.store(market)
        again = job.start()
        job.wait_until_processed(again)
        job.wait_until_right(again)
        assert again.terminate() == 0


def test_a_backlog_in_uneven_parts_loses_no_record(
    tmp_path: Path, kafka_settings: KafkaSettings, database: Secret, topic_name: str
) -> None:
    """What the watermark drops while one partition runs ahead of the other is put right from the stored records."""
    market = _market(0, 4)
    ahead = [record for record in market if record.symbol == _SYMBOLS[0]]
    behind = [record for record in market if record.symbol == _SYMBOLS[1]]
    closing_ones = [make(10**6, 8 * _MINUTE_US, symbol=symbol) for symbol in _SYMBOLS for make in (print_of, quote_of)]
    with Job(tmp_path, kafka_settings, database, topic_name) as job:
        job.prepare()
        job.produce(ahead[::8], partition=0)  # few records reach far: this partition is minutes ahead in each batch
        job.produce(ahead, partition=1)
        job.produce(behind, partition=1)
        service = job.start(max_records_per_trigger=60, trigger_ms=100)
        job.wait_until_processed(service)
        ((counted,),) = query(job.dsn, "SELECT sum(record_count) FROM trade_metrics")
        assert counted < len(market) // 2, "the watermark dropped nothing: the test tests nothing"
        job.store(market)
        job.feed(closing_ones)
        job.wait_until_processed(service)
        job.wait_until_right(service)
        assert service.stats()["windows_corrected"]["trade_metrics"] > 0
        assert service.terminate() == 0
        assert job.differences() == []
