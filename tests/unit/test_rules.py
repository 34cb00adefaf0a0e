"""The rules over several fields, each with the sentence for whoever breaks it."""

from typing import Any

import pytest

from documents import ABSENT, SINK, changed, problems, report
from marketfeed_operator.spec import parse
from refusals import TAKEN

SASL = {"spec.kafka.security": {"protocol": "SASL_SSL"}}


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        (
            {"spec.symbols": ABSENT},
            ["spec.symbols: name at least one symbol, as in [BTCUSDT], or add spec.discovery"],
        ),
        ({"spec.symbols": ["BTCUSDT", "BTCUSDT"]}, ["spec.symbols: BTCUSDT stands there 2 times; once is enough"]),
        (
            {"spec.discovery": {"fallback": ["BTCUSDT", "BTCUSDT"]}},
            ["spec.discovery.fallback: BTCUSDT stands there 2 times; once is enough"],
        ),
        ({"spec.channels": ["trade", "trade"]}, ["spec.channels: trade stands there 2 times; once is enough"]),
        (
            {"spec.ingest.streamsPerShard": 1025},
            [
                (
                    "spec.ingest.streamsPerShard: must be at most 1024, which is what binance allows one connection, "
                    "not 1025"
                )
            ],
        ),
        (
            {"spec.ingest.rotateAfter": "1d"},
            ["spec.ingest.rotateAfter: must be below 24h, when binance cuts a connection, not 1d"],
        ),
        (
            {"spec.ingest": {"shards": 4, "maxShards": 3}},
            ["spec.ingest.shards: must be at most 3, which is spec.ingest.maxShards, not 4"],
        ),
        (
            SASL,
            [
                "spec.kafka.security.mechanism: SASL_SSL needs a mechanism, as SCRAM-SHA-512",
                "spec.kafka.security.credentialsSecretRef: SASL_SSL needs the secret with user and password",
            ],
        ),
        (
            {
                "spec.kafka.security": {
                    "mechanism": "PLAIN",
                    "credentialsSecretRef": {"name": "kafka"},
                    "caSecretRef": {"name": "kafka", "key": "ca.crt"},
                }
            },
            [
                (
                    "spec.kafka.security.mechanism: PLAINTEXT uses no mechanism: "
                    "write protocol: SASL_SSL, or leave the mechanism out"
                ),
                (
                    "spec.kafka.security.credentialsSecretRef: PLAINTEXT uses no password: "
                    "write protocol: SASL_SSL, or leave the secret out"
                ),
                (
                    "spec.kafka.security.caSecretRef: PLAINTEXT is not encrypted: "
                    "write protocol: SSL or SASL_SSL, or leave the authority out"
                ),
            ],
        ),
        (
            {"spec.kafka.producer.maxInFlight": 6},
            ["spec.kafka.producer.maxInFlight: must be at most 5 while acks is all, not 6"],
        ),
        (
            {"spec.kafka.encoding": "avro"},
            ["spec.kafka.schemaRegistry: encoding avro needs schemaRegistry: {url: …}"],
        ),
        (
            {"spec.deadLetter": {"topic": "binance.trades"}},
            ["spec.deadLetter.topic: binance.trades holds records already: give dead letters a topic of their own"],
        ),
        ({"spec.sinks": [SINK, SINK]}, ["spec.sinks[1].name: timescale is taken by spec.sinks[0]"]),
        (
            {
                "spec.sinks": [
                    {**SINK, "consumerGroup": "g"},
                    {**SINK, "name": "other", "consumerGroup": "g"},
                ]
            },
            ["spec.sinks[1].consumerGroup: g is the group of spec.sinks[0]: each would get a part of the records"],
        ),
        (
            {"spec.sinks.0.secretRef": ABSENT},
            [
                (
                    "spec.sinks[0].secretRef: timescaledb needs the secret with its connection string, "
                    "as {name: timescale, key: dsn}"
                )
            ],
        ),
        (
            {"spec.kafka.enabled": False},
            [
                (
                    "spec.sinks[0].type: timescaledb is filled from Kafka: "
                    "set spec.kafka.enabled to true, or use redis or stdout"
                )
            ],
        ),
        (
            {
                "spec.sinks": [
                    {"name": "console", "type": "stdout", "retention": "1d", "compressAfter": "1h", "maxLength": 5}
                ]
            },
            [
                (
                    "spec.sinks[0].retention: stdout has no such option; "
                    "it belongs to timescaledb and postgresql and cockroachdb"
                ),
                "spec.sinks[0].compressAfter: stdout has no such option; it belongs to timescaledb",
                "spec.sinks[0].maxLength: stdout has no such option; it belongs to redis",
            ],
        ),
        (
            {"spec.sinks.0.retention": "1d", "spec.sinks.0.compressAfter": "24h"},
            ["spec.sinks[0].compressAfter: 24h is not below retention, 1d: nothing would ever be compressed"],
        ),
        (
            {"spec.sinks": [], "spec.kafka.enabled": False, "spec.analytics": {}},
            [
                "spec.analytics.enabled: analytics read Kafka: set spec.kafka.enabled to true",
                "spec.analytics: analytics need a sink of type timescaledb, postgresql, cockroachdb for their results",
            ],
        ),
        (
            {"spec.analytics": {"sink": "timescal"}},
            ['spec.analytics.sink: "timescal" is not one of timescale; did you mean timescale?'],
        ),
        (
            {"spec.analytics": {"checkpoint": {"location": "s3a://b", "volumeClaim": "c"}}},
            ["spec.analytics.checkpoint: name location or volumeClaim, not both"],
        ),
    ],
)
def test_each_broken_rule_has_its_sentence(changes: dict[str, Any], sentences: list[str]) -> None:
    """The error names the field that breaks the rule and what would be right, and nothing more."""
    assert problems(changed(changes)) == report(*sentences)


@pytest.mark.parametrize("changes", TAKEN)
def test_what_keeps_to_the_rules_is_taken(changes: dict[str, Any]) -> None:
    """The last value within each rule's limit is no problem."""
    assert parse(changed(changes)).metadata.name == "spot"
