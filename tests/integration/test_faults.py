"""Every process of the pipeline killed, frozen or absent while data flows, and the table compared with the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import truth
from helpers import wait_until
from marketfeed.local.kafka import EmbeddedKafka
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.settings import KafkaSettings, ProducerSettings, Secret
from pipeline import RECOVERY_S, SYMBOLS, Pipeline, Service, watched

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

FEW = 2_000
"""Rows that are stored before a fault and after it: about a second of the market."""


def _assert_all_stored(pipeline: Pipeline) -> None:
    """Fail unless the tables equal the truth, and the ledger and the proof say so."""
    truth.assert_equal(truth.stored(pipeline.dsn), truth.issued(pipeline.truth))
    truth.assert_ledger_agrees(pipeline.dsn)
    proof = pipeline.verify()
    assert (proof.exit_code, proof.gaps) == (0, {})


def _assert_missing_is_listed(pipeline: Pipeline) -> dict[str, list[int]]:
    """Fail unless all that is stored is true, and all that is not stored is listed as gaps; return what is missing."""
    stored, issued = truth.stored(pipeline.dsn), truth.issued(pipeline.truth)
    truth.assert_true(stored, issued)
    truth.assert_ledger_agrees(pipeline.dsn)
    missing = truth.missing(stored, issued)
    proof = pipeline.verify()
    assert proof.gaps == truth.provable(missing)
    assert proof.exit_code == (1 if proof.gaps else 0)
    return missing


def _issue(pipeline: Pipeline, more: int) -> None:
    """Wait until the venue has issued so many more payloads than now."""
    target = pipeline.market()["issued"] + more
    wait_until(lambda: pipeline.market()["issued"] >= target, RECOVERY_S, f"{more} more payloads to be issued")


def _wait_for_reason(service: Service, words: str) -> None:
    wait_until(lambda: words in str(service.reason()), RECOVERY_S, f"{service.name} not to be ready: {words}")


def _wait_until_ready(*services: Service) -> None:
    wait_until(lambda: all(service.reason() is None for service in services), RECOVERY_S, "services to be ready")


# ---- kill -9 ----


def test_killed_ingestor_leaves_listed_gaps(pipeline: Pipeline) -> None:
    """After kill -9 of the ingestor, what was issued until its successor connected is listed id by id, and no more."""
    consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
    pipeline.wait_for_rows(FEW)
    ingestor.kill()
    _issue(pipeline, FEW)
    successor = pipeline.ingest()
    pipeline.wait_for_rows(FEW)
    pipeline.finish(simulator, successor, consumer)
    missing = _assert_missing_is_listed(pipeline)
    assert truth.provable(missing).keys() == {
        f"{symbol}@{kind}" for symbol in SYMBOLS for kind in ("trade", "aggTrade")
    }
    assert sum(map(len, missing.values())) >= FEW


def test_killed_consumer_loses_and_repeats_nothing(pipeline: Pipeline) -> None:
    """A consumer that is killed again and again leaves a table that equals the truth, without a duplicate."""
    consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
    for _ in range(2):
        pipeline.wait_for_rows(FEW)
        consumer.kill()
        consumer = pipeline.consume()
    pipeline.wait_for_rows(FEW)
    pipeline.finish(simulator, ingestor, consumer)
    _assert_all_stored(pipeline)


def test_killed_broker_loses_nothing(tmp_path: Path, own_kafka: Callable[[], EmbeddedKafka], database: Secret) -> None:
    """Ingestor and consumer outlive a kill -9 of the broker: not ready, live throughout, and nothing is missing."""
    broker = own_kafka()
    with Pipeline(tmp_path, broker.settings, database, "test") as pipeline:
        pipeline.create_topics()
        consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
        pipeline.wait_for_rows(FEW)
        with watched(ingestor) as ingesting, watched(consumer) as consuming:
            broker.kill()
            wait_until(ingestor.reason, RECOVERY_S, "the ingestor to notice")
            wait_until(consumer.reason, RECOVERY_S, "the consumer to notice")
            broker.start()
            pipeline.wait_for_rows(FEW)
            _wait_until_ready(ingestor, consumer)
        lost = f"no Kafka broker answers at {broker.bootstrap}"
        for pulse in (ingesting, consuming):
            pulse.assert_live()
            assert lost in pulse.not_ready
            # A consumer whose session ended meanwhile says that it comes again.
            assert all(reason == lost or reason.startswith("starting: ") for reason in pulse.not_ready)
        pipeline.finish(simulator, ingestor, consumer)
        _assert_all_stored(pipeline)


def test_killed_database_loses_nothing(
    tmp_path: Path, own_postgres: Callable[[], EmbeddedPostgres], kafka_settings: KafkaSettings, topic_name: str
) -> None:
    """The consumer outlives a kill -9 of the database: not ready, live throughout, and nothing is missing."""
    server = own_postgres()
    with Pipeline(tmp_path, kafka_settings, server.dsn, topic_name) as pipeline:
        pipeline.create_topics()
        consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
        pipeline.wait_for_rows(FEW)
        with watched(ingestor) as ingesting, watched(consumer) as consuming:
            server.kill()
            wait_until(consumer.reason, RECOVERY_S, "the consumer to notice")
            server.start()
            pipeline.wait_for_rows(FEW)
            _wait_until_ready(consumer)
        ingesting.assert_live()
        consuming.assert_live()
        assert ingesting.not_ready == []
        assert all(reason.startswith("database: ") for reason in consuming.not_ready)
        pipeline.finish(simulator, ingestor, consumer)
        _assert_all_stored(pipeline)


def test_killed_venue_is_found_again(pipeline: Pipeline) -> None:
    """The ingestor waits for a venue that was killed, and goes on with it; what it had not sent shows as gaps."""
    consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
    pipeline.wait_for_rows(FEW)
    with watched(ingestor) as ingesting:
        simulator.kill()
        wait_until(ingestor.reason, RECOVERY_S, "the ingestor to notice")
        simulator = pipeline.simulate()
        pipeline.wait_for_rows(FEW)
        _wait_until_ready(ingestor)
    ingesting.assert_live()
    assert all("binance" in reason for reason in ingesting.not_ready)
    assert ingestor.stats()["reconnects"] == 1
    pipeline.finish(simulator, ingestor, consumer)
    _assert_missing_is_listed(pipeline)


def test_everything_killed_at_once(
    tmp_path: Path, own_kafka: Callable[[], EmbeddedKafka], own_postgres: Callable[[], EmbeddedPostgres]
) -> None:
    """After kill -9 of ingestor, consumer, broker and database together, only what was not received is missing."""
    broker, server = own_kafka(), own_postgres()
    with Pipeline(tmp_path, broker.settings, server.dsn, "test") as pipeline:
        pipeline.create_topics()
        consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
        pipeline.wait_for_rows(FEW)
        for victim in (ingestor, broker, consumer, server):
            victim.kill()
        _issue(pipeline, FEW)
        server.start()
        broker.start()
        consumer, ingestor = pipeline.consume(), pipeline.ingest()
        pipeline.wait_for_rows(FEW)
        pipeline.finish(simulator, ingestor, consumer)
        assert sum(map(len, _assert_missing_is_listed(pipeline).values())) >= FEW


# ---- SIGSTOP ----


def test_frozen_ingestor_catches_up(pipeline: Pipeline) -> None:
    """An ingestor that stood still for less than the venue's patience has lost nothing."""
    consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
    pipeline.wait_for_rows(FEW)
    ingestor.suspend()
    _issue(pipeline, 2 * FEW)
    ingestor.resume()
    pipeline.wait_for_rows(2 * FEW)
    pipeline.finish(simulator, ingestor, consumer)
    _assert_all_stored(pipeline)


