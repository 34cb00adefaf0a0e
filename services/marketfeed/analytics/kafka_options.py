"""What Spark's Kafka source is told: where the brokers are, how connections are secured, where reading starts. Pure.

Spark's executors read with Java's client, whose words differ from librdkafka's (`marketfeed.kafka`).
"""

from __future__ import annotations

from collections.abc import Mapping

from marketfeed.errors import ConfigurationError
from marketfeed.settings import KafkaSettings, Secret

# A try takes up to a minute while no broker answers. Spark's default of 3 would end the query in a longer outage.
_RETRIES = "60"

_LOGIN_MODULES: Mapping[str, str] = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}

# Java's StreamTokenizer reads the text: a quoted word ends at a quote or at a line's end, and may hold octal escapes.
_ESCAPED = {ord("\\"): "\\\\", ord('"'): '\\"', **{code: f"\\{code:03o}" for code in range(32)}}


def kafka_options(kafka: KafkaSettings, authority: str | None) -> dict[str, str]:
    """Return the options that say where the brokers are and how connections are secured.

    authority: PEM text of the certificate authority; it travels to executors, on which its file need not be.
    The values hold the password: they belong in no log. Raises ConfigurationError for what Spark could not use.
    """
    options = {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        "kafka.security.protocol": kafka.security_protocol,
        "kafka.reconnect.backoff.max.ms": "2000",  # a broker that is back is found within seconds
    }
    if authority is not None and kafka.security_protocol.endswith("SSL"):
        options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.certificates": authority}
    if kafka.security_protocol.startswith("SASL"):
        options |= {"kafka.sasl.mechanism": _mechanism(kafka), "kafka.sasl.jaas.config": Secret(jaas(kafka))}
    return options


def source_options(topic: str, max_records_per_trigger: int) -> dict[str, str]:
    """Return the options that say what is read: a topic from its first record on, in bounded batches.

    Records that the topic no longer holds are no reason to stop: the reconciliation finds their windows.
    """
    return {
        "subscribe": topic,
        "startingOffsets": "earliest",
        "failOnDataLoss": "false",
        "maxOffsetsPerTrigger": str(max_records_per_trigger),
        "fetchOffset.numRetries": _RETRIES,
    }


def jaas(kafka: KafkaSettings) -> str:
    """Return the login as Java's clients read it. Source: Kafka's documentation, "JAAS configuration for clients"."""
    if not kafka.sasl_username or kafka.sasl_password is None:
        names = [KafkaSettings.variable(name) for name in ("sasl_username", "sasl_password")]
        raise ConfigurationError(f"{' and '.join(names)} are not set, and {kafka.security_protocol} needs both")
    user, password = _quoted(kafka.sasl_username), _quoted(kafka.sasl_password)
    return f"{_LOGIN_MODULES[_mechanism(kafka)]} required username={user} password={password};"


def _mechanism(kafka: KafkaSettings) -> str:
    if kafka.sasl_mechanism not in _LOGIN_MODULES:
        name, known = KafkaSettings.variable("sasl_mechanism"), ", ".join(_LOGIN_MODULES)
        raise ConfigurationError(f"{name}: {kafka.sasl_mechanism or 'nothing'} is not one of {known}")
    return str(kafka.sasl_mechanism)


def _quoted(text: str) -> str:
    return f'"{text.translate(_ESCAPED)}"'
