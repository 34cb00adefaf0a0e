"""Documents that are refused, each for one reason: by `spec.parse` and by an API server, in words that agree."""

from __future__ import annotations

from typing import Any, NamedTuple

from documents import ABSENT, SINK


class Refusal(NamedTuple):
    """A broken document: what is changed, what a reader of the answer must find in it, and the rule that is broken."""

    changes: dict[str, Any]
    words: str
    """What both say."""
    rule: str | None = None
    """Name of the function in `rules.RULES`; None where a single field is wrong."""
    server: str | None = None
    """What an API server says instead, where the schema's own words do."""


STDOUT = {"name": "console", "type": "stdout"}
SASL = {
    "protocol": "SASL_SSL",
    "mechanism": "PLAIN",
    "credentialsSecretRef": {"name": "kafka"},
}

FIELDS = (
    Refusal({"spec.symbols": ["ethusdt"]}, "a symbol: the venue's own name in upper case, as in BTCUSDT"),
    Refusal({"spec.discovery": {"fallback": ["eth usdt"]}}, "a symbol: the venue's own name in upper case"),
    Refusal({"spec.ingest.rotateAfter": "1 day"}, "a duration: a whole number and one unit of ms, s, m, h or d"),
    Refusal({"spec.sinks.0.retention": "0d"}, "a duration: a whole number and one unit of ms, s, m, h or d"),
    Refusal({"metadata.name": "spot.eu"}, "a name: up to 63 lower-case letters, digits and inner '-'"),
    Refusal({"spec.sinks.0.name": "Time"}, "a name: up to 63 lower-case letters, digits and inner '-'"),
    Refusal({"spec.sinks.0.secretRef": {"name": "A", "key": "dsn"}}, "the name of a secret: lower-case letters"),
    Refusal({"spec.sinks.0.secretRef": {"name": "a", "key": "d n"}}, "a key inside a secret: letters, digits"),
    Refusal({"spec.sinks.0.consumerGroup": "a b"}, "a consumer group: text without blanks, as in binance-buffer"),
    Refusal({"spec.deadLetter.topic": "a/b"}, "a Kafka topic: up to 249 letters"),
    Refusal({"spec.kafka.bootstrapServers": "kafka"}, "brokers as host:port, comma-separated"),
    Refusal({"spec.kafka.producer.headers": ["a"]}, "a header as name=value without commas"),
    Refusal({"spec.endpoints": {"websocket": "https://x"}}, "a websocket URL without a query, as in wss://"),
    Refusal({"spec.endpoints": {"rest": ["api"]}}, "an HTTP URL without a query, as in https://api.binance.com"),
    Refusal({"spec.analytics": {"driver": {"memory": "1 GB"}}}, "an amount of memory as Spark writes it, as in 1g"),
    Refusal(
        {"spec.analytics": {"driver": {"coreRequest": "1 core"}}},
        "an amount of processor cores as Kubernetes writes it",
    ),
    Refusal(
        {"spec.exchange": "binanc"},
        '"binanc" is not one of binance, binance_us',
        server='spec.exchange: Unsupported value: "binanc": supported values: "binance", "binance_us"',
    ),
    Refusal({"spec.exchange": ABSENT}, "spec.exchange: is missing", server="spec.exchange: Required value"),
    Refusal({"spec.symbls": ["A"]}, "spec.symbls: is not a known field", server='unknown field "spec.symbls"'),
    Refusal(
        {"spec.channels": []},
        "spec.channels: is empty",
        server="spec.channels in body should have at least 1 items",
    ),
    Refusal(
        {"spec.channels": ["trades"]},
        "spec.channels[0]",
        server='spec.channels[0]: Unsupported value: "trades": supported values: "trade", "aggTrade"',
    ),
    Refusal(
        {"spec.ingest.streamsPerShard": 0},
        "must be at least 1, not 0",
        server="spec.ingest.streamsPerShard in body should be greater than or equal to 1",
    ),
    Refusal(
        {"spec.ingest.shards": 0},
        "must be at least 1, not 0",
        server="spec.ingest.shards in body should be greater than or equal to 1",
    ),
    Refusal(
        {"spec.ingest.maxShards": 1001},
        "must be at most 1000, not 1001",
        server="spec.ingest.maxShards in body should be less than or equal to 1000",
    ),
    Refusal(
        {"spec.ingest.streamsPerShard": "50"},
        "must be a whole number",
        server='spec.ingest.streamsPerShard: Invalid value: "string": spec.ingest.streamsPerShard in body must be of '
        'type integer: "string"',
    ),
    Refusal(
        {"spec.analytics": {"alerts": {"spread": 0}}},
        "must be above 0, not 0",
        server="spec.analytics.alerts.spread in body should be greater than 0",
    ),
    Refusal(
        {"spec.kafka.topics.cluster": "k" * 64},
        "a name: up to 63 lower-case letters, digits and inner '-'",
        server="spec.kafka.topics.cluster: Too long: may not be more than 63 bytes",
    ),
    Refusal(
        {"spec.endpoints": {"websocket": f"wss://{'x' * 1024}"}},
        "is too long: 1030 characters, at most 1024 are taken",
        server="spec.endpoints.websocket: Too long: may not be more than 1024 bytes",
    ),
    Refusal(
        {"spec.symbols": [f"S{number}" for number in range(5001)]},
        "is too long: 5001 items, at most 5000 are taken",
        server="spec.symbols: Too many: 5001: must have at most 5000 items",
    ),
)
"""A single field is wrong."""

