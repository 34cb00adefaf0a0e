"""Reading a MarketFeed: what is taken, and the sentence for everything that is not."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from documents import ABSENT, DOCUMENT, SINK, changed, problems, report
from marketfeed.errors import ConfigurationError
from marketfeed.events import Channel
from marketfeed_operator.models import Spec
from marketfeed_operator.spec import load, parse


def test_the_least_feed_has_the_defaults_of_the_design() -> None:
    """Exchange, symbols and channels are enough; everything else has a default."""
    feed = parse(changed({"spec.sinks": ABSENT}))
    assert feed.spec.channels == (Channel.TRADE,)
    assert feed.spec.ingest.streams_per_shard == 50
    assert feed.spec.kafka.topics.retention.milliseconds == 604_800_000
    assert feed.spec.kafka.producer.acks == "all"
    assert feed.spec.dead_letter_topic == "binance.dlq"
    assert feed.spec.deletion_policy == "Retain"
    assert not feed.spec.suspend


def test_the_whole_spec_of_the_design_is_taken() -> None:
    """Every section and field of the resource can be said at once."""
    feed = parse(
        changed(
            {
                "spec.endpoints": {"websocket": "ws://127.0.0.1:9443", "rest": ["http://127.0.0.1:8080/base"]},
                "spec.discovery": {
                    "provider": "coingecko",
                    "quote": "USDT",
                    "top": 200,
                    "refresh": "1h",
                    "fallback": ["BTCUSDT"],
                    "apiKeySecretRef": {"name": "coingecko", "key": "api-key"},
                },
                "spec.ingest": {
                    "streamsPerShard": 100,
                    "maxShards": 20,
                    "redundancy": 2,
                    "rotateAfter": "23h",
                    "validateOnStart": False,
                    "resources": {"limits": {"cpu": 1}},
                    "podTemplate": {"spec": {"tolerations": [{"operator": "Exists"}]}},
                },
                "spec.kafka": {
                    "enabled": True,
                    "bootstrapServers": "a:9092,b:9092",
                    "encoding": "avro",
                    "schemaRegistry": {"url": "http://registry:8081", "secretRef": {"name": "registry"}},
                    "topics": {
                        "provisioner": "direct",
                        "cluster": "kafka",
                        "namespace": "kafka",
                        "partitions": 6,
                        "replicas": 2,
                        "retention": "36h",
                        "names": {"trade": "t", "aggTrade": "t", "bookTicker": "b", "depth": "d"},
                    },
                    "key": "exchange|symbol",
                    "producer": {
                        "acks": "1",
                        "compression": "zstd",
                        "lingerMs": 5,
                        "batchBytes": 1000,
                        "maxInFlight": 10,
                        "retries": 3,
                        "queueBytes": 4096,
                        "headers": ["environment=test"],
                    },
                    "security": {
                        "protocol": "SASL_SSL",
                        "mechanism": "SCRAM-SHA-512",
                        "credentialsSecretRef": {"name": "kafka-user", "usernameKey": "u", "passwordKey": "p"},
                        "caSecretRef": {"name": "kafka-ca", "key": "ca.crt"},
                    },
                },
                "spec.sinks": [
                    {
                        **SINK,
                        "batch": {"rows": 1000, "maxDelay": "250ms"},
                        "replicas": 2,
                        "retention": "90d",
                        "compressAfter": "7d",
                        "consumerGroup": "buffer",
                        "autoOffsetReset": "latest",
                    },
                    {
                        "name": "redis",
                        "type": "redis",
                        "secretRef": {"name": "redis", "key": "url"},
                        "maxLength": 10000,
                    },
                ],
                "spec.deadLetter": {"topic": "dlq", "retention": "30d"},
                "spec.analytics": {
                    "enabled": True,
                    "sink": "timescale",
                    "tradeWindow": "1m",
                    "spreadWindow": "30s",
                    "watermark": "10s",
                    "trigger": "10s",
                    "alerts": {"volatility": 0.01, "volumeSpike": 3, "spread": 3.5},
                    "checkpoint": {"location": "s3a://bucket/spot"},
                    "driver": {"cores": 1, "memory": "1g"},
                    "executor": {"cores": 2, "memory": "512m", "instances": 3},
                },
                "spec.deletionPolicy": "Delete",
                "spec.suspend": True,
            }
        )
    )
    assert feed.spec.kafka.topics.names.agg_trade == "t"
    assert feed.spec.sinks[0].batch.max_delay.milliseconds == 250
    assert feed.spec.analytics is not None
    assert feed.spec.analytics.alerts.volume_spike == 3.0


def test_an_object_of_an_api_server_is_taken() -> None:
    """What only the server writes into metadata and status does not get in the way."""
    feed = parse(
        {
            **DOCUMENT,
            "metadata": {
                "name": "spot",
                "namespace": "market",
                "uid": "1b4e28ba",
                "generation": 3,
                "resourceVersion": "7",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{}],
                "finalizers": ["marketfeed.dev/data"],
            },
            "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}], "symbols": None},
        }
    )
    assert (feed.metadata.uid, feed.metadata.generation) == ("1b4e28ba", 3)


NOT_A_DURATION = "is not a duration: a whole number and one unit of ms, s, m, h or d, as in 2s or 7d"
NOT_A_NAME = "is not a name: up to 63 lower-case letters, digits and inner '-', as in binance-spot"
NOT_A_TOPIC = (
    "is not a Kafka topic: up to 249 letters, digits, '.', '_' and '-', not starting with '.', as in binance.trades"
)


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({"metadata.name": "Spot"}, [f'metadata.name: "Spot" {NOT_A_NAME}']),
        ({"metadata.name": "a" * 64}, [f'metadata.name: "{"a" * 59}… {NOT_A_NAME}']),
        ({"metadata.name": ABSENT}, ["metadata.name: is missing: Name of the feed"]),
        ({"metadata.labls": {}}, ["metadata.labls: is not a known field; did you mean labels?"]),
        (
            {"spec.exchange": "binanc"},
            ['spec.exchange: "binanc" is not one of binance, binance_us; did you mean binance?'],
        ),
        ({"spec.exchange": ABSENT}, ["spec.exchange: is missing: The venue, as binance"]),
        ({"spec.exchange": None}, ["spec.exchange: is missing: The venue, as binance"]),
        ({"spec.symbols": [None]}, ["spec.symbols[0]: must be text, not null"]),
        (
            {"spec.endpoints": {"websocket": f"wss://{'x' * 1024}"}},
            ["spec.endpoints.websocket: is too long: 1030 characters, at most 1024 are taken"],
        ),
        (
            {"spec.symbols": [f"S{number}" for number in range(5001)]},
            ["spec.symbols: is too long: 5001 items, at most 5000 are taken"],
        ),
        ({"spec.exchange": 5}, ["spec.exchange: must be text, not 5: put it in quotes"]),
        ({"spec.symbols": "BTCUSDT"}, ['spec.symbols: must be a list, not "BTCUSDT"']),
        (
            {"spec.symbols": ["BTCUSDT", "ethusdt"]},
            ['spec.symbols[1]: "ethusdt" is not a symbol: the venue\'s own name in upper case, as in BTCUSDT'],
        ),
        ({"spec.symbols": [True]}, ["spec.symbols[0]: must be text, not true: put it in quotes"]),
        (
            {"spec.channels": ["trades"]},
            ['spec.channels[0]: "trades" is not one of trade, aggTrade, bookTicker, depth; did you mean trade?'],
        ),
        ({"spec.channels": []}, ["spec.channels: is empty: What to record of each symbol"]),
        ({"spec.ingest": 5}, ["spec.ingest: must be a mapping, not 5"]),
        ({"spec.ingest.streamsPerShard": 0}, ["spec.ingest.streamsPerShard: must be at least 1, not 0"]),
        (
            {"spec.ingest.streamsPerShard": "50"},
            ['spec.ingest.streamsPerShard: must be a whole number, not "50": leave the quotes out'],
        ),
        ({"spec.ingest.streamsPerShard": 1.5}, ["spec.ingest.streamsPerShard: must be a whole number, not 1.5"]),
        ({"spec.ingest.maxShards": 1001}, ["spec.ingest.maxShards: must be at most 1000, not 1001"]),
        (
            {"spec.kafka.producer.retries": 2**40},
            ["spec.kafka.producer.retries: must be at most 2147483647, not 1099511627776"],
        ),
        ({"spec.ingest.rotateAfter": "1 day"}, [f'spec.ingest.rotateAfter: "1 day" {NOT_A_DURATION}']),
        ({"spec.ingest.rotateAfter": 60}, ["spec.ingest.rotateAfter: must be text, not 60: put it in quotes"]),
        ({"spec.ingest.validateOnStart": "no"}, ['spec.ingest.validateOnStart: must be true or false, not "no"']),
        ({"spec.ingest.podTemplate": []}, ["spec.ingest.podTemplate: must be a mapping, not []"]),
        (
            {"spec.ingest.streams_per_shard": 5},
            ["spec.ingest.streams_per_shard: is not a known field; did you mean streamsPerShard?"],
        ),
        (
            {"spec.streamsPerShard": 5},
            ["spec.streamsPerShard: is not a known field; did you mean spec.ingest.streamsPerShard?"],
        ),
        (
            {"spec.sinks.0.batch": {"zzz": 1}},
            ["spec.sinks[0].batch.zzz: is not a known field; known here: rows, maxDelay"],
        ),
        (
            {"spec.endpoints": {"websocket": "https://x"}},
            [
                (
                    'spec.endpoints.websocket: "https://x" is not a websocket URL without a query, '
                    "as in wss://stream.binance.com:9443"
                )
            ],
        ),
        (
            {"spec.endpoints": {"rest": ["api"]}},
            ['spec.endpoints.rest[0]: "api" is not an HTTP URL without a query, as in https://api.binance.com'],
        ),
        (
            {"spec.kafka.bootstrapServers": "kafka"},
            [
                (
                    'spec.kafka.bootstrapServers: "kafka" is not brokers as host:port, comma-separated, '
                    "as in kafka-kafka-bootstrap.kafka:9092"
                )
            ],
        ),
        ({"spec.kafka.topics.names": {"trade": "a/b"}}, [f'spec.kafka.topics.names.trade: "a/b" {NOT_A_TOPIC}']),
        ({"spec.kafka.topics.names": {"trade": ".."}}, [f'spec.kafka.topics.names.trade: ".." {NOT_A_TOPIC}']),
        ({"spec.kafka.producer.acks": 1}, ["spec.kafka.producer.acks: must be text, not 1: put it in quotes"]),
        (
            {"spec.kafka.producer.compression": "zip"},
            ['spec.kafka.producer.compression: "zip" is not one of none, gzip, snappy, lz4, zstd; did you mean gzip?'],
        ),
        (
            {"spec.kafka.producer.headers": ["a"]},
            [
                (
                    'spec.kafka.producer.headers[0]: "a" is not a header as name=value without commas, '
                    "as in environment=production"
                )
            ],
        ),
        ({"spec.sinks.0.name": ABSENT}, ["spec.sinks[0].name: is missing: Name of the sink, unique in the feed"]),
        ({"spec.sinks.0.batch": {"rows": 0}}, ["spec.sinks[0].batch.rows: must be at least 1, not 0"]),
        ({"spec.sinks.0.retention": "0d"}, [f'spec.sinks[0].retention: "0d" {NOT_A_DURATION}']),
        (
            {"spec.sinks.0.secretRef": {"name": "A", "key": "a b"}},
            [
                (
                    'spec.sinks[0].secretRef.name: "A" is not the name of a secret: lower-case letters, digits, '
                    "'-' and '.', as in timescale"
                ),
                (
                    'spec.sinks[0].secretRef.key: "a b" is not a key inside a secret: letters, digits, '
                    "'-', '_' and '.', as in dsn"
                ),
            ],
        ),
        (
            {"spec.sinks.0.consumerGroup": "a b"},
            ['spec.sinks[0].consumerGroup: "a b" is not a consumer group: text without blanks, as in binance-buffer'],
        ),
        (
            {"spec.analytics": {"alerts": {"spread": float("inf")}}},
            ["spec.analytics.alerts.spread: must be a finite number, not Infinity"],
        ),
        (
            {"spec.analytics": {"alerts": {"spread": 0}}},
            ["spec.analytics.alerts.spread: must be above 0, not 0"],
        ),
        (
            {"spec.analytics": {"driver": {"memory": "1 GB"}}},
            ['spec.analytics.driver.memory: "1 GB" is not an amount of memory as Spark writes it, as in 1g or 512m'],
        ),
        (
            {"spec.deletionPolicy": "delete"},
            ['spec.deletionPolicy: "delete" is not one of Retain, Delete; did you mean Delete?'],
        ),
    ],
)
def test_each_wrong_field_has_its_sentence(changes: dict[str, Any], sentences: list[str]) -> None:
    """The error names the field as the user wrote it, what was wrong and what would be right, and nothing more."""
    assert problems(changed(changes)) == report(*sentences)


def test_all_problems_are_told_at_once() -> None:
    """Wrong fields do not hide the problems between the right ones, and invent none beside themselves."""
    said = problems(
        changed(
            {
                "metadata.name": "Spot",
                "spec.symbls": ["ETHUSDT"],
                "spec.ingest": {"maxShards": 0, "streamsPerShard": 5000},
                "spec.kafka": {"enabled": "yes", "security": {"protocol": "SASL_SSL", "mechanism": "PLAIN"}},
                "spec.sinks": [{"name": "broken"}, {"name": "second", "type": "redis"}],
                "spec.deadLetter": {"topic": "binance.trades"},
            }
        )
    )
    assert [line.strip().partition(":")[0] for line in said.splitlines()[1:]] == [
        "metadata.name",
        "spec.ingest.maxShards",
        "spec.kafka.enabled",
        "spec.sinks[0].type",
        "spec.symbls",
        "spec.kafka.security.credentialsSecretRef",
        "spec.deadLetter.topic",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "feed.yaml: holds nothing; write a MarketFeed, beginning with apiVersion: marketfeed.dev/v1alpha1"),
        ("a: 1\n---\nb: 2\n", "feed.yaml: holds 2 documents; write one MarketFeed to a file"),
        ("hello", 'feed.yaml: must be a mapping with apiVersion, kind, metadata and spec, not "hello"'),
        (
            "spec:\n  symbols: [BTCUSDT\n  channels: [trade]\n",
            "feed.yaml:3:11: not YAML that can be read: expected ',' or ']', but got ':' while parsing a flow sequence",
        ),
        ("spec:\n  a: 1\n  a: 2\n", 'feed.yaml:3:3: not YAML that can be read: "a" stands here twice'),
        ("a:\n  b: \x01", 'feed.yaml:2:6: not YAML that can be read: character "\\u0001" is not allowed'),
        (
            "a: !!set {x}",
            (
                "feed.yaml:1:4: not YAML that can be read: could not determine a constructor for the tag "
                "'tag:yaml.org,2002:set'"
            ),
        ),
    ],
)
def test_text_that_holds_no_feed_is_told_with_its_position(text: str, sentence: str) -> None:
    """Whatever is wrong before any field is looked at is said in one line, with line and column where there is one."""
    with pytest.raises(ConfigurationError) as caught:
        load(text, "feed.yaml")
    assert str(caught.value) == sentence


def test_another_kind_of_document_gets_sentences_of_its_own() -> None:
    """A Deployment is refused for its kind and version, not for each of its fields."""
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1}}
    assert problems(document).splitlines() == [
        "feed.yaml: 2 problems",
        '  apiVersion: must be marketfeed.dev/v1alpha1, not "apps/v1"',
        '  kind: must be MarketFeed, not "Deployment"',
    ]
    assert "apiVersion: is missing: write marketfeed.dev/v1alpha1" in problems({"spec": {}})


def test_yaml_and_json_are_read_alike() -> None:
    """JSON is YAML, empty documents around the one are no documents, and an unquoted date stays text."""
    document = changed({"metadata.labels": {"since": "2026-01-01"}})
    as_yaml = yaml.safe_dump(document).replace("'2026-01-01'", "2026-01-01")
    assert (
        load(as_yaml, "a") == load(json.dumps(document), "b") == load(f"---\n{as_yaml}\n---\n", "c") == parse(document)
    )


def test_an_empty_field_counts_as_left_out() -> None:
    """`discovery:` with nothing says nothing, as to an API server; what is passed on as it is keeps its nulls."""
    changes = {"spec.ingest": {"shards": None, "podTemplate": {"spec": None}}, "spec.kafka": {"topics": None}}
    feed = parse(changed({**changes, "spec.sinks.0.batch": None, "spec.discovery": None}))
    assert feed.spec == parse(changed({"spec.ingest": {"podTemplate": {"spec": None}}})).spec
    assert feed.spec.ingest.pod_template == {"spec": None}


def test_a_feed_cannot_be_changed() -> None:
    """A parsed feed is a value."""
    feed = parse(DOCUMENT)
    with pytest.raises(ValueError, match="frozen"):
        feed.spec.suspend = True  # type: ignore[misc]  # the very thing that must fail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
fields_of_spec = st.sampled_from([str(field.alias) for field in Spec.model_fields.values()])


@settings(deadline=None, max_examples=300)  # the claim is not about time
@given(fields_of_spec, json_values)
def test_whatever_stands_in_the_spec_is_taken_or_refused_in_words(field: str, value: object) -> None:
    """No JSON value in any field of the spec gets past as anything but a feed or a ConfigurationError."""
    try:
        outcome = parse(changed({f"spec.{field}": value})).spec.exchange
    except ConfigurationError as error:
        outcome = str(error)
    assert outcome == "binance" or f"spec.{field}" in outcome or "spec.symbols" in outcome
