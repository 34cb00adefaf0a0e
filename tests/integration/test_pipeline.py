"""The whole way, undisturbed: venue → ingestor → Kafka → consumer → PostgreSQL, compared with the venue's truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import truth
from helpers import wait_until
from marketfeed import codec
from marketfeed.settings import KafkaSettings, Secret
from pipeline import CHANNELS, RECOVERY_S, SYMBOLS, Pipeline

ROWS = 8_000


@pytest.fixture
def kafkaless(tmp_path: Path) -> Iterator[Pipeline]:
    """Return a feed of which only the venue and the ingestor can run: there is no broker and no database."""
    with Pipeline(tmp_path, KafkaSettings(bootstrap_servers="nowhere.invalid:9092"), Secret(), "test") as feed:
        yield feed


@pytest.mark.kafka
@pytest.mark.postgres
def test_table_equals_truth(pipeline: Pipeline) -> None:
    """Every payload of every stream is stored exactly once with its digits, and the proof says how much that is."""
    consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
    pipeline.wait_for_rows(ROWS)
    assert ingestor.stats()["streams"] == {"desired": 9, "subscribed": 9, "fresh": 9}
    pipeline.finish(simulator, ingestor, consumer)
    issued = truth.issued(pipeline.truth)
    assert issued.keys() == {f"{symbol}@{channel}" for symbol in SYMBOLS for channel in CHANNELS}
    truth.assert_equal(truth.stored(pipeline.dsn), issued)
    truth.assert_ledger_agrees(pipeline.dsn)
    proof = pipeline.verify()
    assert (proof.exit_code, proof.gaps) == (0, {})
    counted = {f"{stream['symbol']}@{stream['channel']}": stream["stored"] for stream in proof.said["streams"]}
    assert counted == {stream: len(rows) for stream, rows in issued.items()}


@pytest.mark.kafka
@pytest.mark.postgres
def test_records_keep_the_order_of_their_stream(pipeline: Pipeline) -> None:
    """All records of a symbol are in one partition, and each stream's ids only grow there."""
    ingestor, simulator = pipeline.ingest(), pipeline.simulate()
    wait_until(lambda: ingestor.stats()["publish_count"] > ROWS, RECOVERY_S, "records to be published")
    pipeline.end_market(simulator, ingestor)
    assert ingestor.terminate() == 0
    for topic in pipeline.record_topics:
        messages = truth.messages(pipeline.kafka, [topic])
        assert all(message.key() == codec.decode(message.value() or b"").symbol.encode() for message in messages)
        homes = {(message.key(), message.partition()) for message in messages}
        assert len(homes) == len(SYMBOLS)
    published = truth.published(pipeline.kafka, pipeline.record_topics)
    assert all(list(rows) == sorted(rows) for rows in published.values())
    truth.assert_equal(published, truth.issued(pipeline.truth))


def test_standard_output_instead_of_kafka(kafkaless: Pipeline) -> None:
    """With the publisher `stdout` and no broker, every record is one line there, and nothing else is."""
    ingestor, simulator = kafkaless.ingest(publisher="stdout", kafka=None), kafkaless.simulate()
    wait_until(lambda: ingestor.stats()["publish_count"] > ROWS, RECOVERY_S, "records to be printed")
    assert ingestor.reason() is None
    kafkaless.end_market(simulator, ingestor)
    assert ingestor.terminate() == 0
    printed = truth.as_rows(map(codec.decode, ingestor.stdout.read_bytes().splitlines()))
    truth.assert_equal(printed, truth.issued(kafkaless.truth))


def test_nowhere_instead_of_kafka(kafkaless: Pipeline) -> None:
    """With the publisher `null` and no broker, records are received and counted, and nothing is printed."""
    ingestor, simulator = kafkaless.ingest(publisher="null", kafka=None), kafkaless.simulate()
    wait_until(lambda: ingestor.stats()["publish_count"] > ROWS, RECOVERY_S, "records to be counted")
    kafkaless.end_market(simulator, ingestor)
    issued = sum(map(len, truth.issued(kafkaless.truth).values()))
    wait_until(lambda: ingestor.stats()["publish_count"] == issued, RECOVERY_S, "all records to be counted")
    assert ingestor.terminate() == 0
    assert ingestor.stdout.read_bytes() == b""
