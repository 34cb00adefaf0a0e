"""The schema on a real database: fresh, again, from several processes, changed behind its back."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from itertools import count
from typing import Any

import psycopg2
import pytest
from click.testing import CliRunner
from psycopg2.extensions import make_dsn, parse_dsn

from marketfeed.errors import ConfigurationError, Unavailable
from marketfeed.migrate import POSTGRESQL, TIMESCALEDB, ask_dialect, command, migrate, migrate_when_there, migrations
from marketfeed.settings import Secret

pytestmark = pytest.mark.postgres


def _query(dsn: str, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def test_once_and_again(database: Secret) -> None:
    """The first run applies every step and says which, the second one none; each is recorded with its checksum."""
    first, second = migrate(database), migrate(database)
    assert first.applied == tuple(f"{step.number:04}_{step.name}" for step in migrations(POSTGRESQL))
    assert (second.applied, second.dialect) == ((), POSTGRESQL)
    recorded = _query(database, "SELECT number, checksum FROM marketfeed_migrations ORDER BY number")
    assert recorded == [(step.number, step.checksum) for step in migrations(POSTGRESQL)]


def test_several_at_once(database: Secret) -> None:
    """Of four processes that start together one applies the steps, and none fails."""
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(migrate, [database] * 4))
    assert sorted(bool(outcome.applied) for outcome in outcomes) == [False, False, False, True]


def test_several_make_the_same_day(database: Secret) -> None:
    """Consumers that need the same new day at the same time all get it, and it is made once."""
    migrate(database)

    def make_day(_: int) -> None:
        _query(database, "SELECT marketfeed_ensure_day('trades', %s)", [date(2026, 1, 31)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make_day, range(8)))
    assert _query(database, "SELECT relid::text FROM pg_partition_tree('trades') WHERE isleaf") == [
        ("trades_20260131",)
    ]


def test_a_long_report_does_not_hold_a_new_day_up(database: Secret) -> None:
    """A day is made while a transaction is reading the table, and rows are stored in it."""
    migrate(database)
    with closing(psycopg2.connect(database)) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM trades")
        _query(database, "SET lock_timeout = '2s'; SELECT marketfeed_ensure_day('trades', '2026-01-31')")


def test_a_changed_step_is_refused(database: Secret) -> None:
    """When an applied file is not the one that was applied, nothing is done and the message names it."""
    migrate(database)
    _query(database, "UPDATE marketfeed_migrations SET checksum = 'another' WHERE number = 1")
    with pytest.raises(ConfigurationError, match="0001_tables was changed after it was applied"):
        migrate(database)


def test_a_newer_schema_is_refused(database: Secret) -> None:
    """A database that a newer version migrated is left alone by an older one."""
    migrate(database)
    _query(database, "INSERT INTO marketfeed_migrations (number, name, dialect, checksum) VALUES (9999, 'x', 'y', 'z')")
    with pytest.raises(ConfigurationError, match="9999, which this version does not know"):
        migrate(database)


def test_a_failed_step_leaves_nothing(database: Secret) -> None:
    """All or nothing: when a step fails, the steps before it are undone with it."""
    _query(database, "CREATE FUNCTION marketfeed_ensure_day(parent text, day date) RETURNS void LANGUAGE sql AS ''")
    with pytest.raises(Exception, match="marketfeed_ensure_day"):
        migrate(database)
    assert _query(database, "SELECT to_regclass('trades'), to_regclass('marketfeed_migrations')") == [(None, None)]


def test_a_plain_server_is_postgresql(database: Secret) -> None:
    """A server without the extension is asked, not guessed, and found to have native partitions only."""
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        assert ask_dialect(cursor) == POSTGRESQL


def test_timescaledbs_steps_run(database: Secret) -> None:
    """TimescaleDB's steps are valid SQL, and ask for hypertables of one day on event_time.

    The extension cannot be had here; a function of the same name and parameters notes what it is asked.
    """
    _query(
        database,
        """
        CREATE TABLE asked (relation regclass, time_column name, days interval, indexes boolean);
        CREATE FUNCTION create_hypertable(
            relation regclass, time_column_name name, chunk_time_interval interval, create_default_indexes boolean
        ) RETURNS void LANGUAGE sql AS 'INSERT INTO asked VALUES ($1, $2, $3, $4)';
        """,
    )
    for step in migrations(TIMESCALEDB):
        _query(database, step.text)
    assert _query(database, "SELECT relation::text, time_column, days::text, indexes FROM asked ORDER BY 1") == [
        ("book_ticker", "event_time", "1 day", False),
        ("trades", "event_time", "1 day", False),
    ]
    _query(database, "SELECT marketfeed_ensure_day('trades', '2026-01-31')")


def test_the_command(database: Secret) -> None:
    """The command says what it applied, and the second time that nothing was to be done."""
    environment = {"MARKETFEED_DSN": str(database)}
    first = CliRunner().invoke(command, env=environment, catch_exceptions=False)
    second = CliRunner().invoke(command, env=environment, catch_exceptions=False)
    applied = "applied 0001_tables\napplied 0002_days\napplied 0003_metrics\n"
    assert first.output == f"{applied}schema up to date (postgresql)\n"
    assert second.output == "schema up to date (postgresql)\n"


def test_a_database_that_comes_later_is_waited_for(database: Secret) -> None:
    """A step of the schema runs as soon as the database can be reached, within the time that it is given."""
    later = f"{parse_dsn(database)['dbname']}_later"
    dsn = make_dsn(database, dbname=later)

    def create(_: float) -> None:
        with closing(psycopg2.connect(database)) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {later}")

    try:
        assert migrate_when_there(dsn, 30.0, sleep=create).applied
    finally:
        with closing(psycopg2.connect(database)) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"DROP DATABASE IF EXISTS {later}")


def test_a_database_that_does_not_come_is_given_up(database: Secret) -> None:
    """When the time is up it is told why, and a wrong DSN is not waited for at all."""
    clock = count(0.0, 10.0)
    slept: list[float] = []
    with pytest.raises(Unavailable, match="no_such"):
        migrate_when_there(make_dsn(database, dbname="no_such"), 25.0, clock=lambda: next(clock), sleep=slept.append)
    assert slept == [0.5, 0.5]
    with pytest.raises(ConfigurationError):
        migrate_when_there("postgresql://user:p@ss@host/x", 25.0, sleep=slept.append)
    assert len(slept) == 2
