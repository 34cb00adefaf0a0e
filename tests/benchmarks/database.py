"""The benchmarks' own look at PostgreSQL: fresh databases, and when rows were committed, by the server's clock."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from marketfeed.local.postgres import DATABASE, EmbeddedPostgres
from marketfeed.migrate import migrate

TABLES = ("trades", "book_ticker")

# System columns can be grouped by: xmin is the transaction that wrote the row.
_COMMITS = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8, count(*)
FROM (SELECT xmin FROM trades UNION ALL SELECT xmin FROM book_ticker) AS rows
GROUP BY xmin ORDER BY 1
"""

_LATENCY = """
WITH delays AS (
    SELECT 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - ingestion_time)::float8 AS ms, ingestion_time
    FROM (SELECT xmin, ingestion_time FROM trades UNION ALL SELECT xmin, ingestion_time FROM book_ticker) AS rows
), settled AS (
    SELECT ms FROM delays WHERE ingestion_time >= (SELECT min(ingestion_time) FROM delays) + %s * INTERVAL '1 second'
)
SELECT count(*), max(ms),
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)
FROM settled
"""


@dataclass(frozen=True, slots=True)
class Commits:
    """What was committed in one database. `rows_per_s` leaves the first commit out: it has no beginning we know of."""

    rows: int
    commits: int
    rows_per_s: float


@dataclass(frozen=True, slots=True)
class Latency:
    """From receipt to commit, in ms, over `rows` rows."""

    rows: int
    max_ms: float
    p50_ms: float
    p99_ms: float


@contextmanager
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """Run a PostgreSQL that remembers when each transaction was committed; removed afterwards."""
    postgres = EmbeddedPostgres(folder)
    try:
        postgres.start()
        _execute(postgres.dsn, "ALTER SYSTEM SET track_commit_timestamp = on")
        postgres.restart()
        yield postgres
    finally:
        postgres.remove()


@contextmanager
def fresh(postgres: EmbeddedPostgres) -> Iterator[str]:
    """Yield the DSN of a new database that holds our empty tables, just after a checkpoint; dropped afterwards."""
    name = f"bench_{secrets.token_hex(4)}"
    _execute(postgres.dsn, f"CREATE DATABASE {name}")
    try:
        dsn = postgres.dsn.removesuffix(DATABASE) + name
        migrate(dsn)
        _execute(postgres.dsn, "CHECKPOINT")
        yield dsn
    finally:
        _execute(postgres.dsn, f"DROP DATABASE {name} WITH (FORCE)")


def commits(dsn: str) -> Commits:
    """Return what both tables hold and how fast it came."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(_COMMITS)
        found = cursor.fetchall()
    rows = sum(count for _, count in found)
    seconds = found[-1][0] - found[0][0]
    return Commits(rows, len(found), (rows - found[0][1]) / seconds)


def latency(dsn: str, after_s: float) -> Latency:
    """Return how long rows took, except those received in the first `after_s`."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(_LATENCY, (after_s,))
        rows = cursor.fetchone()
        assert rows is not None
        return Latency(*rows)


def export(dsn: str, folder: Path) -> None:
    """Write both tables as COPY reads them, in the order in which the rows were written."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        for table in TABLES:
            with (folder / table).open("w") as file:
                cursor.copy_expert(f"COPY (SELECT * FROM {table} ORDER BY tableoid, ctid) TO STDOUT", file)


def make_days(dsn: str, source: str) -> None:
    """Let the database at `dsn` make ready for the days that the rows at `source` fall on."""
    with closing(psycopg2.connect(source)) as connection, connection.cursor() as cursor:
        days = []
        for table in TABLES:
            cursor.execute(f"SELECT DISTINCT (event_time AT TIME ZONE 'UTC')::date FROM {table}")
            days += [(table, day) for (day,) in cursor.fetchall()]
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        for table, day in days:
            cursor.execute("SELECT marketfeed_ensure_day(%s, %s)", (table, day))


def _execute(dsn: str, statement: str) -> None:
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