TOGETHER = (
    Refusal(
        {"spec.symbols": ABSENT},
        "name at least one symbol, as in [BTCUSDT], or add spec.discovery",
        "_symbols_or_discovery",
    ),
    Refusal(
        {"spec.symbols": []},
        "name at least one symbol, as in [BTCUSDT], or add spec.discovery",
        "_symbols_or_discovery",
    ),
    Refusal(
        {"spec.symbols": ["BTCUSDT", "BTCUSDT"]},
        "spec.symbols: BTCUSDT stands there 2 times",
        "_symbols_are_distinct",
        'spec.symbols[1]: Duplicate value: "BTCUSDT"',
    ),
    Refusal(
        {"spec.discovery": {"fallback": ["BTCUSDT", "BTCUSDT"]}},
        "spec.discovery.fallback: BTCUSDT stands there 2 times",
        "_symbols_are_distinct",
        'spec.discovery.fallback[1]: Duplicate value: "BTCUSDT"',
    ),
    Refusal(
        {"spec.channels": ["trade", "trade"]},
        "spec.channels: trade stands there 2 times",
        "_channels_are_distinct",
        'spec.channels[1]: Duplicate value: "trade"',
    ),
    Refusal(
        {"spec.channels": ["trade", "depth"]},
        "binance has no channel depth; it has aggTrade, bookTicker, trade",
        "_channels_are_the_venues",
    ),
    Refusal(
        {"spec.ingest.streamsPerShard": 1025},
        "must be at most 1024, which is what binance allows one connection, not 1025",
        "_a_shard_fits_one_connection",
    ),
    Refusal(
        {"spec.ingest.rotateAfter": "1d"},
        "must be below 24h, when binance cuts a connection, not 1d",
        "_rotation_comes_before_the_cut",
    ),
    Refusal(
        {"spec.ingest.shards": 21},
        "must be at most 20, which is spec.ingest.maxShards, not 21",
        "_shards_keep_to_the_limit",
    ),
    Refusal(
        {"spec.kafka.security": {**SASL, "mechanism": None}},
        "SASL_SSL needs a mechanism, as SCRAM-SHA-512",
        "_sasl_is_complete",
    ),
    Refusal(
        {"spec.kafka.security": {**SASL, "credentialsSecretRef": None}},
        "SASL_SSL needs the secret with user and password",
        "_sasl_is_complete",
    ),
    Refusal(
        {"spec.kafka.security": {"mechanism": "PLAIN"}},
        "PLAINTEXT uses no mechanism: write protocol: SASL_SSL, or leave the mechanism out",
        "_sasl_is_complete",
    ),
    Refusal(
        {"spec.kafka.security": {"credentialsSecretRef": {"name": "kafka"}}},
        "PLAINTEXT uses no password: write protocol: SASL_SSL, or leave the secret out",
        "_sasl_is_complete",
    ),
    Refusal(
        {"spec.kafka.security": {"caSecretRef": {"name": "kafka", "key": "ca.crt"}}},
        "PLAINTEXT is not encrypted: write protocol: SSL or SASL_SSL, or leave the authority out",
        "_sasl_is_complete",
    ),
    Refusal(
        {"spec.kafka.producer.maxInFlight": 6},
        "must be at most 5 while acks is all, not 6",
        "_producer_keeps_order",
    ),
    Refusal(
        {"spec.kafka.encoding": "avro"},
        "encoding avro needs schemaRegistry: {url: …}",
        "_encoding_has_its_registry",
    ),
    Refusal(
        {"spec.deadLetter.topic": "binance.trades"},
        "spec.deadLetter.topic: ",
        "_dead_letters_have_their_own_topic",
    ),
    Refusal(
        {"spec.kafka.topics.names": {"trade": "binance.dlq"}},
        "binance.dlq holds records already: give dead letters a topic of their own",
        "_dead_letters_have_their_own_topic",
    ),
    Refusal(
        {"spec.sinks": [SINK, SINK]},
        "spec.sinks[1].name: timescale is taken by spec.sinks[0]",
        "_sinks_have_distinct_names",
        'spec.sinks[1]: Duplicate value: {"name":"timescale"}',
    ),
    Refusal(
        {"spec.sinks": [{**SINK, "consumerGroup": "g"}, {**SINK, "name": "other", "consumerGroup": "g"}]},
        "each would get a part of the records",
        "_sinks_have_distinct_groups",
    ),
    Refusal(
        {"spec.sinks.0.secretRef": ABSENT},
        "timescaledb needs the secret with its connection string, as {name: timescale, key: dsn}",
        "_sinks_have_their_secret",
    ),
    Refusal(
        {"spec.kafka.enabled": False},
        "timescaledb is filled from Kafka: set spec.kafka.enabled to true, or use redis or stdout",
        "_sinks_fit_kafka",
    ),
    Refusal(
        {"spec.sinks": [{**STDOUT, "retention": "1d"}]},
        "stdout has no such option; it belongs to timescaledb and postgresql and cockroachdb",
        "_sink_options_fit_the_type",
    ),
    Refusal(
        {"spec.sinks": [{**STDOUT, "compressAfter": "1d"}]},
        "stdout has no such option; it belongs to timescaledb",
        "_sink_options_fit_the_type",
    ),
    Refusal(
        {"spec.sinks.0.maxLength": 5},
        "timescaledb has no such option; it belongs to redis",
        "_sink_options_fit_the_type",
    ),
    Refusal(
        {"spec.sinks.0.retention": "1d", "spec.sinks.0.compressAfter": "1440m"},
        "1440m is not below retention, 1d: nothing would ever be compressed",
        "_rows_are_compressed_before_they_go",
    ),
    *(
        Refusal(
            {"spec.sinks.0.retention": kept, "spec.sinks.0.compressAfter": compressed},
            f"{compressed} is not below retention, {kept}: nothing would ever be compressed",
            "_rows_are_compressed_before_they_go",
        )
        for kept, compressed in (("1s", "1000ms"), ("1m", "60s"), ("1h", "60m"), ("1d", "24h"))
    ),
    Refusal(
        {"spec.sinks": [STDOUT], "spec.kafka.enabled": False, "spec.analytics": {}},
        "analytics read Kafka: set spec.kafka.enabled to true",
        "_analytics_have_input_and_output",
    ),
    Refusal(
        {"spec.sinks": [], "spec.analytics": {}},
        "analytics need a sink of type timescaledb, postgresql, cockroachdb for their results",
        "_analytics_have_input_and_output",
    ),
    Refusal(
        {"spec.analytics": {"sink": "timescal"}},
        "is not one of ",
        "_analytics_have_input_and_output",
    ),
    Refusal(
        {"spec.analytics": {"checkpoint": {"location": "s3a://b", "volumeClaim": "c"}}},
        "name location or volumeClaim, not both",
        "_analytics_have_input_and_output",
    ),
    Refusal(
        {"spec.channels": ["depth"], "spec.analytics": {}},
        "analytics need one of trade, aggTrade, bookTicker: add it",
        "_analytics_have_input_and_output",
    ),
    Refusal(
        {"spec.analytics": {"tradeWindow": "45s"}},
        "must divide a minute or be whole minutes, as in 1s, 10s, 30s, 1m or 5m, not 45s",
        "_windows_fit_minutes",
    ),
    Refusal(
        {"spec.analytics": {"tradeWindow": "90s"}},
        "must divide a minute or be whole minutes, as in 1s, 10s, 30s, 1m or 5m, not 90s",
        "_windows_fit_minutes",
    ),
    Refusal(
        {"spec.analytics": {"spreadWindow": "500ms"}},
        "must divide a minute or be whole minutes, as in 1s, 10s, 30s, 1m or 5m, not 500ms",
        "_windows_fit_minutes",
    ),
    Refusal(
        {"spec.analytics": {"trigger": "99ms"}},
        "must be at least 100ms, not 99ms",
        "_batches_have_their_time",
    ),
)
"""Several fields do not fit each other."""

