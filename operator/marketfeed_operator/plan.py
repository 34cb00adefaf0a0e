"""What a feed needs, as a value: topics, shards, consumers, analytics and connections.

Two shells read a plan, the operator and the local runner; it holds no word of either's world. Plans compare by value.
What does not live here: how a plan is shown (describe) and how it is carried out (the shells).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from marketfeed.errors import ConfigurationError
from marketfeed.events import Channel, Stream
from marketfeed.exchanges import venue
from marketfeed.settings import (
    AnalyticsSettings,
    ConsumerSettings,
    HttpSettings,
    IngestorSettings,
    KafkaSettings,
    ProducerSettings,
    Secret,
    Topic,
)
from marketfeed_operator import names, shards
from marketfeed_operator.models import Analytics, MarketFeed, Sink, Spec
from marketfeed_operator.rules import DATABASES
from marketfeed_operator.support import ignored, refused


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What an installation decides where a feed says nothing."""

    bootstrap_servers: str = "kafka-kafka-bootstrap.kafka:9092"
    streams_file: str = "/etc/marketfeed/streams/streams.json"
    ca_file: str = "/etc/marketfeed/kafka-ca/ca.crt"
    thresholds_file: str = "/etc/marketfeed/thresholds/thresholds.json"
    checkpoint: str = "/var/lib/marketfeed/checkpoint"
    checkpoint_stays: bool = False
    """That folder outlives the process, as on one machine."""
    ingestor_port: int = 8081
    consumer_port: int = 8082
    analytics_port: int = 8083


_DEFAULTS = Defaults()
_LEAST_PARTS = 2  # of the streaming job's state: so many more executors can share it later


@dataclass(frozen=True, slots=True)
class SecretVariable:
    """A variable that a process must find set from a secret; the plan itself holds no secret value."""

    variable: str
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file that a process must find filled from a secret."""

    path: str
    name: str
    key: str


SecretUse = SecretVariable | SecretFile


@dataclass(frozen=True, slots=True)
class Shard:
    """One ingestor and the streams that it holds."""

    name: str
    streams: tuple[Stream, ...]
    settings: IngestorSettings
    secrets: tuple[SecretUse, ...]

    @property
    def holding(self) -> frozenset[str]:
        """Return the streams as they are written, as BTCUSDT@trade."""
        return frozenset(map(str, self.streams))


@dataclass(frozen=True, slots=True)
class Consumer:
    """The processes that fill one sink; `replicas` of them share the topics' partitions."""

    name: str
    sink: str
    type: str
    replicas: int
    settings: ConsumerSettings
    secrets: tuple[SecretUse, ...]


@dataclass(frozen=True, slots=True)
class AnalyticsJob:
    """The streaming job: what it is told, when it flags, and how many share its work."""

    name: str
    settings: AnalyticsSettings
    volatility: float  # standard deviation of a window's prices, as a share of their volume-weighted mean
    volume_spike: float  # multiple of the symbol's own five windows before
    spread: float  # average spread as a multiple of the window's least
    executors: int
    secrets: tuple[SecretUse, ...]


@dataclass(frozen=True, slots=True)
class Connections:
    """Websocket connections that the feed holds, beside what its venue allows."""

    needed: int
    streams: int
    streams_per_connection: int  # that the venue allows
    attempts: int  # that the venue allows one egress address per `window_s`
    window_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one feed needs."""

    feed: str
    exchange: str
    suspended: bool
    topics: tuple[Topic, ...]
    shards: tuple[Shard, ...]
    consumers: tuple[Consumer, ...]
    analytics: AnalyticsJob | None
    connections: Connections
    warnings: tuple[str, ...]

    @property
    def holdings(self) -> dict[str, frozenset[str]]:
        """Return what every shard holds once no stream moves any more, by the shards' names."""
        return {shard.name: shard.holding for shard in self.shards}

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Return the names of the secrets that the feed's processes read, each once."""
        read = [shard.secrets for shard in self.shards] + [consumer.secrets for consumer in self.consumers]
        read += [self.analytics.secrets] if self.analytics is not None else []
        return tuple(dict.fromkeys(use.name for uses in read for use in uses))


def plan(feed: MarketFeed, defaults: Defaults = _DEFAULTS) -> Plan:
    """Return what the feed needs.

    Raises ConfigurationError when it needs more than it allows itself, or what this version cannot do.
    """
    problems = refused(feed)
    if problems:
        raise ConfigurationError("; ".join(map(str, problems)))
    symbols, notes = _symbols(feed.spec)
    streams = [Stream(symbol, channel) for symbol in symbols for channel in feed.spec.channels]
    ingest = feed.spec.ingest
    placement = shards.place(streams, ingest.streams_per_shard, ingest.max_shards, ingest.shards)
    empty = sum(not held for held in placement)
    connections = _connections(feed.spec, len(placement) - empty, len(streams))
    notes += [f"{empty} of {len(placement)} shards hold no stream: lower spec.ingest.shards"] if empty else []
    return Plan(
        feed=feed.metadata.name,
        exchange=feed.spec.exchange,
        suspended=feed.spec.suspend,
        topics=_topics(feed.spec),
        shards=tuple(_shard(feed, index, held, defaults) for index, held in enumerate(placement)),
        consumers=tuple(_consumer(feed, sink, defaults) for sink in feed.spec.sinks if feed.spec.kafka.enabled),
        analytics=_analytics(feed, defaults),
        connections=connections,
        warnings=(
            *notes,
            *_warnings(feed.spec, connections, defaults),
            *ignored(feed),
        ),
    )


