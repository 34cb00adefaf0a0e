"""What the fields of a MarketFeed must hold together, one function a rule.

A rule takes the whole feed, whose fields are right one by one, and yields the problems that it finds.
A rule that an API server can check is written a second time in `cel`, which accounts for every function here.
What does not live here: what one field may hold (models, fields).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain

from marketfeed.events import Channel
from marketfeed.exchanges import venue
from marketfeed_operator.fields import Duration
from marketfeed_operator.models import MarketFeed, Sink
from marketfeed_operator.problems import Location, Problem, one_of

Rule = Callable[[MarketFeed], Iterator[Problem]]

DATABASES = ("timescaledb", "postgresql", "cockroachdb")
WITHOUT_KAFKA = ("redis", "stdout")
ANALYSED = (Channel.TRADE, Channel.AGG_TRADE, Channel.BOOK_TICKER)
"""The channels that analytics compute something from."""
MINUTE_MS = 60_000
LEAST_WINDOW_MS = 1_000
WINDOWS = "must divide a minute or be whole minutes, as in 1s, 10s, 30s, 1m or 5m"
LEAST_TRIGGER_MS = 100
MOST_IN_FLIGHT = 5  # an idempotent producer keeps its order only up to here (Kafka's documentation of the setting)


def broken(feed: MarketFeed) -> list[Problem]:
    """Return every problem that the rules find."""
    return list(chain.from_iterable(rule(feed) for rule in RULES))


def _symbols_or_discovery(feed: MarketFeed) -> Iterator[Problem]:
    if not feed.spec.symbols and feed.spec.discovery is None:
        yield Problem(("spec", "symbols"), "name at least one symbol, as in [BTCUSDT], or add spec.discovery")


def _symbols_are_distinct(feed: MarketFeed) -> Iterator[Problem]:
    yield from _repeated(feed.spec.symbols, ("spec", "symbols"))
    if feed.spec.discovery is not None:
        yield from _repeated(feed.spec.discovery.fallback, ("spec", "discovery", "fallback"))


def _channels_are_distinct(feed: MarketFeed) -> Iterator[Problem]:
    yield from _repeated(feed.spec.channels, ("spec", "channels"))


def _repeated(values: tuple[str, ...], location: Location) -> Iterator[Problem]:
    for value, times in Counter(values).items():
        if times > 1:
            yield Problem(location, f"{value} stands there {times} times; once is enough")


def _channels_are_the_venues(feed: MarketFeed) -> Iterator[Problem]:
    offered = venue(feed.spec.exchange).channels
    for channel in feed.spec.channels:
        if channel not in offered:
            sentence = f"{feed.spec.exchange} has no channel {channel}; it has {', '.join(sorted(offered))}"
            yield Problem(("spec", "channels"), sentence)


def _a_shard_fits_one_connection(feed: MarketFeed) -> Iterator[Problem]:
    allowed = venue(feed.spec.exchange).limits.streams_per_connection
    wanted = feed.spec.ingest.streams_per_shard
    if wanted > allowed:
        sentence = f"must be at most {allowed}, which is what {feed.spec.exchange} allows one connection, not {wanted}"
        yield Problem(("spec", "ingest", "streamsPerShard"), sentence)


def _shards_keep_to_the_limit(feed: MarketFeed) -> Iterator[Problem]:
    ingest = feed.spec.ingest
    if ingest.shards is not None and ingest.shards > ingest.max_shards:
        sentence = f"must be at most {ingest.max_shards}, which is spec.ingest.maxShards, not {ingest.shards}"
        yield Problem(("spec", "ingest", "shards"), sentence)


def _sasl_is_complete(feed: MarketFeed) -> Iterator[Problem]:
    security = feed.spec.kafka.security
    at: Location = ("spec", "kafka", "security")
    sasl = security.protocol.startswith("SASL_")
    if sasl and security.mechanism is None:
        yield Problem((*at, "mechanism"), f"{security.protocol} needs a mechanism, as SCRAM-SHA-512")
    if sasl and security.credentials_secret_ref is None:
        yield Problem((*at, "credentialsSecretRef"), f"{security.protocol} needs the secret with user and password")
    if not sasl and security.mechanism is not None:
        sentence = f"{security.protocol} uses no mechanism: write protocol: SASL_SSL, or leave the mechanism out"
        yield Problem((*at, "mechanism"), sentence)
    if not sasl and security.credentials_secret_ref is not None:
        sentence = f"{security.protocol} uses no password: write protocol: SASL_SSL, or leave the secret out"
        yield Problem((*at, "credentialsSecretRef"), sentence)
    if security.ca_secret_ref is not None and not security.protocol.endswith("SSL"):
        sentence = f"{security.protocol} is not encrypted: write protocol: SSL or SASL_SSL, or leave the authority out"
        yield Problem((*at, "caSecretRef"), sentence)


def _producer_keeps_order(feed: MarketFeed) -> Iterator[Problem]:
    producer = feed.spec.kafka.producer
    if producer.acks in ("all", "-1") and producer.max_in_flight > MOST_IN_FLIGHT:
        sentence = f"must be at most {MOST_IN_FLIGHT} while acks is {producer.acks}, not {producer.max_in_flight}"
        yield Problem(("spec", "kafka", "producer", "maxInFlight"), sentence)


def _encoding_has_its_registry(feed: MarketFeed) -> Iterator[Problem]:
    kafka = feed.spec.kafka
    if kafka.encoding != "json" and kafka.schema_registry is None:
        yield Problem(
            ("spec", "kafka", "schemaRegistry"), f"encoding {kafka.encoding} needs schemaRegistry: {{url: …}}"
        )


def _dead_letters_have_their_own_topic(feed: MarketFeed) -> Iterator[Problem]:
    topic = feed.spec.dead_letter_topic
    if topic in feed.spec.record_topics:
        sentence = f"{topic} holds records already: give dead letters a topic of their own"
        yield Problem(("spec", "deadLetter", "topic"), sentence)


def _sinks_have_distinct_names(feed: MarketFeed) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, sink in enumerate(feed.spec.sinks):
        first = seen.setdefault(sink.name, index)
        if first != index:
            yield Problem(("spec", "sinks", index, "name"), f"{sink.name} is taken by spec.sinks[{first}]")


def _sinks_have_distinct_groups(feed: MarketFeed) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, sink in enumerate(feed.spec.sinks):
        if sink.consumer_group is None:
            continue
        first = seen.setdefault(sink.consumer_group, index)
        if first != index:
            sentence = (
                f"{sink.consumer_group} is the group of spec.sinks[{first}]: each would get a part of the records"
            )
            yield Problem(("spec", "sinks", index, "consumerGroup"), sentence)


def _sinks_have_their_secret(feed: MarketFeed) -> Iterator[Problem]:
    for index, sink in enumerate(feed.spec.sinks):
        if sink.type != "stdout" and sink.secret_ref is None:
            sentence = f"{sink.type} needs the secret with its connection string, as {{name: {sink.name}, key: dsn}}"
            yield Problem(("spec", "sinks", index, "secretRef"), sentence)


def _sinks_fit_kafka(feed: MarketFeed) -> Iterator[Problem]:
    for index, sink in enumerate(feed.spec.sinks):
        if not feed.spec.kafka.enabled and sink.type not in WITHOUT_KAFKA:
            sentence = f"{sink.type} is filled from Kafka: set spec.kafka.enabled to true, or use redis or stdout"
            yield Problem(("spec", "sinks", index, "type"), sentence)


def _sink_options_fit_the_type(feed: MarketFeed) -> Iterator[Problem]:
    for index, sink in enumerate(feed.spec.sinks):
        for option, value, types in _options(sink):
            if value is not None and sink.type not in types:
                sentence = f"{sink.type} has no such option; it belongs to {' and '.join(types)}"
                yield Problem(("spec", "sinks", index, option), sentence)


def _options(sink: Sink) -> tuple[tuple[str, Duration | int | None, tuple[str, ...]], ...]:
    """Return (option, value, types that have it)."""
    return (
        ("retention", sink.retention, DATABASES),
        ("compressAfter", sink.compress_after, ("timescaledb",)),
        ("maxLength", sink.max_length, ("redis",)),
    )


def _rows_are_compressed_before_they_go(feed: MarketFeed) -> Iterator[Problem]:
    for index, sink in enumerate(feed.spec.sinks):
        kept, compressed = sink.retention, sink.compress_after
        if kept and compressed and compressed.milliseconds >= kept.milliseconds:
            sentence = f"{compressed} is not below retention, {kept}: nothing would ever be compressed"
            yield Problem(("spec", "sinks", index, "compressAfter"), sentence)


def _analytics_have_input_and_output(feed: MarketFeed) -> Iterator[Problem]:
    spec, analytics = feed.spec, feed.spec.analytics
    if analytics is None or not analytics.enabled:
        return
    if not spec.kafka.enabled:
        yield Problem(("spec", "analytics", "enabled"), "analytics read Kafka: set spec.kafka.enabled to true")
    if not any(channel in ANALYSED for channel in spec.channels):
        yield Problem(("spec", "channels"), f"analytics need one of {', '.join(ANALYSED)}: add it")
    databases = [sink.name for sink in spec.sinks if sink.type in DATABASES]
    if not databases:
        yield Problem(("spec", "analytics"), f"analytics need a sink of type {', '.join(DATABASES)} for their results")
    elif analytics.sink is not None and analytics.sink not in databases:
        yield Problem(("spec", "analytics", "sink"), one_of(analytics.sink, databases))
    if analytics.checkpoint.location and analytics.checkpoint.volume_claim:
        yield Problem(("spec", "analytics", "checkpoint"), "name location or volumeClaim, not both")


def _windows_fit_minutes(feed: MarketFeed) -> Iterator[Problem]:
    """Hold windows to the minutes of the ledger, which they are compared with."""
    analytics = feed.spec.analytics
    if analytics is None:
        return
    for name, window in (("tradeWindow", analytics.trade_window), ("spreadWindow", analytics.spread_window)):
        length = window.milliseconds
        if length < LEAST_WINDOW_MS or (MINUTE_MS % length and length % MINUTE_MS):
            yield Problem(("spec", "analytics", name), f"{WINDOWS}, not {window}")


def _batches_have_their_time(feed: MarketFeed) -> Iterator[Problem]:
    analytics = feed.spec.analytics
    if analytics is not None and analytics.trigger.milliseconds < LEAST_TRIGGER_MS:
        sentence = f"must be at least {LEAST_TRIGGER_MS}ms, not {analytics.trigger}"
        yield Problem(("spec", "analytics", "trigger"), sentence)


def _rotation_comes_before_the_cut(feed: MarketFeed) -> Iterator[Problem]:
    lifetime_s = venue(feed.spec.exchange).limits.connection_lifetime_s
    if feed.spec.ingest.rotate_after.seconds >= lifetime_s:
        sentence = f"must be below {lifetime_s / 3600:g}h, when {feed.spec.exchange} cuts a connection"
        yield Problem(("spec", "ingest", "rotateAfter"), f"{sentence}, not {feed.spec.ingest.rotate_after}")


RULES: tuple[Rule, ...] = (
    _symbols_or_discovery,
    _symbols_are_distinct,
    _channels_are_distinct,
    _channels_are_the_venues,
    _a_shard_fits_one_connection,
    _rotation_comes_before_the_cut,
    _shards_keep_to_the_limit,
    _sasl_is_complete,
    _producer_keeps_order,
    _encoding_has_its_registry,
    _dead_letters_have_their_own_topic,
    _sinks_have_distinct_names,
    _sinks_have_distinct_groups,
    _sinks_have_their_secret,
    _sinks_fit_kafka,
    _sink_options_fit_the_type,
    _rows_are_compressed_before_they_go,
    _analytics_have_input_and_output,
    _windows_fit_minutes,
    _batches_have_their_time,
)
