"""What all tests share: the real servers, started once for all tests that ask for them or anew for one test."""

from __future__ import annotations

import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest
from confluent_kafka.admin import AdminClient

from marketfeed.local.kafka import EmbeddedKafka
from marketfeed.local.postgres import DATABASE, EmbeddedPostgres
from marketfeed.local.spark import provide
from marketfeed.settings import KafkaSettings, Secret
from pipeline import Pipeline

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of golden files."""
    parser.addoption("--update-golden", action="store_true", help="write golden files anew instead of comparing")


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Return `check(path, text)`, which fails unless the file holds exactly this text."""
    update = bool(request.config.getoption("--update-golden"))

    def check(path: Path, text: str) -> None:
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.is_file(), f"{path} is not there: --update-golden writes it"
        assert text == path.read_text(), f"{path} is another: judge the difference, then --update-golden writes it"

    return check


@contextmanager
def _kafka() -> Iterator[EmbeddedKafka]:
    with tempfile.TemporaryDirectory(prefix="marketfeed-test-") as folder, EmbeddedKafka(Path(folder)) as broker:
        yield broker


@contextmanager
def _postgres() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="marketfeed-test-") as folder:
        server = EmbeddedPostgres(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.remove()


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[EmbeddedKafka]:
    """Start the broker that all tests share; they keep apart by `topic_name`. To stop one, take `own_kafka`."""
    with _kafka() as broker:
        yield broker


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """Start the database that all tests share; they keep apart by `database`. To stop one, take `own_postgres`."""
    with _postgres() as server:
        yield server


@pytest.fixture
def kafka_settings(kafka_broker: EmbeddedKafka) -> KafkaSettings:
    """Return how to reach the shared broker."""
    return kafka_broker.settings


@pytest.fixture
def topic_name(kafka_broker: EmbeddedKafka) -> Iterator[str]:
    """Return a name for topics and groups that no other test has; topics that begin with it are deleted afterwards."""
    name = f"test-{secrets.token_hex(6)}"
    yield name
    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap})
    topics = [topic for topic in admin.list_topics(timeout=10).topics if topic.startswith(name)]
    if topics:
        for deletion in admin.delete_topics(topics).values():
            deletion.result(10)


@pytest.fixture
def database(postgres_server: EmbeddedPostgres) -> Iterator[Secret]:
    """Return the DSN of an empty database, dropped afterwards with whatever is still connected to it."""
    name = f"test_{secrets.token_hex(6)}"
    _execute(postgres_server.dsn, f"CREATE DATABASE {name}")
    yield Secret(postgres_server.dsn.removesuffix(DATABASE) + name)
    _execute(postgres_server.dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def own_kafka() -> Iterator[Callable[[], EmbeddedKafka]]:
    """Return a function that starts a broker for this test alone; all of them are stopped afterwards."""
    with ExitStack() as started:
        yield lambda: started.enter_context(_kafka())


@pytest.fixture
def own_postgres() -> Iterator[Callable[[], EmbeddedPostgres]]:
    """Return a function that starts a database server for this test alone; all of them are removed afterwards."""
    with ExitStack() as started:
        yield lambda: started.enter_context(_postgres())


@pytest.fixture
def pipeline(tmp_path: Path, kafka_settings: KafkaSettings, database: Secret, topic_name: str) -> Iterator[Pipeline]:
    """Return a feed on the shared broker and database, its topics created; its processes are killed afterwards."""
    with Pipeline(tmp_path, kafka_settings, database, topic_name) as feed:
        feed.create_topics()
        yield feed


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """Start a Spark of two threads that reads Kafka, in this process; all tests that ask for it share it."""
    found = provide()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment(heap="768m").items():
            patch.setenv(name, value)
        patch.setenv("SPARK_LOCAL_DIRS", str(tmp_path_factory.mktemp("spark")))
        patch.setattr(sys, "path", [str(found.python_path), *sys.path])
        from pyspark.sql import SparkSession  # noqa: PLC0415 - it is there from here on

        options = {
            "spark.master": "local[2]",
            "spark.app.name": "tests",
            "spark.jars": ",".join(map(str, found.jars)),
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        }
        session = SparkSession.builder.config(map=options).getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        yield session
        session.stop()


def _execute(dsn: str, statement: str) -> None:
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
