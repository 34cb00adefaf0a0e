"""What a run is asked to do, in the runner's own words: a plan fills it in; how plans are made is not known here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from marketfeed.analytics.thresholds import Thresholds
from marketfeed.settings import (
    AnalyticsSettings,
    ConsumerSettings,
    HttpSettings,
    IngestorSettings,
    KafkaSettings,
    Secret,
    Topic,
)

HTTP = HttpSettings(host="127.0.0.1", port=0)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """An ingestor: its streams (`SYMBOL@channel`) and its settings, without this machine's addresses."""

    name: str
    streams: frozenset[str]
    settings: IngestorSettings


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """A consumer and its settings, without this machine's addresses."""

    name: str
    settings: ConsumerSettings


@dataclass(frozen=True, kw_only=True)
class Analytics:
    """The streaming job, its settings without this machine's addresses, and what its flags are judged by."""

    name: str
    settings: AnalyticsSettings
    thresholds: Thresholds


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Everything that a feed needs on this machine; without `kafka` there are no topics, consumers and analytics."""

    feed: str
    kafka: bool
    topics: tuple[Topic, ...]
    shards: tuple[Shard, ...]
    consumers: tuple[Consumer, ...]
    analytics: Analytics | None = None

    @property
    def streams(self) -> frozenset[str]:
        """All streams of all shards."""
        return frozenset().union(*(shard.streams for shard in self.shards))

    @property
    def symbols(self) -> list[str]:
        """The symbols of these streams, sorted."""
        return sorted({stream.partition("@")[0] for stream in self.streams})


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where this machine's servers answer; None is what the run does not have or leaves as planned."""

    kafka: str | None = None
    dsn: Secret | None = None
    websocket: str | None = None
    rest: str | None = None


def shard_settings(shard: Shard, addresses: Addresses, streams_file: Path) -> IngestorSettings:
    """Return the shard's settings for this machine."""
    settings = replace(shard.settings, streams_file=str(streams_file), http=HTTP)
    if addresses.websocket is not None and addresses.rest is not None:
        settings = replace(settings, websocket_url=addresses.websocket, rest_urls=(addresses.rest,))
    if addresses.kafka is not None:
        settings = replace(settings, kafka=KafkaSettings(bootstrap_servers=addresses.kafka))
    return settings


def consumer_settings(consumer: Consumer, addresses: Addresses) -> ConsumerSettings:
    """Return the consumer's settings for this machine; a new group reads from the start, as the topics are ours."""
    if addresses.kafka is None or addresses.dsn is None:
        raise ValueError("a consumer needs a broker and a database")
    return replace(
        consumer.settings,
        kafka=KafkaSettings(bootstrap_servers=addresses.kafka),
        dsn=addresses.dsn,
        auto_offset_reset="earliest",
        http=HTTP,
    )


def analytics_settings(analytics: Analytics, addresses: Addresses, folder: Path) -> AnalyticsSettings:
    """Return the job's settings for this machine, with its progress and its thresholds in `folder`."""
    if addresses.kafka is None or addresses.dsn is None:
        raise ValueError("analytics need a broker and a database")
    return replace(
        analytics.settings,
        kafka=KafkaSettings(bootstrap_servers=addresses.kafka),
        dsn=addresses.dsn,
        thresholds_file=str(folder / "thresholds.json"),
        checkpoint=str(folder / "checkpoint"),
        http=HTTP,
    )


def single_broker(topic: Topic) -> Topic:
    """Return the topic as one broker can hold it."""
    return replace(topic, replicas=1)
