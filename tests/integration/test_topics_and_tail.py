"""`marketfeed topics` and `marketfeed tail` as a person types them, on a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Message

from helpers import wait_until
from marketfeed import topics
from marketfeed.errors import ConfigurationError
from marketfeed.kafka import consumer, consumer_config, group_lag, producer, producer_config
from marketfeed.settings import KafkaSettings, ProducerSettings, Topic

pytestmark = pytest.mark.kafka

SOON_S = 20.0
DAY_MS = 86_400_000


def run(*arguments: str, kafka: KafkaSettings) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "marketfeed", *arguments],
        env={**os.environ, **kafka.to_env()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def produce(kafka: KafkaSettings, topic: str, *pairs: tuple[bytes, bytes]) -> None:
    """Send keys and values, and wait until they are there."""
    client = producer(producer_config(kafka, ProducerSettings(linger_ms=0)))
    for key, value in pairs:
        client.produce(topic, value, key)
    assert client.flush(SOON_S) == 0


# ---- topics ----


def test_creating_twice_changes_nothing(kafka_settings: KafkaSettings, topic_name: str) -> None:
    """`topics create` says what it created; run again, it says that all exist, and the topic is as it was."""
    names = [f"{topic_name}.a", f"{topic_name}.b"]
    first = run("topics", "create", *names, "--partitions", "2", "--retention", "3d", kafka=kafka_settings)
    again = run("topics", "create", *names, names[0], "--partitions", "2", "--retention", "3d", kafka=kafka_settings)
    assert first.returncode == again.returncode == 0
    assert first.stdout.splitlines() == [f"{name}: created" for name in names]
    assert again.stdout.splitlines() == [f"{name}: exists" for name in names]
    listed = json.loads(run("topics", "list", "--json", kafka=kafka_settings).stdout)
    mine = [topic for topic in listed if topic["name"] in names]
    assert mine == [{"name": name, "partitions": 2, "replicas": 1, "retention_ms": 3 * DAY_MS} for name in names]


def test_the_table_names_every_topic(kafka_settings: KafkaSettings, topic_name: str) -> None:
    """`topics list` prints one line a topic with its partitions, replicas and retention; Kafka's own are left out."""
    topics.ensure(kafka_settings, [Topic(topic_name, 2, 1, DAY_MS)])
    lines = run("topics", "list", "--bootstrap-servers", kafka_settings.bootstrap_servers, kafka=kafka_settings)
    assert lines.returncode == 2  # the option belongs to the group
    table = run("topics", "--bootstrap-servers", kafka_settings.bootstrap_servers, "list", kafka=kafka_settings).stdout
    assert [topic_name, "2", "1", "1d"] in [line.split() for line in table.splitlines()]
    assert "__consumer_offsets" not in table


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"partitions": 3}, "has 2 partitions, 3 are asked for"),
        ({"replicas": 2}, "has 1 replicas, 2 are asked for"),
        ({"retention_ms": 2 * DAY_MS}, "keeps records for 1d, 2d are asked for"),
    ],
)
def test_an_existing_topic_that_contradicts_is_left_alone(
    kafka_settings: KafkaSettings, topic_name: str, wanted: dict[str, int], words: str
) -> None:
    """A topic with less than is asked for is refused in words, not changed; no other topic is created on the way."""
    made = {"partitions": 2, "replicas": 1, "retention_ms": DAY_MS}
    topics.ensure(kafka_settings, [Topic(name=topic_name, **made)])
    with pytest.raises(ConfigurationError, match=words):
        topics.ensure(kafka_settings, [Topic(name=topic_name, **made | wanted), Topic(f"{topic_name}.new", 1, 1, None)])
    listed = json.loads(run("topics", "list", "--json", kafka=kafka_settings).stdout)
    assert [topic for topic in listed if topic["name"].startswith(topic_name)] == [{"name": topic_name, **made}]


def test_what_the_broker_refuses_is_bad_configuration(kafka_settings: KafkaSettings, topic_name: str) -> None:
    """More replicas than brokers, or a name that is none, end with exit code 2 and the broker's words."""
    many = run("topics", "create", topic_name, "--replicas", "3", kafka=kafka_settings)
    assert (many.returncode, "replicat" in many.stderr) == (2, True)
    named = run("topics", "create", "no name", kafka=kafka_settings)
    assert (named.returncode, "invalid" in named.stderr) == (2, True)