def _symbols(spec: Spec) -> tuple[tuple[str, ...], list[str]]:
    """Return the symbols to record and what must be said about how they were found."""
    if spec.discovery is None:
        return spec.symbols, []
    if spec.symbols:
        return spec.symbols, ["spec.discovery is not asked: only the symbols of spec.symbols are recorded"]
    if not spec.discovery.fallback:
        raise ConfigurationError(
            "spec.discovery is not asked by this version, and its fallback is empty: "
            "list symbols in spec.symbols or spec.discovery.fallback"
        )
    return spec.discovery.fallback, ["spec.discovery is not asked: the symbols of its fallback are recorded"]


def _connections(spec: Spec, needed: int, streams: int) -> Connections:
    limits = venue(spec.exchange).limits
    return Connections(
        needed=needed,
        streams=streams,
        streams_per_connection=limits.streams_per_connection,
        attempts=limits.connection_attempts,
        window_s=limits.connection_window_s,
    )


def _topics(spec: Spec) -> tuple[Topic, ...]:
    """Return the topics to be; dead letters get as many partitions, as tools that keep partition numbers expect."""
    if not spec.kafka.enabled:
        return ()
    wanted = spec.kafka.topics
    kept = dict.fromkeys(spec.record_topics, wanted.retention)
    kept[spec.dead_letter_topic] = spec.dead_letter.retention
    return tuple(
        Topic(name, wanted.partitions, wanted.replicas, retention.milliseconds) for name, retention in kept.items()
    )


def _shard(feed: MarketFeed, index: int, held: tuple[Stream, ...], defaults: Defaults) -> Shard:
    spec, name = feed.spec, names.shard(feed.metadata.name, index)
    home = venue(spec.exchange)
    settings = IngestorSettings(
        feed=feed.metadata.name,
        shard=name,
        exchange=spec.exchange,
        websocket_url=spec.endpoints.websocket or home.websocket_url,
        rest_urls=spec.endpoints.rest or home.rest_urls,
        streams_file=defaults.streams_file,
        topics={str(channel): spec.topic(channel) for channel in spec.channels},
        key=spec.kafka.key,
        dead_letter_topic=spec.dead_letter_topic,
        publisher=_publisher(spec),
        kafka=_kafka(spec, defaults) if spec.kafka.enabled else None,
        producer=_producer(spec),
        http=HttpSettings(port=defaults.ingestor_port),
    )
    return Shard(name, held, settings, _kafka_secrets(spec, defaults) if spec.kafka.enabled else ())


def _publisher(spec: Spec) -> Literal["kafka", "stdout", "null"]:
    if spec.kafka.enabled:
        return "kafka"
    return "stdout" if any(sink.type == "stdout" for sink in spec.sinks) else "null"


def _kafka(spec: Spec, defaults: Defaults) -> KafkaSettings:
    """Return how to reach the brokers, without user and password, which only a shell can fetch."""
    security = spec.kafka.security
    return KafkaSettings(
        bootstrap_servers=spec.kafka.bootstrap_servers or defaults.bootstrap_servers,
        security_protocol=security.protocol,
        sasl_mechanism=security.mechanism,
        ca_file=defaults.ca_file if security.ca_secret_ref else None,
    )


def _kafka_secrets(spec: Spec, defaults: Defaults) -> tuple[SecretUse, ...]:
    security = spec.kafka.security
    found: list[SecretUse] = []
    if (credentials := security.credentials_secret_ref) is not None:
        user, password = KafkaSettings.variable("sasl_username"), KafkaSettings.variable("sasl_password")
        found.append(SecretVariable(user, credentials.name, credentials.username_key))
        found.append(SecretVariable(password, credentials.name, credentials.password_key))
    if (authority := security.ca_secret_ref) is not None:
        found.append(SecretFile(defaults.ca_file, authority.name, authority.key))
    return tuple(found)


def _producer(spec: Spec) -> ProducerSettings:
    wanted = spec.kafka.producer
    return ProducerSettings(
        acks=wanted.acks,
        compression=wanted.compression,
        linger_ms=wanted.linger_ms,
        batch_bytes=wanted.batch_bytes,
        max_in_flight=wanted.max_in_flight,
        retries=wanted.retries,
        queue_bytes=wanted.queue_bytes,
        headers=wanted.headers,
    )


