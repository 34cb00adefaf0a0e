"""What a MarketFeed may say: every field with its description, its default and the values that it takes.

The schema of the custom resource is generated from these models; they use only what a structural schema can express.
What does not live here: rules over several fields (rules), reading documents and wording what is wrong (spec).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic.config import JsonDict

from marketfeed.events import Channel
from marketfeed.settings import KeyStyle
from marketfeed_operator.fields import (
    Brokers,
    Cores,
    CredentialsReference,
    Duration,
    Exchange,
    FreeForm,
    GroupName,
    Header,
    HttpUrl,
    Memory,
    Name,
    SecretReference,
    Section,
    Symbol,
    TopicName,
    WebsocketUrl,
)

API_VERSION = "marketfeed.dev/v1alpha1"
KIND = "MarketFeed"

_DISTINCT: JsonDict = {"x-kubernetes-list-type": "set"}
"""Schema of a list in which an API server lets nothing stand twice."""
_BY_NAME: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
"""Schema of a list in which an API server lets no name stand twice."""

USUAL_TOPICS = {
    Channel.TRADE: "trades",
    Channel.AGG_TRADE: "trades",
    Channel.BOOK_TICKER: "book_ticker",
    Channel.DEPTH: "book_depth",
}
"""The topic of each channel where a feed names none, after the venue's name and a dot."""
USUAL_DEAD_LETTERS = "dlq"
"""The topic of dead letters where a feed names none, after the venue's name and a dot."""


class Endpoints(Section):
    """Where the venue answers, if not at its public addresses: another host, a proxy, the simulator."""

    websocket: WebsocketUrl | None = None
    """Base URL of the websocket; the venue's own by default."""
    rest: tuple[HttpUrl, ...] = Field(default=(), max_length=16)
    """Base URLs of the REST API, tried in order; the venue's own by default."""


class Discovery(Section):
    """Symbols found by rank of traded volume, beside or in place of a list."""

    provider: Literal["coingecko"] = "coingecko"
    """Who ranks the symbols."""
    quote: Symbol = "USDT"
    """Asset that the symbols are quoted in."""
    top: int = Field(default=200, ge=1, le=2000)
    """How many symbols to take, counted from the highest volume."""
    refresh: Duration = Duration("1h")
    """Time between two look-ups."""
    fallback: tuple[Symbol, ...] = Field(default=(), max_length=2000, json_schema_extra=_DISTINCT)
    """Symbols to use while the provider has never answered."""
    api_key_secret_ref: SecretReference | None = None
    """The provider's API key; without one the provider's keyless limits apply."""


class Ingest(Section):
    """How streams are spread over shards, and how a shard runs."""

    streams_per_shard: int = Field(default=50, ge=1)
    """Most streams that one shard holds; bounded by what the venue allows on one connection."""
    shards: int | None = Field(default=None, ge=1, le=1000)
    """Number of shards; by default the fewest that hold all streams. `kubectl scale` sets it, and an autoscaler too."""
    max_shards: int = Field(default=20, ge=1, le=1000)
    """Most shards that this feed may use."""
    redundancy: int = Field(default=1, ge=1, le=3)
    """How many ingestors hold each stream at once; the first arrival wins."""
    rotate_after: Duration = Duration("23h")
    """Age at which a connection is replaced by a new one, before the venue cuts it."""
    validate_on_start: bool = True
    """Check venue, topics and database before ingesting."""
    resources: FreeForm = Field(default_factory=dict)
    """Requests and limits of each ingestor's container, as Kubernetes writes them."""
    pod_template: FreeForm = Field(default_factory=dict)
    """Overlay on each ingestor's pod template, as Kubernetes writes it."""


class SchemaRegistry(Section):
    """Where Avro and Protobuf schemas are kept."""

    url: HttpUrl
    """Base URL of the registry."""
    secret_ref: CredentialsReference | None = None
    """User and password of the registry, where it asks for them."""


class TopicNames(Section):
    """The topic of each channel. Channels may share a topic."""

    trade: TopicName | None = None
    """Topic of single prints; `<exchange>.trades` by default."""
    agg_trade: TopicName | None = None
    """Topic of aggregated prints; `<exchange>.trades` by default."""
    book_ticker: TopicName | None = None
    """Topic of best bids and asks; `<exchange>.book_ticker` by default."""
    depth: TopicName | None = None
    """Topic of order-book changes; `<exchange>.book_depth` by default."""


class Topics(Section):
    """The topics that records go to, and who creates them."""

    provisioner: Literal["strimzi", "direct"] = "strimzi"
    """`strimzi` writes KafkaTopic resources, `direct` asks the brokers."""
    cluster: Name = "kafka"
    """Name of Strimzi's Kafka cluster."""
    namespace: Name = "kafka"
    """Namespace that Strimzi's topic operator watches."""
    partitions: int = Field(default=3, ge=1, le=10_000)
    """Partitions of each topic. More can be asked for later, fewer cannot."""
    replicas: int = Field(default=3, ge=1, le=32_767)
    """Copies of each partition; at most the number of brokers."""
    retention: Duration = Duration("7d")
    """How long records are kept in Kafka."""
    names: TopicNames = TopicNames()
    """The topic of each channel."""