@pytest.mark.parametrize("command", [("topics", "list"), ("topics", "create", "x"), ("tail", "x")])
def test_an_unreachable_broker_is_one_sentence_within_seconds(command: tuple[str, ...]) -> None:
    """Exit code 1, one line that names the broker, in less than ten seconds."""
    started = time.monotonic()
    ended = run(*command, kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    assert ended.returncode == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert time.monotonic() - started < 10


# ---- lag ----


def test_lag_is_what_is_not_committed(kafka_settings: KafkaSettings, topic_name: str) -> None:
    """A group without offsets is behind by all records; with each commit the lag is what lies after it."""
    topics.ensure(kafka_settings, [Topic(topic_name, 3, 1, None)])
    produce(kafka_settings, topic_name, *((b"%d" % number, b"x") for number in range(30)))
    assert group_lag(kafka_settings, topic_name, [topic_name, f"{topic_name}.unknown"]) == 30
    reader = consumer(consumer_config(kafka_settings, topic_name, "earliest"))
    reader.subscribe([topic_name])
    read: list[Message] = []

    def all_read() -> bool:
        read.extend(reader.consume(30 - len(read), 0.2))
        return len(read) == 30

    wait_until(all_read, SOON_S, "thirty records")
    reader.commit(message=next(message for message in read if message.offset() == 0), asynchronous=False)
    assert group_lag(kafka_settings, topic_name, [topic_name]) == 29
    reader.commit(asynchronous=False, offsets=reader.position(reader.assignment()))
    assert group_lag(kafka_settings, topic_name, [topic_name]) == 0
    reader.close()


# ---- tail ----


@pytest.fixture
def topic(kafka_settings: KafkaSettings, topic_name: str) -> str:
    """Return a topic with five records, of two keys."""
    topics.ensure(kafka_settings, [Topic(topic_name, 1, 1, None)])
    produce(kafka_settings, topic_name, *((b"BTCUSDT" if n % 2 else b"ETHUSDT", b"%d" % n) for n in range(5)))
    return topic_name


def test_tail_from_the_beginning_prints_all(kafka_settings: KafkaSettings, topic: str) -> None:
    """Key TAB value, one line a record, in order; -n ends it."""
    ended = run("tail", topic, "--from-beginning", "-n", "5", kafka=kafka_settings)
    keys = ["ETHUSDT", "BTCUSDT", "ETHUSDT", "BTCUSDT", "ETHUSDT"]
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [f"{key}\t{number}" for number, key in enumerate(keys)]


def test_tail_of_one_key_prints_only_it(kafka_settings: KafkaSettings, topic: str) -> None:
    """--key leaves the others out, and -n counts what is printed."""
    ended = run("tail", topic, "--from-beginning", "-n", "2", "--key", "BTCUSDT", kafka=kafka_settings)
    assert ended.stdout.splitlines() == ["BTCUSDT\t1", "BTCUSDT\t3"]


def test_tail_can_print_timestamps(kafka_settings: KafkaSettings, topic: str) -> None:
    """--timestamps puts the record's time in Kafka, UTC in milliseconds, before the key."""
    (line,) = run(
        "tail", topic, "--from-beginning", "-n", "1", "--timestamps", kafka=kafka_settings
    ).stdout.splitlines()
    moment, key, value = line.split("\t")
    assert (moment[-6:], key, value) == ("+00:00", "ETHUSDT", "0")


@contextmanager
def tailing(kafka: KafkaSettings, output: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a tail in the background; it is killed at the end if it still runs."""
    command = [sys.executable, "-m", "marketfeed", "tail", *arguments]
    with (
        output.open("wb") as file,
        subprocess.Popen(command, env={**os.environ, **kafka.to_env()}, stdout=file, stderr=subprocess.PIPE) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def test_tail_is_live_only_and_ends_with_an_interrupt(
    kafka_settings: KafkaSettings, topic: str, tmp_path: Path
) -> None:
    """Without --from-beginning old records stay out; Ctrl-C ends it with exit code 0 and without a word."""
    output = tmp_path / "out"
    with tailing(kafka_settings, output, topic) as process:

        def printed() -> bytes:
            produce(kafka_settings, topic, (b"NEW", b"record"))
            return output.read_bytes()

        wait_until(printed, SOON_S, "a new record", every_s=0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=SOON_S)
        assert (process.returncode, said) == (0, b"")
    assert set(output.read_bytes().splitlines()) == {b"NEW\trecord"}


def test_tail_ends_with_its_reader(kafka_settings: KafkaSettings, topic: str) -> None:
    """`tail | head` ends when head has enough, without a word."""
    ended = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m marketfeed tail {topic} --from-beginning | head -n 1"],
        env={**os.environ, **kafka_settings.to_env()},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"ETHUSDT\t0\n", b"")


def test_tail_of_no_topic_names_those_that_are(kafka_settings: KafkaSettings, topic: str) -> None:
    """A topic that does not exist is refused with the names of those that do, and is not created."""
    ended = run("tail", f"{topic}.nothing", kafka=kafka_settings)
    assert ended.returncode == 2
    assert f"topic {topic}.nothing does not exist" in ended.stderr
    assert topic in ended.stderr.partition("there are")[2]
    assert f"{topic}.nothing" not in run("topics", "list", kafka=kafka_settings).stdout