def _consumer(feed: MarketFeed, sink: Sink, defaults: Defaults) -> Consumer:
    spec, name = feed.spec, feed.metadata.name
    settings = ConsumerSettings(
        feed=name,
        sink=sink.name,
        sink_type=cast("Literal['timescaledb', 'postgresql']", sink.type),  # `refused` let no other type through
        topics=spec.record_topics,
        group=sink.consumer_group or names.consumer_group(name, sink.name),
        dsn=Secret(),
        dead_letter_topic=spec.dead_letter_topic,
        auto_offset_reset=sink.auto_offset_reset,
        batch_rows=sink.batch.rows,
        batch_max_delay_ms=sink.batch.max_delay.milliseconds,
        kafka=_kafka(spec, defaults),
        http=HttpSettings(port=defaults.consumer_port),
    )
    secrets = (*_kafka_secrets(spec, defaults), *_dsn(sink))
    return Consumer(names.consumer(name, sink.name), sink.name, sink.type, sink.replicas, settings, secrets)


def _dsn(sink: Sink) -> tuple[SecretUse, ...]:
    if sink.secret_ref is None:
        return ()
    return (SecretVariable(ConsumerSettings.variable("dsn"), sink.secret_ref.name, sink.secret_ref.key),)


def _analytics(feed: MarketFeed, defaults: Defaults) -> AnalyticsJob | None:
    spec, wanted = feed.spec, feed.spec.analytics
    if wanted is None or not wanted.enabled:
        return None
    sink = next(sink for sink in spec.sinks if sink.type in DATABASES and wanted.sink in (None, sink.name))
    return AnalyticsJob(
        name=names.analytics(feed.metadata.name),
        settings=_analytics_settings(feed, wanted, sink, defaults),
        volatility=wanted.alerts.volatility,
        volume_spike=wanted.alerts.volume_spike,
        spread=wanted.alerts.spread,
        executors=wanted.executor.instances,
        secrets=(*_kafka_secrets(spec, defaults), *_dsn(sink)),
    )


def _analytics_settings(feed: MarketFeed, wanted: Analytics, sink: Sink, defaults: Defaults) -> AnalyticsSettings:
    spec, trades = feed.spec, _trade_channel(feed.spec)
    return AnalyticsSettings(
        feed=feed.metadata.name,
        exchange=spec.exchange,
        sink=sink.name,
        dsn=Secret(),
        trade_channel=trades,
        trade_topic=_topic(spec, Channel(trades)),
        quote_topic=_topic(spec, Channel.BOOK_TICKER),
        trade_window_ms=wanted.trade_window.milliseconds,
        spread_window_ms=wanted.spread_window.milliseconds,
        watermark_ms=wanted.watermark.milliseconds,
        trigger_ms=wanted.trigger.milliseconds,
        thresholds_file=defaults.thresholds_file,
        checkpoint=wanted.checkpoint.location or defaults.checkpoint,
        shuffle_partitions=max(_LEAST_PARTS, wanted.executor.instances * wanted.executor.cores),
        kafka=_kafka(spec, defaults),
        http=HttpSettings(port=defaults.analytics_port),
    )


def _trade_channel(spec: Spec) -> Literal["trade", "aggTrade"]:
    """Return whose records are counted: single prints where the feed has them, since both tell of the same trades."""
    return "aggTrade" if Channel.AGG_TRADE in spec.channels and Channel.TRADE not in spec.channels else "trade"


def _topic(spec: Spec, channel: Channel) -> str | None:
    """Return a channel's topic; None where the feed does not record it."""
    return spec.topic(channel) if channel in spec.channels else None


def _warnings(spec: Spec, connections: Connections, defaults: Defaults) -> list[str]:
    """Return what works and is probably not meant."""
    found: list[str] = []
    if 2 * connections.needed > connections.attempts:
        found.append(
            f"{connections.needed} connections, each replaced by a second one when it is rotated, come above the "
            f"{connections.attempts} that {spec.exchange} allows one address per {connections.window_s:g} s"
        )
    if not spec.sinks:
        found.append(
            "spec.sinks is empty: records are kept in Kafka alone"
            if spec.kafka.enabled
            else "records go nowhere: spec.kafka.enabled is false and spec.sinks is empty"
        )
    found.extend(
        f"sink {sink.name}: {sink.replicas} replicas share {spec.kafka.topics.partitions} partitions; the rest is idle"
        for sink in spec.sinks
        if spec.kafka.enabled and sink.replicas > spec.kafka.topics.partitions
    )
    found.extend(_checkpoint_warnings(spec, defaults))
    return found


def _checkpoint_warnings(spec: Spec, defaults: Defaults) -> list[str]:
    job = spec.analytics
    if job is None or not job.enabled or job.checkpoint.location or job.checkpoint.volume_claim:
        return []
    if defaults.checkpoint_stays:
        return []
    sentence = "spec.analytics.checkpoint is not set: in a cluster a new driver reads the topics from their beginning"
    return [f"{sentence}; its results are right all the same"]
