"""The scripts that the platform's pods run, with the real servers that they are for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from confluent_kafka import KafkaException
from psycopg2.extensions import make_dsn, parse_dsn

from charting import CHARTS, one, render
from helpers import wait_until
from marketfeed.kafka import admin
from marketfeed.local.components import fetch
from marketfeed.local.java import find_java
from marketfeed.local.ports import free_port
from marketfeed.local.postgres_binaries import find_binaries
from marketfeed.local.process import plain_environment
from marketfeed.settings import KafkaSettings, Secret

CHART = CHARTS / "marketfeed-platform"
FILES = CHART / "files"
_START_S = 120


def write_program(path: Path, text: str) -> None:
    """Write an executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Broker:
    """The chart's broker on this machine: its own script and properties, with ports and folders of the test's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.data = directory / "volume" / "data"
        self.properties = directory / "server.properties"
        self.home = directory / "kafka"

    def prepare(self) -> None:
        """Write the chart's properties, and the layout of Kafka's own distribution around the jars from the cache."""
        objects = render(CHART, {"kafka": {"mode": "plain"}}, name="platform", namespace="kafka")
        text = str(one(objects, "ConfigMap", "kafka-broker")["data"]["server.properties"])
        controller = free_port()
        for ours, theirs in (
            ("CLIENTS://:9092", f"CLIENTS://127.0.0.1:{self.port}"),
            ("kafka-0.kafka-kafka-brokers.kafka.svc:9092", f"127.0.0.1:{self.port}"),
            ("127.0.0.1:9094", f"127.0.0.1:{controller}"),
            ("/var/lib/kafka/data", str(self.data)),
        ):
            assert ours in text
            text = text.replace(ours, theirs)
        self.data.parent.mkdir()
        self.properties.write_text(text)
        jars = os.pathsep.join(map(str, fetch("kafka", "the broker that the chart's script starts")))
        for script, kind in (("kafka-storage.sh", "kafka.tools.StorageTool"), ("kafka-server-start.sh", "kafka.Kafka")):
            java = f'exec {find_java().program} $KAFKA_HEAP_OPTS $KAFKA_LOG4J_OPTS -cp {jars} {kind} "$@"'
            write_program(self.home / "bin" / script, f"#!/bin/bash\n{java}\n")

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start it; it is ended with the block."""
        environment = {
            **plain_environment(),
            "KAFKA_HOME": str(self.home),
            "KAFKA_PROPERTIES": str(self.properties),
            "KAFKA_HEAP_OPTS": "-Xms128m -Xmx384m -XX:+UseSerialGC",
            "KAFKA_LOG4J_OPTS": f"-Dlog4j2.configurationFile={FILES / 'kafka' / 'log4j2.properties'}",
        }
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", FILES / "kafka" / "start.sh"], env=environment, stdout=log, stderr=log
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def probe(self) -> int:
        """Return the exit code of the chart's probe."""
        environment = {**plain_environment(), "KAFKA_PORT": str(self.port)}
        command: list[str | Path] = ["/bin/bash", FILES / "kafka" / "probe.sh"]
        return subprocess.run(command, env=environment, capture_output=True, timeout=5, check=False).returncode

    def cluster(self) -> str:
        """Return the id of the cluster, as a client is told it."""
        client = admin(KafkaSettings(bootstrap_servers=f"127.0.0.1:{self.port}"))
        try:
            return str(client.list_topics(timeout=10).cluster_id)
        except KafkaException as error:
            pytest.fail(f"no answer: {error}")


@pytest.mark.kafka
def test_the_broker_starts_answers_stops_and_starts_again(tmp_path: Path) -> None:
    """The script formats an empty volume once, and SIGTERM ends the broker in order.

    The probe passes when the broker answers, and fails while it is frozen: the kernel still takes connections then.
    """
    broker = Broker(tmp_path)
    broker.prepare()
    assert broker.probe() != 0
    clusters = []
    for _ in range(2):
        with broker.running() as process:
            wait_until(lambda: broker.probe() == 0, _START_S, f"the broker; {tmp_path / 'log'} says why", every_s=0.2)
            clusters.append(broker.cluster())
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(subprocess.TimeoutExpired):
                broker.probe()
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143  # Java's code for an orderly end by SIGTERM
        assert (broker.data / ".kafka_cleanshutdown").exists()
    assert clusters[0] == clusters[1] != ""
    assert (tmp_path / "log").read_text().count("Formatting") == 1


