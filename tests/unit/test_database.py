"""What the database's errors mean, and how its DSN is read. No server is asked."""

import psycopg2
import pytest
from psycopg2 import errors, extensions

from marketfeed.database import connect, dsn_from, meaning, translated
from marketfeed.errors import ConfigurationError, Unavailable
from marketfeed.sinks import Refused


class Error(psycopg2.Error):
    """An error with a SQLSTATE, as the server sends it."""

    pgcode = None

    def __init__(self, code: str | None) -> None:
        super().__init__("the server says so")
        self.pgcode = code


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("08006", Unavailable),  # connection failure
        ("57P01", Unavailable),  # admin shutdown
        ("57014", Unavailable),  # statement timeout
        ("40P01", Unavailable),  # deadlock
        ("40001", Unavailable),  # serialization failure
        ("53100", Unavailable),  # disk full
        ("25006", Unavailable),  # a standby
        ("28P01", Unavailable),  # a password that is being changed
        ("22P02", Refused),  # not a number
        ("22021", Refused),  # not UTF-8
        ("23505", Refused),  # unique violation
        ("54000", Refused),  # too long for an index
    ],
)
def test_a_code_means_waiting_or_refusing(code: str, expected: type[Exception]) -> None:
    """The SQLSTATE decides whether to wait or to blame the row."""
    assert isinstance(meaning(Error(code)), expected)


def test_a_lost_connection_means_waiting() -> None:
    """Without any answer from a server, nothing is wrong with the rows."""
    assert isinstance(meaning(psycopg2.OperationalError("server closed the connection unexpectedly")), Unavailable)
    assert isinstance(meaning(psycopg2.InterfaceError("connection already closed")), Unavailable)


@pytest.mark.parametrize("error", [Error("42P01"), psycopg2.ProgrammingError("no results to fetch")])
def test_a_fault_of_ours_is_nobodys_excuse(error: psycopg2.Error) -> None:
    """A missing table or a misused driver passes through as it is, instead of being retried for ever."""
    assert meaning(error) is None
    with pytest.raises(type(error)), translated():
        raise error


def test_a_class_of_the_driver_is_no_guide() -> None:
    """The driver calls a too long index entry an OperationalError: it is a bad row all the same."""
    assert issubclass(errors.lookup("54000"), psycopg2.OperationalError)
    assert isinstance(meaning(Error("54000")), Refused)


def test_an_unreadable_dsn_is_not_repeated() -> None:
    """The message says what to write and gives nothing of the DSN away."""
    with pytest.raises(ConfigurationError) as raised:
        connect("host=localhost hunter2", "test")
    assert "hunter2" not in str(raised.value)
    assert "postgresql://" in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:hunter2@host:notaport/db",
        "postgresql://u:pw@hunter2@127.0.0.1:1/db",
        "postgresql://u:hunter2/pw@127.0.0.1:1/db",
        "postgresql://u:12/hunter2@127.0.0.1:1/db",
        "postgresql://u:pw%hunter2@127.0.0.1:1/db",
        "host=127.0.0.1 port=hunter2",
    ],
)
def test_a_password_that_was_not_encoded_is_not_shown(dsn: str) -> None:
    """Where a part of the password stands in another part's place it is not named, and the remedy is."""
    with pytest.raises(ConfigurationError, match=r"MARKETFEED_DSN cannot be read: .*%40") as raised:
        connect(dsn, "test")
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is raised.value.__context__ is None


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("connect_timeout=soon", 'invalid integer value "soon" for connection option "connect_timeout"'),
        ("sslmode=maybe", 'invalid sslmode value: "maybe"'),
    ],
)
def test_a_wrong_parameter_is_not_waited_for(parameter: str, words: str) -> None:
    """What the client library refuses is bad configuration, not a server that is away; the password is not shown."""
    with pytest.raises(ConfigurationError, match="MARKETFEED_DSN: ") as raised:
        connect(f"postgresql://u:hunter2@127.0.0.1:1/db?{parameter}", "test")
    assert words in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_several_servers_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of hosts with ports, or with a default one, is a DSN like any other."""
    monkeypatch.setattr(psycopg2, "connect", lambda **parameters: parameters)
    for dsn in ("postgresql://u@a:5432,b:5433/d", "postgresql://u@a,b:5433/d", "postgresql:///d?host=/var/run"):
        connect(dsn, "test")


def test_an_unreachable_server_is_unavailable() -> None:
    """A closed port is something to wait for, and the message keeps the password to itself."""
    with pytest.raises(Unavailable) as raised:
        connect("postgresql://user:hunter2@127.0.0.1:1/marketfeed", "test")
    assert "hunter2" not in str(raised.value)


def test_the_dsns_own_parameters_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the DSN says overrides our defaults; its options are kept beside ours."""
    asked: dict[str, str] = {}

    def remember(**parameters: str) -> extensions.connection:
        asked.update(parameters)
        raise psycopg2.OperationalError

    monkeypatch.setattr(psycopg2, "connect", remember)
    with pytest.raises(Unavailable):
        connect("postgresql://h/d?connect_timeout=1&options=-c%20geqo%3Doff", "test", statement_timeout_s=1.5)
    assert asked["connect_timeout"] == "1"
    assert asked["options"] == "-c geqo=off -c TimeZone=UTC -c statement_timeout=1500"
    assert asked["application_name"] == "test"


def test_where_the_dsn_comes_from() -> None:
    """A file that a variable names comes before the variable with the DSN itself; nothing is None."""
    files = {"/run/secrets/dsn": "postgresql://from-file\n"}
    assert dsn_from({"MARKETFEED_DSN": "postgresql://direct"}, files.__getitem__) == "postgresql://direct"
    both = {"MARKETFEED_DSN": "x", "MARKETFEED_DSN_FILE": "/run/secrets/dsn"}
    assert dsn_from(both, files.__getitem__) == "postgresql://from-file"
    assert dsn_from({}, files.__getitem__) is None
