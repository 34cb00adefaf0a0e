"""Plans: what each part of a feed leads to."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from documents import ABSENT, SINK, changed
from marketfeed.errors import ConfigurationError
from marketfeed.events import Stream
from marketfeed.settings import ConsumerSettings, IngestorSettings, KafkaSettings, KeyStyle, Secret, Topic
from marketfeed_operator.plan import Defaults, Plan, SecretFile, SecretVariable, plan
from marketfeed_operator.spec import parse

ALL_CHANNELS = {"spec.channels": ["trade", "aggTrade", "bookTicker"]}
STDOUT = {"name": "console", "type": "stdout"}
SECURITY = {
    "protocol": "SASL_SSL",
    "mechanism": "SCRAM-SHA-512",
    "credentialsSecretRef": {"name": "kafka-user"},
    "caSecretRef": {"name": "kafka-ca", "key": "ca.crt"},
}


NO_CHECKPOINT = "spec.analytics.checkpoint is not set: in a cluster a new driver reads the topics from their beginning"


def planned(changes: dict[str, Any], defaults: Defaults = Defaults()) -> Plan:  # noqa: B008 - a frozen value
    """Return the plan of the document with these changes."""
    return plan(parse(changed(changes)), defaults)


def no_file(path: str) -> str:
    """Stand in for a file system without files."""
    raise FileNotFoundError(path)


def test_channels_share_topics_as_named_and_dead_letters_have_one() -> None:
    """Each topic stands once, with the retention of its kind; trade and aggTrade share one by default."""
    made = planned({**ALL_CHANNELS, "spec.kafka.topics": {"partitions": 6, "replicas": 2, "retention": "1d"}})
    assert made.topics == (
        Topic("binance.trades", 6, 2, 86_400_000),
        Topic("binance.book_ticker", 6, 2, 86_400_000),
        Topic("binance.dlq", 6, 2, 2_592_000_000),
    )
    assert made.shards[0].settings.topics == {
        "trade": "binance.trades",
        "aggTrade": "binance.trades",
        "bookTicker": "binance.book_ticker",
    }


def test_more_shards_than_streams_is_said_and_needs_no_connection() -> None:
    """A shard without streams connects to nobody."""
    made = planned({"spec.symbols": ["BTCUSDT"], "spec.channels": ["trade"], "spec.ingest": {"shards": 3}})
    assert "2 of 3 shards hold no stream: lower spec.ingest.shards" in made.warnings
    assert (len(made.shards), made.connections.needed) == (3, 1)
    assert not [text for text in planned({}).warnings if "no stream" in text]


def test_chosen_names_are_used_everywhere() -> None:
    """A topic's chosen name reaches the topics, the ingestors and the consumers."""
    made = planned({"spec.kafka.topics.names": {"trade": "market.trades.raw"}, "spec.deadLetter": {"topic": "dead"}})
    assert [topic.name for topic in made.topics] == ["market.trades.raw", "dead"]
    assert made.shards[0].settings.topics == {"trade": "market.trades.raw"}
    assert made.consumers[0].settings.topics == ("market.trades.raw",)
    assert made.shards[0].settings.dead_letter_topic == made.consumers[0].settings.dead_letter_topic == "dead"


def test_a_shard_is_told_everything_but_secrets_through_its_environment() -> None:
    """An ingestor that reads the planned environment has the planned settings."""
    made = planned({**ALL_CHANNELS, "spec.kafka.security": SECURITY, "spec.kafka.key": "exchange|symbol"})
    settings = made.shards[0].settings
    assert IngestorSettings.from_env(settings.to_env(), no_file) == settings
    assert settings.key is KeyStyle.EXCHANGE_SYMBOL


def test_a_consumer_is_told_everything_but_secrets_through_its_environment() -> None:
    """A consumer that reads the planned environment and its connection string has the planned settings."""
    settings = planned({"spec.sinks.0.batch": {"rows": 9, "maxDelay": "250ms"}}).consumers[0].settings
    dsn = {ConsumerSettings.variable("dsn"): "postgresql://db/marketfeed"}
    read = ConsumerSettings.from_env({**settings.to_env(), **dsn}, no_file)
    assert read == replace(settings, dsn=Secret("postgresql://db/marketfeed"))
    assert (read.batch_rows, read.batch_max_delay_ms, read.group) == (9, 250, "spot-timescale")