def test_frozen_ingestor_that_was_cut_reconnects(pipeline: Pipeline) -> None:
    """An ingestor that the venue cut off while it stood still connects again; what it missed is listed, and no more."""
    consumer, ingestor = pipeline.consume(), pipeline.ingest()
    simulator = pipeline.simulate("--ping-interval-s", "0.5", "--pong-timeout-s", "1")
    pipeline.wait_for_rows(FEW)
    ingestor.suspend()
    wait_until(lambda: pipeline.market()["clients"] == 0, RECOVERY_S, "the venue to cut the connection")
    _issue(pipeline, FEW)
    ingestor.resume()
    wait_until(lambda: pipeline.market()["clients"] == 1, RECOVERY_S, "the ingestor to connect again")
    pipeline.wait_for_rows(FEW)
    pipeline.finish(simulator, ingestor, consumer)
    assert sum(map(len, _assert_missing_is_listed(pipeline).values())) >= FEW


def test_frozen_broker_fills_the_queue_and_loses_nothing(
    tmp_path: Path, own_kafka: Callable[[], EmbeddedKafka], database: Secret
) -> None:
    """While a broker stands still and the queue is full, the ingestor stops reading instead of dropping anything."""
    broker = own_kafka()
    with Pipeline(tmp_path, broker.settings, database, "test") as pipeline:
        pipeline.create_topics()
        ingestor = pipeline.ingest(producer=ProducerSettings(queue_bytes=FEW * 100))
        consumer, simulator = pipeline.consume(), pipeline.simulate()
        pipeline.wait_for_rows(FEW)
        frozen = psutil.Process(broker.pid)
        frozen.suspend()
        wait_until(lambda: ingestor.metric("kafka_producer_queue_full_total") > 0, RECOVERY_S, "the queue to be full")
        _issue(pipeline, FEW)  # what was read with one call may still be under way
        received = ingestor.stats()["total_messages"]
        _issue(pipeline, FEW)
        assert ingestor.stats()["total_messages"] == received
        frozen.resume()
        pipeline.wait_for_rows(2 * FEW)
        pipeline.finish(simulator, ingestor, consumer)
        _assert_all_stored(pipeline)