class Producer(Section):
    """How records are produced. The producer is idempotent while `acks` is `all`."""

    acks: Literal["all", "-1", "1", "0"] = "all"
    """Replicas that must confirm a record."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    """Compression of batches."""
    linger_ms: int = Field(default=20, ge=0, le=900_000)
    """Longest wait for a batch to fill, ms."""
    batch_bytes: int = Field(default=262_144, ge=1)
    """Largest batch, bytes."""
    max_in_flight: int = Field(default=5, ge=1)
    """Requests under way per broker; at most 5 while `acks` is `all`."""
    retries: int = Field(default=2_147_483_647, ge=0, le=2_147_483_647)
    """Retries of a failed request."""
    queue_bytes: int = Field(default=33_554_432, ge=1024)
    """Bound on records that are not sent yet, bytes."""
    headers: tuple[Header, ...] = Field(default=(), max_length=64)
    """Headers of every record, each as name=value."""


class Security(Section):
    """How connections to the brokers are secured."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Protocol of the listener."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """SASL mechanism; needed by the SASL protocols."""
    credentials_secret_ref: CredentialsReference | None = None
    """SASL user and password; needed by the SASL protocols."""
    ca_secret_ref: SecretReference | None = None
    """Certificate authority of the brokers, PEM; the system's authorities by default."""


class Kafka(Section):
    """The brokers, the topics and how records are written."""

    enabled: bool = True
    """False leaves Kafka out: the ingestor feeds redis or stdout sinks itself."""
    bootstrap_servers: Brokers | None = None
    """Brokers to start from; the installation's own by default."""
    encoding: Literal["json", "avro", "protobuf"] = "json"
    """Encoding of records; avro and protobuf need a schema registry."""
    schema_registry: SchemaRegistry | None = None
    """The schema registry."""
    topics: Topics = Topics()
    """The topics."""
    key: KeyStyle = KeyStyle.SYMBOL
    """Key of each record: `symbol`, or `exchange|symbol` where venues share a topic."""
    producer: Producer = Producer()
    """The producer."""
    security: Security = Security()
    """How connections are secured."""


class Batch(Section):
    """When a consumer writes: at so many rows or after so long, whichever comes first."""

    rows: int = Field(default=500, ge=1, le=100_000)
    """Most rows in one transaction."""
    max_delay: Duration = Duration("2s")
    """Longest wait of a row."""


class Sink(Section):
    """One place that records are stored in."""

    name: Name
    """Name of the sink, unique in the feed."""
    type: Literal["timescaledb", "postgresql", "cockroachdb", "redis", "stdout"]
    """Kind of sink."""
    secret_ref: SecretReference | None = None
    """Connection string, as postgresql://user:password@host:5432/marketfeed; needed by all but stdout."""
    replicas: int = Field(default=1, ge=1, le=1000)
    """Consumers that share the work; more than there are partitions stay idle."""
    batch: Batch = Batch()
    """When a consumer writes."""
    consumer_group: GroupName | None = None
    """Kafka consumer group; `<feed>-<sink>` by default."""
    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    """Where a new group starts."""
    retention: Duration | None = None
    """How long rows are kept; for ever by default. Databases only."""
    compress_after: Duration | None = None
    """Age at which rows are compressed; never by default. TimescaleDB only."""
    max_length: int | None = Field(default=None, ge=1)
    """Length that each stream is trimmed to, about 10000 by default. Redis only."""
    resources: FreeForm = Field(default_factory=dict)
    """Requests and limits of each consumer's container, as Kubernetes writes them."""
    pod_template: FreeForm = Field(default_factory=dict)
    """Overlay on each consumer's pod template, as Kubernetes writes it."""


class DeadLetter(Section):
    """Where records go that cannot be decoded or stored, with their bytes untouched."""

    topic: TopicName | None = None
    """Name of the topic; `<exchange>.dlq` by default."""
    retention: Duration = Duration("30d")
    """How long they are kept."""


class Alerts(Section):
    """Thresholds of the flags that the analytics set."""

    volatility: float = Field(default=0.005, gt=0)
    """Standard deviation of a window's prices, as a share of their volume-weighted mean."""
    volume_spike: float = Field(default=3.0, gt=0)
    """Volume of a window, as a multiple of the mean of the symbol's own five windows before."""
    spread: float = Field(default=3.0, gt=0)
    """Average spread of a window, as a multiple of its least."""


