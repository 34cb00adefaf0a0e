"""The broker and the database of this machine, run for real and killed for real."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from helpers import gone, wait_until
from marketfeed.local.kafka import EmbeddedKafka
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.local.process import ServerFailed
from marketfeed.settings import KafkaSettings

RECORDS = 1_000

PARENT = """
import sys, time
from pathlib import Path
from marketfeed.local.kafka import EmbeddedKafka
from marketfeed.local.postgres import EmbeddedPostgres
kafka, postgres = EmbeddedKafka(Path(sys.argv[1], "kafka")), EmbeddedPostgres(Path(sys.argv[1], "postgres"))
kafka.start()
postgres.start()
print(kafka.pid, postgres.pid, flush=True)
time.sleep(600)
"""


def _create_topic(bootstrap: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(10)


def _produce(bootstrap: str, topic: str) -> None:
    """Produce `RECORDS` records and see every one of them acknowledged."""
    errors: list[str] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for number in range(RECORDS):
        producer.produce(topic, str(number).encode(), on_delivery=lambda error, _record: errors.append(str(error)))
    assert producer.flush(10) == 0
    assert errors == ["None"] * RECORDS


def _consume(bootstrap: str, topic: str) -> list[int]:
    with closing(Consumer({"bootstrap.servers": bootstrap, "group.id": topic})) as consumer:
        consumer.assign([TopicPartition(topic, 0, 0)])
        values: list[int] = []

        def all_there() -> bool:
            values.extend(int(record.value() or b"") for record in consumer.consume(RECORDS, 0.1))
            return len(values) >= RECORDS

        wait_until(all_there, 20, f"{RECORDS} records of {topic}")
        return values


def _query(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.mark.kafka
def test_broker_creates_no_topic_by_itself(kafka_settings: KafkaSettings, topic_name: str) -> None:
    """A record for a topic that nobody created is refused: a misspelt topic cannot swallow data."""
    refused: list[str] = []
    producer = Producer({"bootstrap.servers": kafka_settings.bootstrap_servers, "topic.metadata.propagation.max.ms": 0})
    producer.produce(topic_name, b"lost?", on_delivery=lambda error, _record: refused.append(str(error)))
    producer.flush(10)
    assert len(refused) == 1
    assert "Unknown topic or partition" in refused[0]


@pytest.mark.kafka
def test_broker_keeps_acknowledged_records_over_kill(own_kafka: Callable[[], EmbeddedKafka]) -> None:
    """After kill -9 and a restart the broker answers on the same port and has every acknowledged record."""
    broker = own_kafka()
    bootstrap, pid = broker.bootstrap, broker.pid
    _create_topic(bootstrap, "kept")
    _produce(bootstrap, "kept")
    broker.kill()
    assert not broker.running()
    broker.start()
    assert broker.bootstrap == bootstrap
    assert broker.pid not in (None, pid)
    assert _consume(bootstrap, "kept") == list(range(RECORDS))


@pytest.mark.kafka
def test_broker_notices_that_it_was_killed_from_outside(own_kafka: Callable[[], EmbeddedKafka]) -> None:
    """A broker that somebody else killed does not count as running, and `restart` brings it back."""
    broker = own_kafka()
    os.kill(broker.pid or 0, signal.SIGKILL)
    wait_until(lambda: not broker.running(), 10, "the death to be noticed")
    broker.restart()
    assert broker.running()


@pytest.mark.kafka
def test_two_brokers_do_not_meet(own_kafka: Callable[[], EmbeddedKafka]) -> None:
    """Two brokers side by side have ports and topics of their own."""
    first, second = own_kafka(), own_kafka()
    _create_topic(first.bootstrap, "first")
    assert "first" not in AdminClient({"bootstrap.servers": second.bootstrap}).list_topics(timeout=10).topics


@pytest.mark.kafka
def test_broker_whose_port_is_taken_says_so(own_kafka: Callable[[], EmbeddedKafka], tmp_path: Path) -> None:
    """A start that fails quotes the log's reason, leaves no process, and never takes another broker for its own."""
    late = EmbeddedKafka(tmp_path)
    late._port = own_kafka()._port
    with pytest.raises(ServerFailed, match=r"Kafka ended while starting[\s\S]*Address already in use"):
        late.start()
    assert late.pid is None