TAKEN: tuple[dict[str, Any], ...] = (
    {"spec.symbols": ABSENT, "spec.discovery": {}},
    {"spec.discovery": {}},
    {"spec.ingest.streamsPerShard": 1024},
    {"spec.ingest.rotateAfter": "1439m"},
    {"spec.ingest": {"shards": 3, "maxShards": 3}},
    {"spec.kafka.producer": {"maxInFlight": 6, "acks": "1"}},
    {"spec.kafka.security": {"protocol": "SSL", "caSecretRef": {"name": "kafka", "key": "ca.crt"}}},
    {"spec.kafka.enabled": False, "spec.sinks": [{"name": "console", "type": "stdout"}]},
    {"spec.sinks.0.retention": "2d", "spec.sinks.0.compressAfter": "1d"},
    {"spec.analytics": {"enabled": False}, "spec.sinks": []},
    {"spec.analytics": {}},
    {"spec.analytics": {"tradeWindow": "1s", "spreadWindow": "1500ms", "trigger": "100ms"}},
    {"spec.analytics": {"tradeWindow": "7m", "spreadWindow": "1d"}},
    {"spec.analytics": {"driver": {"coreRequest": "200m"}, "executor": {"coreRequest": "0.5"}}},
    {"spec.sinks.0.retention": "1s", "spec.sinks.0.compressAfter": "999ms"},
    {"spec.sinks.0.retention": "1m", "spec.sinks.0.compressAfter": "59s"},
    {"spec.sinks.0.retention": "1h", "spec.sinks.0.compressAfter": "59m"},
    {"spec.sinks.0.retention": "1d", "spec.sinks.0.compressAfter": "23h"},
    {"spec.sinks.0.retention": "999999999d", "spec.sinks.0.compressAfter": "999999998d"},
)
"""Changes that are just within what a rule allows."""
