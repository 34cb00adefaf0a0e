"""What a service says last when its configuration is wrong: the line that a cluster shows of a container that ended."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from marketfeed.settings import ConsumerSettings, HttpSettings, IngestorSettings, KafkaSettings, Secret

HTTP = HttpSettings(host="127.0.0.1", port=0)
KAFKA = KafkaSettings(bootstrap_servers="127.0.0.1:1", security_protocol="SASL_SSL")
CONSUMER = ConsumerSettings(
    feed="test",
    sink="postgres",
    sink_type="postgresql",
    topics=("t",),
    group="g",
    dsn=Secret(),
    dead_letter_topic="dlq",
    kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"),
    http=HTTP,
)


def ingestor(streams_file: Path) -> IngestorSettings:
    """Return settings that are right, once there is a file."""
    return IngestorSettings(
        feed="test",
        shard="test-0",
        exchange="binance",
        websocket_url="ws://127.0.0.1:1",
        rest_urls=("http://127.0.0.1:1",),
        streams_file=str(streams_file),
        topics={"trade": "t"},
        dead_letter_topic="dlq",
        publisher="stdout",
        http=HTTP,
    )


def last_words(command: str, environment: dict[str, str]) -> str:
    """Run a service that cannot start; return its last line, after checking that it ended as it should."""
    done = subprocess.run(
        [sys.executable, "-m", "marketfeed", command],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("MARKETFEED_EXCHANGE", "nowhere", "known: binance"),
        ("MARKETFEED_WEBSOCKET_URL", "http://x", "write one as wss://"),
        ("MARKETFEED_STREAMS_FILE", "/nowhere/streams.json", "/nowhere/streams.json: No such file"),
        ("MARKETFEED_TOPICS", "trades", ""),
        ("MARKETFEED_PUBLISHER", "carrier-pigeon", "not one of kafka, stdout, null"),
    ],
)
def test_an_ingestor_ends_with_the_variable_and_the_remedy(
    tmp_path: Path, variable: str, value: str, remedy: str
) -> None:
    """One plain line at the end names the variable and what would be right; the exit code is 2."""
    streams_file = tmp_path / "streams.json"
    streams_file.write_text('{"streams": []}')
    words = last_words("ingest", {**ingestor(streams_file).to_env(), variable: value})
    assert words.startswith(f"marketfeed: {variable}: ")
    assert remedy in words


def test_a_wrong_streams_file_is_named_by_its_variable(tmp_path: Path) -> None:
    """What is wrong within the file is said after the variable that names it."""
    streams_file = tmp_path / "streams.json"
    streams_file.write_text('{"streams": ["BTCUSDT"]}')
    words = last_words("ingest", ingestor(streams_file).to_env())
    assert words.startswith("marketfeed: MARKETFEED_STREAMS_FILE: 'BTCUSDT' is not a stream")


def test_kafka_s_refusal_is_the_last_line_without_the_password(tmp_path: Path) -> None:
    """What the Kafka client refuses is one line that says where it was set."""
    streams_file = tmp_path / "streams.json"
    streams_file.write_text('{"streams": []}')
    settings = replace(ingestor(streams_file), publisher="kafka", kafka=replace(KAFKA, sasl_mechanism="NONSENSE"))
    words = last_words("ingest", {**settings.to_env(), "KAFKA_SASL_PASSWORD": "hunter2"})
    assert words.startswith("marketfeed: Kafka settings (variables KAFKA_*): ")
    assert "NONSENSE" in words


@pytest.mark.parametrize("command", ["consume", "migrate"])
@pytest.mark.parametrize("dsn", ["postgresql://u:hunter2@h:notaport/db", "postgresql://u:x@hunter2@h/db"])
def test_a_wrong_dsn_ends_without_its_password(command: str, dsn: str) -> None:
    """A connection string that can never work is not waited for, and no part of it is shown."""
    words = last_words(command, {**CONSUMER.to_env(), "MARKETFEED_DSN": dsn})
    assert words.startswith("marketfeed: MARKETFEED_DSN cannot be read: write postgresql://user:password@host:5432/")