# ---- Absent at the start ----


def test_venue_may_come_later(pipeline: Pipeline) -> None:
    """An ingestor without a venue lives, says that it has no connection, and works once the venue is there."""
    consumer, ingestor = pipeline.consume(), pipeline.ingest()
    with watched(ingestor) as pulse:
        _wait_for_reason(ingestor, "no connection to binance: ")
        wait_until(lambda: len(ingestor.entries("connect_failed")) > 1, RECOVERY_S, "a second attempt")
        simulator = pipeline.simulate()
        _wait_until_ready(ingestor)
    pulse.assert_live()
    pipeline.wait_for_rows(FEW)
    pipeline.finish(simulator, ingestor, consumer)
    _assert_all_stored(pipeline)


def test_broker_and_topics_may_come_later(
    tmp_path: Path, own_kafka: Callable[[], EmbeddedKafka], database: Secret
) -> None:
    """Services without a broker, and then without topics, live, say what they wait for, and work once it is there."""
    broker = own_kafka()
    broker.stop()
    with Pipeline(tmp_path, broker.settings, database, "test") as pipeline:
        consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
        services = ingestor, consumer
        with watched(ingestor) as ingesting, watched(consumer) as consuming:
            for service in services:
                _wait_for_reason(service, broker.bootstrap)
            broker.start()
            for service in services:
                _wait_for_reason(service, "topic test.")
            pipeline.create_topics()
            _wait_until_ready(*services)
        ingesting.assert_live()
        consuming.assert_live()
        pipeline.wait_for_rows(FEW)
        pipeline.finish(simulator, ingestor, consumer)
        _assert_all_stored(pipeline)


def test_database_may_come_later(
    tmp_path: Path, own_postgres: Callable[[], EmbeddedPostgres], kafka_settings: KafkaSettings, topic_name: str
) -> None:
    """A consumer without a database lives, says that it waits for it, and stores all that has piled up meanwhile."""
    server = own_postgres()
    dsn = server.dsn
    server.stop()
    with Pipeline(tmp_path, kafka_settings, dsn, topic_name) as pipeline:
        pipeline.create_topics()
        consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
        with watched(consumer) as pulse:
            _wait_for_reason(consumer, "database: ")
            wait_until(lambda: pipeline.market()["issued"] > FEW, RECOVERY_S, "records to pile up")
            server.start()
            _wait_until_ready(consumer)
        pulse.assert_live()
        pipeline.wait_for_rows(FEW)
        pipeline.finish(simulator, ingestor, consumer)
        _assert_all_stored(pipeline)


# ---- SIGTERM ----


def test_terminated_ingestor_delivers_what_it_received(pipeline: Pipeline) -> None:
    """SIGTERM under load ends the ingestor with 0; the topics hold what it received: no hole up to its last record."""
    ingestor, simulator = pipeline.ingest(), pipeline.simulate()
    wait_until(lambda: ingestor.stats()["publish_count"] > FEW, RECOVERY_S, "records to be published")
    assert ingestor.terminate() == 0
    assert simulator.terminate() == 0
    published, issued = truth.published(pipeline.kafka, pipeline.record_topics), truth.issued(pipeline.truth)
    truth.assert_true(published, issued)
    truth.assert_beginning(published, issued)
    [drained] = ingestor.entries("drained")
    assert drained["delivered"] == sum(map(len, published.values()))
    assert drained["undelivered"] == drained["failed"] == 0


def test_terminated_consumer_has_committed_what_it_stored(pipeline: Pipeline) -> None:
    """SIGTERM under load ends the consumer with 0; its successor begins just after the last stored row."""
    consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
    pipeline.wait_for_rows(FEW)
    assert consumer.terminate() == 0
    assert pipeline.committed() == pipeline.rows()
    successor = pipeline.consume()
    pipeline.wait_for_rows(FEW)
    pipeline.end_market(simulator, ingestor)
    assert ingestor.terminate() == 0
    wait_until(pipeline.consumed, RECOVERY_S, "the successor to reach the end")
    assert successor.stats()["rows_duplicate"] == 0
    assert successor.terminate() == 0
    _assert_all_stored(pipeline)
