"""Day partitions on a real PostgreSQL: made on demand, by whoever comes first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest

from helpers import wait_until
from marketfeed.migrate import migrate
from marketfeed.settings import Secret
from pipeline import query

ENSURE_DAY = "SELECT marketfeed_ensure_day('trades', '2026-01-01')"
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def _ensure_day(dsn: str) -> None:
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(ENSURE_DAY)


@pytest.mark.postgres
def test_writers_that_meet_at_a_new_day_both_go_on(database: Secret) -> None:
    """A writer that waited for another one to make a day's partition finds it made, instead of failing to make it."""
    migrate(database)
    with closing(psycopg2.connect(database)) as first, first.cursor() as cursor, ThreadPoolExecutor(1) as threads:
        cursor.execute(ENSURE_DAY)
        second = threads.submit(_ensure_day, database)
        wait_until(lambda: query(database, WAITING) != [(0,)], 10, "the second writer to wait for the first")
        first.commit()
        second.result(10)
    assert query(database, "SELECT to_regclass('trades_20260101') IS NOT NULL") == [(True,)]
