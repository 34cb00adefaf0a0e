"""The schema: numbered migrations, each applied once, under a lock that all processes share.

A file in `sql/migrations` is `NNNN_name.sql`, or `NNNN_name.DIALECT.sql` where the dialects differ. An applied file
never changes: its checksum is kept. The dialect is found by asking the server, once, and stays.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path

import click
import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class, whatever its case

from marketfeed import sql
from marketfeed.database import connect, dsn_from, primary_message
from marketfeed.errors import ConfigurationError, MarketfeedError, Unavailable
from marketfeed.logs import logger
from marketfeed.service_command import seconds
from marketfeed.settings import ConsumerSettings

TIMESCALEDB = "timescaledb"
POSTGRESQL = "postgresql"

# What {by_event_time} in a migration stands for: a hypertable is divided after it was created.
_BY_EVENT_TIME = {TIMESCALEDB: "", POSTGRESQL: "PARTITION BY RANGE (event_time)"}

_FILE = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z_]+)(?:\.(?P<dialect>[a-z]+))?\.sql")
_TRY_EVERY_S = 0.5
_LOCK = 5_306_120_412_904_977_221  # any number will do, as long as it is the same in every process

_log = logger("migrate")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema, as it is for one dialect."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of the text, in hexadecimal."""
        return sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did: the dialect found, and the names of the steps that were new."""

    dialect: str
    applied: tuple[str, ...]


def migrations(dialect: str) -> list[Migration]:
    """Return the steps of one dialect in their order."""
    steps = []
    for file in resources.files(sql).joinpath("migrations").iterdir():
        match = _FILE.fullmatch(file.name)
        if match and match["dialect"] in (None, dialect):
            text = file.read_text("utf-8").replace("{by_event_time}", _BY_EVENT_TIME[dialect])
            steps.append(Migration(int(match["number"]), match["name"], text))
    return sorted(steps, key=lambda step: step.number)


def migrate(dsn: str) -> Outcome:
    """Bring the schema up to date, all or nothing; harmless to repeat and to run from several processes at once.

    Raises Unavailable, and ConfigurationError when the database holds other migrations than this version knows.
    """
    connection = connect(dsn, "marketfeed-migrate")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            cursor.execute(sql.read("migrations_table.sql"))
            return _apply(cursor)
    except psycopg2.Error as error:
        raise MarketfeedError(f"the schema cannot be brought up to date: {primary_message(error)}") from error
    finally:
        connection.close()


def migrate_when_there(
    dsn: str, wait_s: float, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Outcome:
    """Do the same once the database can be reached, which may take it `wait_s`: it is often started at the same time.

    Raises as `migrate` does, Unavailable when the time is up.
    """
    deadline, told = clock() + wait_s, False
    while True:
        try:
            return migrate(dsn)
        except Unavailable as error:
            left_s = deadline - clock()
            if left_s <= 0:
                raise
            if not told:
                _log.warning("waiting_for_database", reason=str(error), at_most_s=wait_s)
                told = True
            sleep(min(_TRY_EVERY_S, left_s))


def _apply(cursor: Cursor) -> Outcome:
    cursor.execute("SELECT number, dialect, checksum FROM marketfeed_migrations ORDER BY number")
    rows = cursor.fetchall()
    dialect = rows[0][1] if rows else ask_dialect(cursor)
    done = {number: checksum for number, _, checksum in rows}
    steps = migrations(dialect)
    _check(steps, done)
    new = [step for step in steps if step.number not in done]
    for step in new:
        apply_step(cursor, step, dialect)
    return Outcome(dialect, tuple(f"{step.number:04}_{step.name}" for step in new))


def _check(steps: list[Migration], done: dict[int, str]) -> None:
    """Refuse a database that another version has changed in ways unknown here."""
    known = {step.number: step for step in steps}
    for number, checksum in done.items():
        if number not in known:
            raise ConfigurationError(
                f"the database has migration {number:04}, which this version does not know: use the newer marketfeed"
            )
        if known[number].checksum != checksum:
            raise ConfigurationError(
                f"migration {number:04}_{known[number].name} was changed after it was applied: restore its file, "
                "and put the change into a new one"
            )


def apply_step(cursor: Cursor, step: Migration, dialect: str) -> None:
    """Run one step and record it, in the caller's transaction."""
    cursor.execute(step.text)
    cursor.execute(
        "INSERT INTO marketfeed_migrations (number, name, dialect, checksum) VALUES (%s, %s, %s, %s)",
        (step.number, step.name, dialect, step.checksum),
    )


def ask_dialect(cursor: Cursor) -> str:
    """Return `timescaledb` where the server has the extension and lets us use it, else `postgresql`."""
    cursor.execute(sql.read("dialect.sql"))
    if cursor.fetchone() != (True,):
        return POSTGRESQL
    cursor.execute("SAVEPOINT extension")
    try:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except psycopg2.Error as error:  # not preloaded, or not allowed: the server is usable all the same
        cursor.execute("ROLLBACK TO SAVEPOINT extension")
        _log.warning("timescaledb_unusable", reason=str(error).strip())
        return POSTGRESQL
    cursor.execute("RELEASE SAVEPOINT extension")
    return TIMESCALEDB


@click.command("migrate")
@click.option(
    "--wait",
    "wait_s",
    default="20s",
    show_default=True,
    callback=seconds,
    help="How long the database may be out of reach, as one that is being started.",
)
def command(wait_s: float) -> None:
    """Bring the database's schema up to date.

    The database is named by MARKETFEED_DSN, or by a file that MARKETFEED_DSN_FILE names. Exits 0 when the schema is
    up to date, 1 when the database cannot be reached in time or refuses, 2 when the configuration is wrong.
    """
    dsn = dsn_from(os.environ, lambda path: Path(path).read_text("utf-8"))
    if dsn is None:
        raise ConfigurationError(f"{ConsumerSettings.variable('dsn')} is not set: it names the database")
    outcome = migrate_when_there(dsn, wait_s)
    for name in outcome.applied:
        click.echo(f"applied {name}")
    click.echo(f"schema up to date ({outcome.dialect})")
