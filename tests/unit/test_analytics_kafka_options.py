"""What Spark's Kafka source is told."""

from __future__ import annotations

import pytest

from marketfeed.analytics.kafka_options import jaas, kafka_options, source_options
from marketfeed.errors import ConfigurationError
from marketfeed.settings import KafkaSettings, Secret


def _secured(user: str = "reader", word: str = "s3cret", mechanism: str | None = "SCRAM-SHA-512") -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers="kafka:9093",
        security_protocol="SASL_SSL",
        sasl_mechanism=mechanism,
        sasl_username=Secret(user),
        sasl_password=Secret(word),
        ca_file="/etc/ca.pem",
    )


def test_a_plain_broker_needs_only_its_address() -> None:
    """Without security there is neither a login nor a trust store, even where an authority is at hand."""
    options = kafka_options(KafkaSettings(bootstrap_servers="a:9092,b:9092"), "PEM")
    assert options["kafka.bootstrap.servers"] == "a:9092,b:9092"
    assert options["kafka.security.protocol"] == "PLAINTEXT"
    assert not [name for name in options if "sasl" in name or "ssl" in name]


def test_a_secured_broker_is_given_login_and_authority() -> None:
    """The authority travels as text, for executors have no such file; the login module is that of the mechanism."""
    options = kafka_options(_secured(), "PEM")
    assert options["kafka.ssl.truststore.type"] == "PEM"
    assert options["kafka.ssl.truststore.certificates"] == "PEM"
    assert options["kafka.sasl.mechanism"] == "SCRAM-SHA-512"
    assert options["kafka.sasl.jaas.config"] == (
        'org.apache.kafka.common.security.scram.ScramLoginModule required username="reader" password="s3cret";'
    )
    assert "PlainLoginModule" in kafka_options(_secured(mechanism="PLAIN"), None)["kafka.sasl.jaas.config"]


def test_no_character_of_a_password_ends_its_word() -> None:
    """Quotes, backslashes and line ends are escaped as Java's StreamTokenizer reads them."""
    assert jaas(_secured(word='a"b\\c\nd;e')).endswith('password="a\\"b\\\\c\\012d;e";')


def test_no_password_is_shown() -> None:
    """The options can be logged by mistake without giving the login away."""
    assert "s3cret" not in repr(kafka_options(_secured(), None))


@pytest.mark.parametrize("mechanism", [None, "GSSAPI"])
def test_a_mechanism_that_spark_cannot_use_is_refused(mechanism: str | None) -> None:
    """The sentence names the variable and what would be right."""
    with pytest.raises(ConfigurationError, match=r"KAFKA_SASL_MECHANISM: .* is not one of PLAIN, SCRAM-SHA-256"):
        kafka_options(_secured(mechanism=mechanism), None)


def test_a_login_without_a_user_is_refused() -> None:
    """The sentence names both variables."""
    with pytest.raises(ConfigurationError, match="KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD are not set"):
        kafka_options(_secured(user=""), None)


def test_a_topic_is_read_from_its_first_record_in_bounded_batches() -> None:
    """Neither records that a topic no longer holds nor a broker that is away for minutes end the query."""
    assert source_options("binance.trades", 5) == {
        "subscribe": "binance.trades",
        "startingOffsets": "earliest",
        "failOnDataLoss": "false",
        "maxOffsetsPerTrigger": "5",
        "fetchOffset.numRetries": "60",
    }