def test_producer_options_reach_the_ingestor() -> None:
    """Every option of spec.kafka.producer is a setting of the ingestor."""
    producer = (
        planned(
            {
                "spec.kafka.producer": {
                    "acks": "1",
                    "compression": "zstd",
                    "lingerMs": 1,
                    "batchBytes": 2,
                    "maxInFlight": 3,
                    "retries": 4,
                    "queueBytes": 5000,
                    "headers": ["environment=test"],
                }
            }
        )
        .shards[0]
        .settings.producer
    )
    assert (producer.acks, producer.compression, producer.linger_ms, producer.batch_bytes) == ("1", "zstd", 1, 2)
    assert (producer.max_in_flight, producer.retries, producer.queue_bytes) == (3, 4, 5000)
    assert producer.headers == ("environment=test",)


def test_endpoints_are_the_venues_unless_the_feed_names_others() -> None:
    """A feed may send its ingestors elsewhere; by default they go to the venue's public addresses."""
    public = planned({}).shards[0].settings
    assert public.websocket_url.startswith("wss://stream.binance.com")
    assert public.rest_urls[0] == "https://api.binance.com"
    elsewhere = {"websocket": "ws://127.0.0.1:1", "rest": ["http://127.0.0.1:2", "http://127.0.0.1:3"]}
    private = planned({"spec.endpoints": elsewhere}).shards[0].settings
    assert private.websocket_url == "ws://127.0.0.1:1"
    assert private.rest_urls == ("http://127.0.0.1:2", "http://127.0.0.1:3")


def test_the_installation_decides_where_the_feed_is_silent() -> None:
    """Brokers come from the feed, else from the installation; files and ports from the installation."""
    defaults = Defaults(bootstrap_servers="mine:9092", streams_file="/s.json", ingestor_port=1, consumer_port=2)
    made = planned({}, defaults)
    assert (
        made.shards[0].settings.kafka
        == made.consumers[0].settings.kafka
        == KafkaSettings(bootstrap_servers="mine:9092")
    )
    assert made.shards[0].settings.streams_file == "/s.json"
    assert (made.shards[0].settings.http.port, made.consumers[0].settings.http.port) == (1, 2)
    named = planned({"spec.kafka.bootstrapServers": "theirs:9092"}, defaults).shards[0].settings.kafka
    assert named == KafkaSettings(bootstrap_servers="theirs:9092")


def test_secrets_are_named_and_never_held() -> None:
    """A plan says which variable or file comes from which secret; its settings hold no user, password or DSN."""
    made = planned({"spec.kafka.security": SECURITY})
    kafka = (
        SecretVariable("KAFKA_SASL_USERNAME", "kafka-user", "username"),
        SecretVariable("KAFKA_SASL_PASSWORD", "kafka-user", "password"),
        SecretFile("/etc/marketfeed/kafka-ca/ca.crt", "kafka-ca", "ca.crt"),
    )
    assert made.shards[0].secrets == kafka
    assert made.consumers[0].secrets == (*kafka, SecretVariable("MARKETFEED_DSN", "timescale", "dsn"))
    assert made.consumers[0].settings.dsn == ""
    assert made.consumers[0].settings.kafka == KafkaSettings(
        bootstrap_servers="kafka-kafka-bootstrap.kafka:9092",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        ca_file="/etc/marketfeed/kafka-ca/ca.crt",
    )


@pytest.mark.parametrize(("sinks", "publisher"), [([STDOUT], "stdout"), ([], "null")])
def test_without_kafka_the_ingestor_publishes_elsewhere(sinks: list[dict[str, Any]], publisher: str) -> None:
    """Kafka switched off leaves ingestors alone, without topics, consumers or brokers."""
    made = planned({"spec.kafka.enabled": False, "spec.sinks": sinks})
    assert (made.topics, made.consumers) == ((), ())
    assert (made.shards[0].settings.publisher, made.shards[0].settings.kafka) == (publisher, None)