class Checkpoint(Section):
    """Where the streaming job keeps its progress. With neither, a new driver reads the topics from their beginning."""

    location: str | None = Field(default=None, max_length=1024)
    """URL of a directory in an object store, as in s3a://bucket/path; the image must hold what reaches it."""
    volume_claim: Name | None = None
    """Name of a persistent volume claim that driver and executors can mount at once."""


class Role(Section):
    """What the driver, or each executor, of the streaming job gets."""

    cores: int = Field(default=1, ge=1)
    """Tasks that run at once, and processor cores that are asked for where coreRequest is not set."""
    core_request: Cores | None = None
    """Processor cores that the pod asks for, as in 200m."""
    memory: Memory = "1g"
    """Heap, as Spark writes it."""
    instances: int = Field(default=1, ge=1)
    """How many; the driver is always one."""
    pod_template: FreeForm = Field(default_factory=dict)
    """Overlay on the pod template, as Kubernetes writes it."""


class Analytics(Section):
    """The streaming job that computes metrics and flags. Leave the section out to run none."""

    enabled: bool = True
    """False keeps the section and runs no job."""
    sink: Name | None = None
    """Database sink that takes the results; the feed's first by default."""
    trade_window: Duration = Duration("1m")
    """Length of the windows of trade_metrics: a part of a minute, or whole minutes."""
    spread_window: Duration = Duration("30s")
    """Length of the windows of spread_metrics: a part of a minute, or whole minutes."""
    watermark: Duration = Duration("10s")
    """How late a record may be."""
    trigger: Duration = Duration("10s")
    """Time between two batches."""
    alerts: Alerts = Alerts()
    """Thresholds of the flags."""
    checkpoint: Checkpoint = Checkpoint()
    """Where progress is kept."""
    driver: Role = Role()
    """The job's driver."""
    executor: Role = Role()
    """The job's executors."""


class Spec(Section):
    """Which venue, which symbols, which channels, and where it all goes."""

    exchange: Exchange
    """The venue, as binance."""
    endpoints: Endpoints = Endpoints()
    """Where the venue answers, if not at its public addresses."""
    symbols: tuple[Symbol, ...] = Field(default=(), max_length=5000, json_schema_extra=_DISTINCT)
    """Symbols to record, by the venue's own upper-case names."""
    discovery: Discovery | None = None
    """Symbols found by traded volume, beside or in place of the list."""
    channels: tuple[Channel, ...] = Field(min_length=1, json_schema_extra=_DISTINCT)
    """What to record of each symbol."""
    ingest: Ingest = Ingest()
    """How streams are spread over shards."""
    kafka: Kafka = Kafka()
    """The brokers and topics."""
    sinks: tuple[Sink, ...] = Field(default=(), max_length=64, json_schema_extra=_BY_NAME)
    """Where records are stored."""
    dead_letter: DeadLetter = DeadLetter()
    """Where records go that cannot be decoded or stored."""
    analytics: Analytics | None = None
    """The streaming job that computes metrics and flags."""
    deletion_policy: Literal["Retain", "Delete"] = "Retain"
    """What becomes of topics and their data when the feed is deleted."""
    suspend: bool = False
    """True stops ingestors, consumers and analytics and keeps everything else."""

    def topic(self, channel: Channel) -> str:
        """Return the topic that a channel's records go to."""
        names = self.kafka.topics.names
        chosen = {
            Channel.TRADE: names.trade,
            Channel.AGG_TRADE: names.agg_trade,
            Channel.BOOK_TICKER: names.book_ticker,
            Channel.DEPTH: names.depth,
        }[channel]
        return chosen or f"{self.exchange}.{USUAL_TOPICS[channel]}"

    @property
    def record_topics(self) -> tuple[str, ...]:
        """Return the topics that records go to, each once, in the order of the channels."""
        return tuple(dict.fromkeys(self.topic(channel) for channel in self.channels))

    @property
    def dead_letter_topic(self) -> str:
        """Return the topic that dead letters go to."""
        return self.dead_letter.topic or f"{self.exchange}.{USUAL_DEAD_LETTERS}"


_SERVER_FIELDS = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
    }
)


class Metadata(Section):
    """The feed's name and labels. What only an API server writes is left aside."""

    name: Name
    """Name of the feed."""
    namespace: Name | None = None
    """Namespace of the feed."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels, for people and selectors."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations."""
    uid: str | None = None
    """Identity that the API server gave."""
    generation: int | None = None
    """How often the API server saw the spec change."""

    @model_validator(mode="before")
    @classmethod
    def _leave_server_fields_aside(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if name not in _SERVER_FIELDS}


class MarketFeed(Section):
    """One feed: market data of one venue, recorded completely."""

    api_version: Literal["marketfeed.dev/v1alpha1"]
    """Version of this schema."""
    kind: Literal["MarketFeed"]
    """Kind of resource."""
    metadata: Metadata
    """The feed's name and labels."""
    spec: Spec
    """What is wanted."""
    status: FreeForm = Field(default_factory=dict)
    """What was observed; written by the operator."""