def make_reader(dsn: Secret, password: str) -> None:
    """Run the script that makes the dashboards' role in the database of `dsn`."""
    given = parse_dsn(dsn)
    environment = {
        **plain_environment(),
        "PATH": f"{find_binaries().folder}:{os.environ['PATH']}",
        **{f"PG{name.upper()}": str(given[name]) for name in ("host", "port", "user", "password")},
        "PGDATABASE": str(given["dbname"]),
        "READER_PASSWORD": password,
        "SQL": str(FILES / "postgresql" / "reader.sql"),
    }
    command: list[str | Path] = ["/bin/sh", FILES / "postgresql" / "reader.sh"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def execute(dsn: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement and return its rows."""
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


@pytest.mark.postgres
def test_dashboards_read_all_tables_and_change_none(database: Secret) -> None:
    """The role sees tables from before and after it was made, writes nowhere, and gets a changed password."""
    execute(database, "CREATE TABLE trades AS SELECT 1 AS price")
    make_reader(database, "first")
    execute(database, "CREATE TABLE ledger AS SELECT 2 AS proven")
    make_reader(database, "second")
    try:
        mine = make_dsn(database, user="grafana", password="second")
        assert execute(mine, "SELECT price, proven FROM trades, ledger") == [(1, 2)]
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            execute(mine, "DELETE FROM trades")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            execute(mine, "BEGIN; SET TRANSACTION READ WRITE; DELETE FROM trades")
        with pytest.raises(psycopg2.OperationalError):
            execute(make_dsn(database, user="grafana", password="first"), "SELECT 1")
    finally:
        execute(database, "DROP OWNED BY grafana; DROP ROLE grafana")


@pytest.mark.kafka
@pytest.mark.postgres
def test_the_helm_test_asks_the_real_servers(kafka_settings: KafkaSettings, database: Secret) -> None:
    """Brokers and database answer the questions of `helm test`, which ends well then."""
    given = parse_dsn(database)
    answer = ask(
        ASK_KAFKA=kafka_settings.bootstrap_servers,
        ASK_POSTGRESQL=" ".join(f"{name}={value}" for name, value in given.items() if name != "password"),
        PASSWORD_POSTGRESQL=str(given["password"]),
    )
    assert (answer.returncode, answer.stdout) == (0, "ok     KAFKA\nok     POSTGRESQL\n")


_COCKROACH = """\
#!/bin/bash
echo "$*" >>"$DATA/arguments"
case $1 in
cert) if [[ $2 == create-node ]]; then touch "$DATA/certificates/node.key"; fi ;;
sql) cat >"$DATA/statements" ;;
start-single-node)
    trap 'exit 0' TERM
    for _ in {1..600}; do sleep 0.1; done
    exit 1
    ;;
esac
"""


def test_cockroachdb_is_given_its_user_and_stopped_in_order(tmp_path: Path) -> None:
    """The script makes certificates once, sets the password by standard input, and passes SIGTERM on to the server.

    A stand-in takes the server's place: this says what the script does, and nothing about CockroachDB.
    """
    write_program(tmp_path / "bin" / "cockroach", _COCKROACH)
    data = tmp_path / "data"
    data.mkdir()
    variables = {"DATA": data, "READY": tmp_path / "ready", "NAMESPACE": "kafka"}
    environment = {
        **plain_environment(),
        **{name: str(value) for name, value in variables.items()},
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "DATABASE": "marketfeed",
        "USERNAME": "writer",
        "PASSWORD": "s3cret",
    }
    for _ in range(2):
        (tmp_path / "ready").unlink(missing_ok=True)
        process = subprocess.Popen(["/bin/bash", FILES / "cockroachdb" / "start.sh"], env=environment)
        try:
            wait_until((tmp_path / "ready").exists, 30, "the user")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    arguments = (data / "arguments").read_text()
    assert arguments.count("cert create-node") == 1
    assert "s3cret" not in arguments
    assert "ALTER USER writer WITH PASSWORD 's3cret';" in (data / "statements").read_text()


def test_redis_is_given_its_password_by_standard_input(tmp_path: Path) -> None:
    """The server is started with the configuration and the password, neither of which is an argument."""
    write_program(tmp_path / "redis-server", '#!/bin/sh\necho "arguments: $*"\ncat\n')
    configuration = tmp_path / "redis.conf"
    configuration.write_text("port 6379\nappendonly yes\n")
    environment = {
        **plain_environment(),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "REDIS_CONFIGURATION": str(configuration),
        "REDISCLI_AUTH": "s3cret",
    }
    command: list[str | Path] = ["/bin/sh", FILES / "redis" / "start.sh"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout == "arguments: -\nport 6379\nappendonly yes\nrequirepass s3cret\n"


def ask(**variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script of `helm test` with these variables."""
    environment = {**plain_environment(), "TIMEOUT_S": "1", **variables}
    command: list[str | Path] = [sys.executable, FILES / "test" / "ask.py"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_helm_test_fails_for_a_component_that_does_not_answer() -> None:
    """One line for each component that is asked, and an exit code that helm takes for a failure."""
    away = f"127.0.0.1:{free_port()}"
    answer = ask(ASK_REDIS=away, ASK_GRAFANA=f"http://{away}/api/health", PASSWORD_REDIS="s3cret")
    assert answer.returncode == 1
    lines = answer.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["FAILED GRAFANA", "FAILED REDIS"]
    assert "s3cret" not in answer.stdout + answer.stderr