def test_streams_are_spread_over_shards_and_connections_are_counted() -> None:
    """Every symbol has every channel, on as few shards as hold them, each with a connection of its own."""
    made = planned({**ALL_CHANNELS, "spec.symbols": ["A1", "B1", "C1", "D1"], "spec.ingest.streamsPerShard": 5})
    streams = [stream for shard in made.shards for stream in shard.streams]
    assert sorted(map(str, streams)) == sorted(
        f"{symbol}@{channel}" for symbol in ("A1", "B1", "C1", "D1") for channel in ("trade", "aggTrade", "bookTicker")
    )
    assert [shard.name for shard in made.shards] == ["spot-ingestor-0", "spot-ingestor-1", "spot-ingestor-2"]
    assert [shard.settings.shard for shard in made.shards] == [shard.name for shard in made.shards]
    assert (made.connections.needed, made.connections.streams) == (3, 12)
    assert (made.connections.streams_per_connection, made.connections.attempts) == (1024, 300)


def test_too_many_streams_are_refused_with_what_to_raise() -> None:
    """A feed above its own limit of shards is not planned in part."""
    with pytest.raises(
        ConfigurationError, match=r"raise spec\.ingest\.maxShards to 3 or spec\.ingest\.streamsPerShard to 3"
    ):
        planned({**ALL_CHANNELS, "spec.ingest": {"streamsPerShard": 1, "maxShards": 1}})


def test_analytics_read_the_feeds_topics_and_write_to_one_of_its_databases() -> None:
    """The first database takes the results unless the feed names another; durations are in ms."""
    second = {**SINK, "name": "second", "secretRef": {"name": "other", "key": "url"}}
    changes = {**ALL_CHANNELS, "spec.sinks": [SINK, second]}
    job = planned({**changes, "spec.analytics": {}}).analytics
    assert job is not None
    told = job.settings
    assert (job.name, told.sink, told.exchange) == ("spot-analytics", "timescale", "binance")
    assert (told.trade_topic, told.quote_topic) == ("binance.trades", "binance.book_ticker")
    assert (told.trade_window_ms, told.spread_window_ms, told.watermark_ms, told.trigger_ms) == (
        60_000,
        30_000,
        10_000,
        10_000,
    )
    named = planned({**changes, "spec.analytics": {"sink": "second"}}).analytics
    assert named is not None
    assert named.secrets == (SecretVariable("MARKETFEED_DSN", "other", "url"),)


@pytest.mark.parametrize(
    ("channels", "counted", "trades", "quotes"),
    [
        (["aggTrade", "trade", "bookTicker"], "trade", "binance.trades", "binance.book_ticker"),
        (["aggTrade"], "aggTrade", "binance.trades", None),
        (["bookTicker"], "trade", None, "binance.book_ticker"),
    ],
)
def test_analytics_count_single_prints_where_the_feed_has_them(
    channels: list[str], counted: str, trades: str | None, quotes: str | None
) -> None:
    """Both trade channels tell of the same trades, so one is counted; a channel that is not recorded has no topic."""
    job = planned({"spec.channels": channels, "spec.analytics": {}}).analytics
    assert job is not None
    assert (job.settings.trade_channel, job.settings.trade_topic, job.settings.quote_topic) == (counted, trades, quotes)


@pytest.mark.parametrize(
    ("checkpoint", "kept"),
    [
        ({"location": "s3a://bucket/path"}, "s3a://bucket/path"),
        ({"volumeClaim": "progress"}, "/var/lib/marketfeed/checkpoint"),
    ],
)
def test_progress_that_is_kept_needs_no_warning(checkpoint: dict[str, str], kept: str) -> None:
    """At a URL as it stands, on a volume in the folder where it is mounted."""
    made = planned({"spec.analytics": {"checkpoint": checkpoint}})
    assert made.analytics is not None
    assert made.analytics.settings.checkpoint == kept
    assert not made.warnings


@pytest.mark.parametrize("analytics", [ABSENT, {"enabled": False}])
def test_no_analytics_unless_asked_for(analytics: Any) -> None:
    """Without the section, or with it switched off, no job is planned."""
    changes = {} if analytics is ABSENT else {"spec.analytics": analytics}
    assert planned(changes).analytics is None


def test_a_feed_with_discovery_alone_is_planned_from_its_fallback() -> None:
    """Discovery is not asked: the fallback's symbols are planned, and the plan says so."""
    made = planned({"spec.symbols": ABSENT, "spec.discovery": {"fallback": ["ETHUSDT"]}})
    assert made.shards[0].streams == (Stream.parse("ETHUSDT@trade"),)
    assert made.warnings == ("spec.discovery is not asked: the symbols of its fallback are recorded",)


