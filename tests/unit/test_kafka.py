"""The Kafka clients' configuration: what keeps order, what never gives up, what is secret."""

from __future__ import annotations

import logging

import pytest

from marketfeed import kafka
from marketfeed.errors import ConfigurationError
from marketfeed.settings import KafkaSettings, ProducerSettings, Secret

PLAIN = KafkaSettings(bootstrap_servers="broker:9092")
SECURE = KafkaSettings(
    bootstrap_servers="broker:9093",
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username=Secret("user"),
    sasl_password=Secret("pass"),
    ca_file="/ca.pem",
)


@pytest.mark.parametrize("acks", ["all", "-1"])
def test_a_producer_that_waits_for_all_is_idempotent(acks: str) -> None:
    """acks=all means no duplicate and no reordering by retries; records never expire."""
    config = kafka.producer_config(PLAIN, ProducerSettings(acks=acks))  # type: ignore[arg-type] # parametrised
    assert config["enable.idempotence"] is True
    assert config["message.timeout.ms"] == 0
    assert config["partitioner"] == "murmur2_random"
    kafka.producer(config)


@pytest.mark.parametrize("acks", ["1", "0"])
def test_fewer_acknowledgements_are_not_idempotent(acks: str) -> None:
    """Idempotence is refused by librdkafka without all replicas: it is off then, and the producer can be made."""
    config = kafka.producer_config(PLAIN, ProducerSettings(acks=acks))  # type: ignore[arg-type] # parametrised
    assert config["enable.idempotence"] is False
    kafka.producer(config)


def test_the_queue_is_bounded_by_the_settings() -> None:
    """`queue_bytes` reaches librdkafka in its unit."""
    config = kafka.producer_config(PLAIN, ProducerSettings(queue_bytes=1_048_576))
    assert config["queue.buffering.max.kbytes"] == 1024
    assert config["queue.buffering.max.messages"] > 0


def test_a_consumer_commits_only_when_told() -> None:
    """Neither offsets nor their store move by themselves; the fetch does not stall a fast consumer."""
    config = kafka.consumer_config(PLAIN, "group", "earliest")
    assert config["enable.auto.commit"] is False
    assert config["fetch.queue.backoff.ms"] <= 10
    assert (config["group.id"], config["auto.offset.reset"]) == ("group", "earliest")
    kafka.consumer(config).close()


def test_security_settings_reach_every_client() -> None:
    """Protocol, mechanism, user, password and authority are passed on; what is not set is left out."""
    config = kafka.client_config(SECURE)
    assert config["security.protocol"] == "SASL_SSL"
    assert config["sasl.mechanism"] == "SCRAM-SHA-512"
    assert config["sasl.username"] == "user"
    assert config["sasl.password"] == "pass"
    assert config["ssl.ca.location"] == "/ca.pem"
    assert not [name for name in kafka.client_config(PLAIN) if name.startswith(("sasl.", "ssl."))]


def test_refused_settings_are_bad_configuration() -> None:
    """What the client library refuses ends as a ConfigurationError that holds its words and no secret."""
    with pytest.raises(ConfigurationError) as caught:
        kafka.producer(kafka.producer_config(SECURE, ProducerSettings()))
    assert "ssl.ca.location" in str(caught.value)
    assert "pass" not in str(caught.value)


def test_the_clients_own_log_is_ours_without_its_repetitions(caplog: pytest.LogCaptureFixture) -> None:
    """What librdkafka says is one of our records; the same refused connection is not said again at once."""
    said = kafka.client_config(PLAIN)["logger"]
    with caplog.at_level(logging.WARNING, "marketfeed.kafka"):
        for milliseconds in range(3):
            text = f"Connect to broker failed: refused (after {milliseconds}ms in state CONNECT)"
            said.log(logging.ERROR, "%s [%s] %s", "FAIL", "client-1", text)
        said.log(logging.ERROR, "%s [%s] %s", "FAIL", "client-1", "Another thing")
    assert [record.getMessage() for record in caplog.records] == ["client_said", "client_said"]