@pytest.mark.postgres
def test_database_is_empty(database: str) -> None:
    """A test's database holds no table."""
    assert _query(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


@pytest.mark.postgres
def test_database_is_durable_and_closed(database: str) -> None:
    """Commits are flushed, there is no socket file, and a wrong password is refused."""
    shown = "SELECT current_setting('fsync'), current_setting('unix_socket_directories'), current_setting('TimeZone')"
    assert _query(database, shown) == [("on", "", "UTC")]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(re.sub(r"://(\w+):[^@]+@", r"://\1:wrong@", database))


@pytest.mark.postgres
def test_database_keeps_committed_rows_over_kill(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    """After kill -9, with a client at work, the server restarts at once on the same port with every committed row."""
    server = own_postgres()
    dsn = server.dsn
    _query(dsn, f"CREATE TABLE kept AS SELECT generate_series(1, {RECORDS}) AS number")
    with closing(psycopg2.connect(dsn)) as client, client.cursor() as cursor:
        cursor.execute("INSERT INTO kept VALUES (-1)")
        server.kill()
        server.start()
    assert server.dsn == dsn
    assert _query(dsn, "SELECT count(*), min(number) FROM kept") == [(RECORDS, 1)]


@pytest.mark.postgres
def test_database_restarts_after_a_kill_from_outside(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    """`restart` waits for the children of a postmaster that somebody else killed; they hold its shared memory."""
    server = own_postgres()
    with closing(psycopg2.connect(server.dsn)):
        os.kill(server.pid or 0, signal.SIGKILL)
        wait_until(lambda: not server.running(), 10, "the death to be noticed")
        server.restart()
    assert _query(server.dsn, "SELECT 1") == [(1,)]


@pytest.mark.postgres
def test_stop_does_not_wait_for_clients(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    """An open transaction does not hold up the shutdown, and the shutdown is an orderly one."""
    server = own_postgres()
    with closing(psycopg2.connect(server.dsn)) as client, client.cursor() as cursor:
        cursor.execute("SELECT 1")
        server.stop()
    assert server.log.read_text().rstrip().endswith("database system is shut down")


@pytest.mark.postgres
def test_data_is_taken_up_again(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    """Another server on the same directory finds the rows and the password of the first one."""
    first = own_postgres()
    _query(first.dsn, "CREATE TABLE kept AS SELECT 1 AS number")
    first.stop()
    with EmbeddedPostgres(first.directory) as second:
        assert _query(second.dsn, "SELECT number FROM kept") == [(1,)]


@pytest.mark.postgres
def test_password_is_private(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    """The password stands in a file for its owner alone, and in no argument and no log."""
    server = own_postgres()
    password_file = server.directory / "password"
    assert password_file.stat().st_mode & 0o777 == 0o600
    assert password_file.read_text() not in server.log.read_text()
    assert server.pid is not None
    arguments = [" ".join(process.cmdline()) for process in [psutil.Process(server.pid), psutil.Process()]]
    assert not any(password_file.read_text() in line for line in arguments)
    assert password_file.read_text() not in repr(server.dsn)


@pytest.mark.postgres
def test_remove_leaves_nothing(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    """After `remove` there is no process and, wherever the data was, no file but the log."""
    server = own_postgres()
    pid, home = server.pid, (server.directory / "server").resolve()
    assert pid is not None
    assert home.is_dir()
    server.remove()
    assert gone(pid)
    assert not home.exists()
    assert [path.name for path in server.directory.iterdir()] == [server.log.name]


@pytest.mark.postgres
def test_data_stays_in_place_where_the_server_can_reach_it(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    """Only a folder that the server's user cannot enter is replaced by a link to another place."""
    server = own_postgres()
    server.remove()
    closed = os.geteuid() == 0  # pytest's and tempfile's folders are closed to all but root then
    server.start()
    assert (server.directory / "server").is_symlink() == closed
    server.remove()
    if closed:
        server.directory.chmod(0o711)
        server.start()
        assert not (server.directory / "server").is_symlink()
        server.remove()


@pytest.mark.postgres
def test_database_whose_port_is_taken_says_so(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    """A start that fails quotes the log's reason and leaves no process."""
    server = own_postgres()
    server.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", server._port))
        taken.listen()
        with pytest.raises(ServerFailed, match=r"PostgreSQL ended while starting[\s\S]*Address already in use"):
            server.start()
    assert server.pid is None


@pytest.mark.kafka
@pytest.mark.postgres
def test_servers_die_with_a_killed_parent(tmp_path: Path) -> None:
    """Broker and database are gone after kill -9 of the process that started them."""
    with subprocess.Popen([sys.executable, "-c", PARENT, tmp_path], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            pids = [int(pid) for pid in parent.stdout.readline().split()]
            assert len(pids) == 2
            parent.kill()
            wait_until(lambda: all(map(gone, pids)), 20, "both servers to end")
        finally:
            parent.kill()
            EmbeddedPostgres(tmp_path / "postgres").remove()
