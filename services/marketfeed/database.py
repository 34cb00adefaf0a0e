"""Connections to the database, and what its errors mean: wait, refuse the row, or give up.

What does not live here: statements (`sql/`), the schema (`migrate`) and what is stored (`sinks`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class, whatever its case
from psycopg2.extensions import parse_dsn
from psycopg2.pool import ThreadedConnectionPool

from marketfeed.errors import ConfigurationError, MarketfeedError, Unavailable
from marketfeed.settings import ConsumerSettings, ReadFile
from marketfeed.sinks import Refused

# A peer that vanished without a word is noticed within about half a minute; a DSN may say otherwise.
_CONNECT = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}

# When a character of the password was not encoded, the rest of the password stands where the host, the port or the
# database should, and would be shown by whoever names those.
_PORTS = re.compile(r"[0-9]{0,5}(,[0-9]{0,5})*")
_READABLE = "postgresql://user:password@host:5432/database; in the password write @ as %40, / as %2F and % as %25"

# How the client library says that a connection's parameter cannot be used: trying again would not help.
_WRONG_PARAMETER = re.compile(r'invalid (integer value|[a-z_]+ value:|port number:) "')

# SQLSTATE classes, from the appendix "PostgreSQL Error Codes". The Python class of an error is no guide: a value that
# is too long for an index arrives as OperationalError, as a lost connection does.
_REFUSED = {
    "22": "data exception",
    "23": "integrity constraint violation",
    "54": "program limit exceeded: a value too long to be indexed",
}
_UNAVAILABLE = {
    "08": "connection exception",
    "25": "read-only transaction: a standby that is not promoted yet",
    "28": "login refused: a password that is being rotated",
    "3D": "the database does not exist yet",
    "40": "transaction rolled back: deadlock, serialization failure",
    "53": "insufficient resources: connections, memory, disk",
    "55": "object in use, lock not available",
    "57": "operator intervention: shutdown, statement timeout",
    "58": "system error outside the server",
}


def dsn_from(env: Mapping[str, str], read_file: ReadFile) -> str | None:
    """Return the DSN that the environment gives, directly or through a file; None when it gives none."""
    name = ConsumerSettings.variable("dsn")
    path = env.get(f"{name}_FILE")
    return (read_file(path).strip() if path else env.get(name)) or None


def connect(dsn: str, application: str, *, statement_timeout_s: float = 0) -> Connection:
    """Open a connection whose times are UTC; `statement_timeout_s` 0 sets no limit.

    Raises ConfigurationError for a DSN that cannot be read and Unavailable when the server cannot be reached.
    """
    with translated():
        connection: Connection = psycopg2.connect(**_parameters(dsn, application, statement_timeout_s))
        return connection


def _parameters(dsn: str, application: str, statement_timeout_s: float) -> dict[str, Any]:
    """Return a connection's parameters: the DSN's own first, ours where it says nothing.

    The parser's own words are kept back when it fails, because they may quote the password.
    """
    try:
        given = {name: str(value) for name, value in parse_dsn(dsn).items()}
    except psycopg2.ProgrammingError:
        given = None
    if given is None or not _is_sound(given):
        raise ConfigurationError(f"{ConsumerSettings.variable('dsn')} cannot be read: write {_READABLE}")
    options = f"-c TimeZone=UTC -c statement_timeout={int(statement_timeout_s * 1000)}"
    if "options" in given:
        options = f"{given.pop('options')} {options}"
    return {**_CONNECT, "application_name": application, **given, "options": options}


def _is_sound(given: Mapping[str, str]) -> bool:
    """Tell whether host, port and database look like such, and not like a part of the password."""
    places = given.get("host", "") + given.get("dbname", "")
    return "@" not in places and _PORTS.fullmatch(given.get("port", "")) is not None


def meaning(error: psycopg2.Error) -> MarketfeedError | None:
    """Return what an error means, None for a fault of ours.

    Unavailable: try again. Refused: this row can never be stored. ConfigurationError: no connection can be made so.
    """
    if error.pgcode is None:
        if _WRONG_PARAMETER.search(str(error)):
            return ConfigurationError(f"{ConsumerSettings.variable('dsn')}: {primary_message(error)}")
        # No answer from a server at all: the connection was lost or never made. Misuse of the client is no such case.
        lost = not isinstance(error, psycopg2.ProgrammingError | psycopg2.NotSupportedError)
        return Unavailable(f"database: {primary_message(error)}") if lost else None
    if error.pgcode[:2] in _UNAVAILABLE:
        return Unavailable(f"database: {primary_message(error)}")
    if error.pgcode[:2] in _REFUSED:
        return Refused(f"{primary_message(error)} (SQLSTATE {error.pgcode})")
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours, by their `meaning`; what has none passes through as it is."""
    try:
        yield
    except psycopg2.Error as error:
        named = meaning(error)
        if named is None:
            raise
        raise named from error


def primary_message(error: psycopg2.Error) -> str:
    """Return the server's primary message; details are left out, since they quote the row."""
    text = (error.diag.message_primary or str(error)).strip()
    return text.partition("\n")[0] or type(error).__name__


class Pool:
    """A bounded pool of connections, opened when the first one is wanted and replaced when they break."""

    def __init__(self, dsn: str, application: str, size: int, *, statement_timeout_s: float) -> None:
        self._dsn = dsn
        self._application = application
        self._size = size
        self._statement_timeout_s = statement_timeout_s
        self._pool: ThreadedConnectionPool | None = None
        self._opening = Lock()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection; one that broke is not lent again. Raises Unavailable, and Refused from its user's work."""
        with translated():
            pool = self._opened()
            connection = pool.getconn()
            sound = False
            try:
                yield connection
                sound = True
            except psycopg2.Error:
                sound = not connection.closed
                raise
            finally:
                pool.putconn(connection, close=not sound)

    def close(self) -> None:
        """Close every connection that is not lent."""
        if self._pool is not None and not self._pool.closed:
            self._pool.closeall()

    def _opened(self) -> ThreadedConnectionPool:
        with self._opening:
            if self._pool is None:
                parameters = _parameters(self._dsn, self._application, self._statement_timeout_s)
                self._pool = ThreadedConnectionPool(self._size, self._size, **parameters)
            return self._pool