def test_a_feed_with_discovery_and_symbols_is_planned_from_its_symbols() -> None:
    """Listed symbols are planned, the fallback is not, and the plan says so."""
    made = planned({"spec.discovery": {"fallback": ["ETHUSDT"]}})
    assert made.shards[0].streams == (Stream.parse("BTCUSDT@trade"),)
    assert made.warnings == ("spec.discovery is not asked: only the symbols of spec.symbols are recorded",)


def test_discovery_without_a_fallback_cannot_be_planned() -> None:
    """With nothing to record the plan is refused, with what to write."""
    with pytest.raises(ConfigurationError, match=r"list symbols in spec\.symbols or spec\.discovery\.fallback"):
        planned({"spec.symbols": ABSENT, "spec.discovery": {}})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"spec.sinks": []}, "spec.sinks is empty: records are kept in Kafka alone"),
        (
            {"spec.sinks": [], "spec.kafka.enabled": False},
            "records go nowhere: spec.kafka.enabled is false and spec.sinks is empty",
        ),
        ({"spec.sinks.0.replicas": 4}, "sink timescale: 4 replicas share 3 partitions; the rest is idle"),
        (
            {
                **ALL_CHANNELS,
                "spec.symbols": [f"S{number}" for number in range(60)],
                "spec.ingest": {"streamsPerShard": 1, "maxShards": 200},
            },
            (
                "180 connections, each replaced by a second one when it is rotated, come above the 300 that "
                "binance allows one address per 300 s"
            ),
        ),
        ({"spec.ingest.rotateAfter": "1h"}, "spec.ingest.rotateAfter has no effect in this version"),
        (
            {"spec.sinks.0.retention": "1d"},
            "sink timescale: retention and compressAfter have no effect in this version",
        ),
        (
            {"spec.analytics": {}},
            f"{NO_CHECKPOINT}; its results are right all the same",
        ),
    ],
)
def test_what_is_probably_not_meant_is_said(changes: dict[str, Any], sentence: str) -> None:
    """A plan that works, but hardly as meant, carries one warning that says why."""
    assert planned(changes).warnings == (sentence,)


def test_one_machine_keeps_the_checkpoint_without_being_told() -> None:
    """Where the usual folder outlives the process, nothing warns of its loss."""
    assert planned({"spec.analytics": {}}).warnings
    assert not planned({"spec.analytics": {}}, Defaults(checkpoint_stays=True)).warnings


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"spec.kafka": {"encoding": "avro", "schemaRegistry": {"url": "http://registry"}}},
            "spec.kafka.encoding: avro is not written by this version: write json",
        ),
        (
            {"spec.ingest.redundancy": 2},
            "spec.ingest.redundancy: redundant legs are not run by this version: write 1",
        ),
        (
            {"spec.sinks.0.type": "redis"},
            "spec.sinks[0].type: redis is not filled from Kafka by this version: use timescaledb or postgresql",
        ),
        (
            {"spec.sinks.0.type": "redis", "spec.kafka.enabled": False},
            "spec.sinks[0].type: redis is not filled without Kafka by this version: use stdout",
        ),
    ],
)
def test_what_this_version_cannot_do_is_refused(changes: dict[str, Any], sentence: str) -> None:
    """Records never go elsewhere than the feed says: what cannot be done is not planned."""
    with pytest.raises(ConfigurationError) as caught:
        planned(changes)
    assert str(caught.value) == sentence


def test_a_suspended_feed_is_planned_and_marked() -> None:
    """Suspending changes nothing about a plan but the mark."""
    suspended = planned({"spec.suspend": True})
    assert suspended.suspended
    assert replace(suspended, suspended=False) == planned({})


@settings(deadline=None)  # the claim is not about time
@given(st.permutations(["BTCUSDT", "ETHUSDT", "BNBUSDT", "XRPETH"]), st.permutations(ALL_CHANNELS["spec.channels"]))
def test_plans_compare_by_value(symbols: list[str], channels: list[str]) -> None:
    """Two documents that list the same symbols and channels in another order have equal shards."""
    narrow = {"spec.ingest.streamsPerShard": 4}
    made = planned({**narrow, "spec.symbols": symbols, "spec.channels": channels})
    usual = planned({**narrow, "spec.symbols": ["BTCUSDT", "ETHUSDT", "BNBUSDT", "XRPETH"], **ALL_CHANNELS})
    assert made.shards == usual.shards
    assert planned({}) == planned({})
