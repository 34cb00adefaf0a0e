"""Every service's settings: frozen dataclasses, read with `from_env()` and written with `to_env()`.

The operator and the local runner render `to_env()` for the processes that they start; no variable's name is written
twice. Secrets are read from a variable or from a file that a second variable names, and are never written out.
What does not live here: reading the process's environment (the shells pass it in) and what a setting does.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any, Literal, Self

from marketfeed.errors import ConfigurationError


class Secret(str):
    """Text that must not be shown: `repr` hides it, so that a logged settings object gives nothing away."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def setting(env: str, help_: str, *, default: Any = dataclasses.MISSING, minimum: float | None = None) -> Any:
    """Declare one setting: its variable, what it means, its default, and its least value where it is a number."""
    return field(default=default, metadata={"env": env, "help": help_, "minimum": minimum})


ReadFile = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings: knows how to travel through an environment."""

    @classmethod
    def from_env(cls, env: Mapping[str, str], read_file: ReadFile) -> Self:
        """Read every field from `env`; `read_file(path)` fetches the secrets that `NAME_FILE` variables point to.

        Raises ConfigurationError naming each variable that is missing or wrong, and what would be right.
        """
        problems: list[str] = []
        values: dict[str, Any] = {}
        hints = _hints(cls)
        for item in fields(cls):
            kind = hints[item.name]
            nested = _nested(kind)
            if nested is not None:
                if item.default is None and not any(name in env for name in nested.variables()):
                    continue
                try:
                    values[item.name] = nested.from_env(_with_defaults(item, env), read_file)
                except ConfigurationError as error:
                    problems.append(str(error))
                continue
            try:
                text = _lookup(item.metadata["env"], kind, env, read_file)
                if text is None:
                    if item.default is dataclasses.MISSING:
                        problems.append(f"{item.metadata['env']} is not set: {item.metadata['help']}")
                    continue
                values[item.name] = _parse(text, kind, item.metadata["minimum"])
            except (ValueError, OSError) as error:
                problems.append(f"{item.metadata['env']}: {error}")
        if problems:
            raise ConfigurationError("; ".join(problems))
        return cls(**values)

    def to_env(self) -> dict[str, str]:
        """Return the variables that `from_env` reads back as this object; secrets and unset values are left out."""
        env: dict[str, str] = {}
        hints = _hints(type(self))
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Settings):
                env.update(value.to_env())
            elif value is not None and not _is_secret(hints[item.name]):
                env[item.metadata["env"]] = _render(value)
        return env

    @classmethod
    def variables(cls) -> tuple[str, ...]:
        """Return every variable that this class reads, nested ones included."""
        found: list[str] = []
        hints = _hints(cls)
        for item in fields(cls):
            nested = _nested(hints[item.name])
            found.extend(nested.variables() if nested is not None else (item.metadata["env"],))
        return tuple(found)

    @classmethod
    def describe(cls, defaults: Settings | None = None) -> Iterator[tuple[str, str]]:
        """Yield every variable with what it means, what it may be and its default, nested ones included.

        defaults: an instance whose values stand for the fields' own defaults, as a service's own port does.
        """
        hints = _hints(cls)
        for item in fields(cls):
            nested = _nested(hints[item.name])
            if nested is None:
                default = item.default if defaults is None else getattr(defaults, item.name)
                yield item.metadata["env"], _described(item.metadata["help"], hints[item.name], default)
            else:
                yield from nested.describe(
                    None if item.default_factory is dataclasses.MISSING else item.default_factory()
                )

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the variable that the field `name` is read from, for whoever must set a secret."""
        return str(cls.__dataclass_fields__[name].metadata["env"])

    @classmethod
    @contextmanager
    def naming(cls, name: str) -> Iterator[None]:
        """Let a ConfigurationError from within the block begin with the variable of the field `name`."""
        try:
            yield
        except ConfigurationError as error:
            raise ConfigurationError(f"{cls.variable(name)}: {error}") from None


def _with_defaults(item: dataclasses.Field[Any], env: Mapping[str, str]) -> Mapping[str, str]:
    """Return `env` with the defaults that a service chose for its nested settings, as its own port."""
    if item.default_factory is dataclasses.MISSING:
        return env
    defaults: dict[str, str] = item.default_factory().to_env()
    return defaults | {name: text for name, text in env.items() if text}


def _hints(cls: type) -> Mapping[str, Any]:
    return _compiled_hints(cls)


@functools.cache  # annotations are text that is compiled anew each time
def _compiled_hints(cls: type) -> Mapping[str, Any]:
    return typing.get_type_hints(cls)


def _nested(kind: Any) -> type[Settings] | None:
    """Return the settings class of a nested field, optional or not; None for a plain value."""
    for part in (kind, *typing.get_args(kind)):
        if isinstance(part, type) and is_dataclass(part) and issubclass(part, Settings):
            return part
    return None


def _is_secret(kind: Any) -> bool:
    return kind is Secret or Secret in typing.get_args(kind)


def _described(help_: str, kind: Any, default: Any) -> str:
    """Return what a person must know of one variable."""
    parts = [help_]
    if typing.get_origin(kind) is Literal:
        parts.append(f": {', '.join(typing.get_args(kind))}")
    if _is_secret(kind):
        parts.append("; a variable with _FILE at its end names a file instead")
    if default is dataclasses.MISSING:
        parts.append("  [required]")
    elif default not in (None, ()):
        parts.append(f"  [default: {_render(default)}]")
    return "".join(parts)


def _lookup(name: str, kind: Any, env: Mapping[str, str], read_file: ReadFile) -> str | None:
    if _is_secret(kind) and env.get(f"{name}_FILE"):
        return read_file(env[f"{name}_FILE"]).strip()
    return env.get(name) or None  # an empty variable is an unset one, as in every shell script


def _parse(text: str, kind: Any, minimum: float | None) -> Any:  # noqa: PLR0911 - one return per kind
    """Turn a variable's text into a value of `kind`; raises ValueError with what would be right."""
    origin: Any = typing.get_origin(kind) or kind
    if origin in (typing.Union, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
        return _parse(text, kind, minimum)
    match origin:
        case typing.Literal:
            return _parse_choice(text, typing.get_args(kind))
        case builtins.tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        case builtins.dict:
            return _parse_mapping(text)
        case builtins.bool:
            return _parse_choice(text.lower(), ("true", "false")) == "true"
        case builtins.int | builtins.float:
            return _parse_number(text, kind, minimum)
    return kind(text)


def _parse_choice(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(f"{text!r} is not one of {', '.join(choices)}")
    return text


def _parse_mapping(text: str) -> dict[str, str]:
    value = json.loads(text)
    if not isinstance(value, dict) or not all(isinstance(part, str) for part in value.values()):
        raise ValueError(f'{text!r} is not a JSON object of texts, such as {{"trade": "binance.trades"}}')
    return value


def _parse_number(text: str, kind: type[int | float], minimum: float | None) -> float:
    try:
        number = kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a {'whole ' if kind is int else ''}number") from None
    if not (minimum is None or number >= minimum):  # so written, it refuses "nan" too
        raise ValueError(f"{text} is below {minimum:g}")
    return number


def _render(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, dict):
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    return str(value)


class KeyStyle(StrEnum):
    """What a record's Kafka key is made of; records with equal keys keep their order."""

    SYMBOL = "symbol"
    EXCHANGE_SYMBOL = "exchange|symbol"

    def key(self, exchange: str, symbol: str) -> bytes:
        """Return the key's bytes."""
        return (symbol if self is KeyStyle.SYMBOL else f"{exchange}|{symbol}").encode()


@dataclass(frozen=True, kw_only=True)
class KafkaSettings(Settings):
    """How to reach the brokers."""

    bootstrap_servers: str = setting("KAFKA_BOOTSTRAP_SERVERS", "host:port of the brokers, comma-separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "KAFKA_SECURITY_PROTOCOL", "how connections are secured", default="PLAINTEXT"
    )
    sasl_mechanism: str | None = setting("KAFKA_SASL_MECHANISM", "SASL mechanism, as SCRAM-SHA-512", default=None)
    sasl_username: Secret | None = setting("KAFKA_SASL_USERNAME", "SASL user", default=None)
    sasl_password: Secret | None = setting("KAFKA_SASL_PASSWORD", "SASL password", default=None)
    ca_file: str | None = setting("KAFKA_CA_FILE", "PEM file of the certificate authority", default=None)


@dataclass(frozen=True, kw_only=True)
class ProducerSettings(Settings):
    """How records are produced; the producer is always idempotent while `acks` is `all`."""

    acks: Literal["all", "-1", "1", "0"] = setting("KAFKA_ACKS", "replicas that must confirm", default="all")
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = setting(
        "KAFKA_COMPRESSION", "compression of batches", default="lz4"
    )
    linger_ms: int = setting("KAFKA_LINGER_MS", "longest wait for a batch to fill, ms", default=20, minimum=0)
    batch_bytes: int = setting("KAFKA_BATCH_BYTES", "largest batch, bytes", default=262_144, minimum=1)
    max_in_flight: int = setting("KAFKA_MAX_IN_FLIGHT", "requests under way per broker", default=5, minimum=1)
    retries: int = setting("KAFKA_RETRIES", "retries of a failed request", default=2_147_483_647, minimum=0)
    queue_bytes: int = setting("KAFKA_QUEUE_BYTES", "bound on unsent records, bytes", default=33_554_432, minimum=1024)
    headers: tuple[str, ...] = setting(
        "KAFKA_HEADERS", "headers of every record: name=value, comma-separated", default=()
    )


@dataclass(frozen=True, slots=True)
class Topic:
    """A Kafka topic as it should be; `retention_ms` None leaves the broker's default."""

    name: str
    partitions: int
    replicas: int
    retention_ms: int | None


@dataclass(frozen=True, kw_only=True)
class HttpSettings(Settings):
    """Where a service answers `/livez`, `/readyz`, `/health`, `/stats` and `/metrics`."""

    host: str = setting("HTTP_HOST", "address to listen on", default="0.0.0.0")
    port: int = setting("HTTP_PORT", "port to listen on; 0 takes a free one", default=0, minimum=0)


@dataclass(frozen=True, kw_only=True)
class IngestorSettings(Settings):
    """One shard: a venue's streams into Kafka (or to stdout, or nowhere)."""

    feed: str = setting("MARKETFEED_FEED", "name of the MarketFeed")
    shard: str = setting("MARKETFEED_SHARD", "name of this shard")
    exchange: str = setting("MARKETFEED_EXCHANGE", "venue module, as binance")
    websocket_url: str = setting("MARKETFEED_WEBSOCKET_URL", "base URL of the venue's websocket")
    rest_urls: tuple[str, ...] = setting("MARKETFEED_REST_URLS", "base URLs of the venue's REST API, tried in order")
    streams_file: str = setting(
        "MARKETFEED_STREAMS_FILE", 'JSON file {"streams": ["BTCUSDT@trade"]}; changes are taken over while running'
    )
    topics: dict[str, str] = setting("MARKETFEED_TOPICS", "topic of each channel, a JSON object")
    key: KeyStyle = setting("MARKETFEED_KEY", "key of each record: symbol or exchange|symbol", default=KeyStyle.SYMBOL)
    dead_letter_topic: str = setting("MARKETFEED_DEAD_LETTER_TOPIC", "topic for what cannot be understood")
    publisher: Literal["kafka", "stdout", "null"] = setting("MARKETFEED_PUBLISHER", "where records go", default="kafka")
    backoff_first_s: float = setting("MARKETFEED_BACKOFF_FIRST", "first reconnect delay, s", default=1.0, minimum=0.01)
    backoff_max_s: float = setting("MARKETFEED_BACKOFF_MAX", "longest reconnect delay, s", default=60.0, minimum=0.01)
    stale_after_s: float = setting(
        "MARKETFEED_STALE_AFTER",
        "silence of the whole connection before it counts as stale, s",
        default=30.0,
        minimum=0.1,
    )
    drain_timeout_s: float = setting("MARKETFEED_DRAIN_TIMEOUT", "longest flush at the end, s", default=20.0, minimum=0)
    kafka: KafkaSettings | None = None
    producer: ProducerSettings = field(default_factory=ProducerSettings)
    http: HttpSettings = field(default_factory=lambda: HttpSettings(port=8081))


@dataclass(frozen=True, kw_only=True)
class ConsumerSettings(Settings):
    """One consumer: topics into one sink."""

    feed: str = setting("MARKETFEED_FEED", "name of the MarketFeed")
    sink: str = setting("MARKETFEED_SINK", "name of the sink in the feed")
    sink_type: Literal["timescaledb", "postgresql"] = setting("MARKETFEED_SINK_TYPE", "kind of sink")
    topics: tuple[str, ...] = setting("MARKETFEED_CONSUME_TOPICS", "topics to read, comma-separated")
    group: str = setting("MARKETFEED_CONSUMER_GROUP", "Kafka consumer group")
    dsn: Secret = setting("MARKETFEED_DSN", "connection string of the database")
    dead_letter_topic: str = setting("MARKETFEED_DEAD_LETTER_TOPIC", "topic for what cannot be stored")
    auto_offset_reset: Literal["earliest", "latest"] = setting(
        "MARKETFEED_AUTO_OFFSET_RESET", "where a new group starts", default="earliest"
    )
    batch_rows: int = setting("MARKETFEED_BATCH_ROWS", "rows per commit", default=500, minimum=1)
    batch_max_delay_ms: int = setting(
        "MARKETFEED_BATCH_MAX_DELAY_MS", "longest wait of a row, ms", default=2000, minimum=1
    )
    writers: int = setting("MARKETFEED_WRITERS", "database connections that write side by side", default=2, minimum=1)
    drain_timeout_s: float = setting("MARKETFEED_DRAIN_TIMEOUT", "longest drain at the end, s", default=20.0, minimum=0)
    proof_every_s: float = setting(
        "MARKETFEED_PROOF_EVERY",
        "how often the ledger's last hour is checked for missing ids, s",
        default=10.0,
        minimum=0.1,
    )
    kafka: KafkaSettings = field(kw_only=True)
    http: HttpSettings = field(default_factory=lambda: HttpSettings(port=8082))


@dataclass(frozen=True, kw_only=True)
class AnalyticsSettings(Settings):
    """The streaming job: topics into windows of metrics, flags and alerts in one database."""

    feed: str = setting("MARKETFEED_FEED", "name of the MarketFeed")
    exchange: str = setting("MARKETFEED_EXCHANGE", "venue whose records are taken, as binance")
    sink: str = setting("MARKETFEED_SINK", "name of the database sink in the feed")
    dsn: Secret = setting("MARKETFEED_DSN", "connection string of the database")
    trade_channel: Literal["trade", "aggTrade"] = setting(
        "MARKETFEED_TRADE_CHANNEL", "whose records trade_metrics counts, never both", default="trade"
    )
    trade_topic: str | None = setting("MARKETFEED_TRADE_TOPIC", "topic of these trades; unset for none", default=None)
    quote_topic: str | None = setting("MARKETFEED_QUOTE_TOPIC", "topic of bookTicker; unset for none", default=None)
    trade_window_ms: int = setting("MARKETFEED_TRADE_WINDOW_MS", "length of a window, ms", default=60_000, minimum=1000)
    spread_window_ms: int = setting(
        "MARKETFEED_SPREAD_WINDOW_MS", "length of a window, ms", default=30_000, minimum=1000
    )
    watermark_ms: int = setting("MARKETFEED_WATERMARK_MS", "how late a record may be, ms", default=10_000, minimum=0)
    trigger_ms: int = setting("MARKETFEED_TRIGGER_MS", "time between two batches, ms", default=10_000, minimum=100)
    thresholds_file: str | None = setting(
        "MARKETFEED_THRESHOLDS_FILE",
        'JSON file {"volatility": 0.005, "volumeSpike": 3.0, "spread": 3.0}; changes are taken over while running',
        default=None,
    )
    checkpoint: str = setting("MARKETFEED_CHECKPOINT", "folder or URL where progress is kept")
    max_records_per_trigger: int = setting(
        "MARKETFEED_MAX_RECORDS_PER_TRIGGER",
        "bound on one batch of each query: its ids are kept in memory for a while",
        default=500_000,
        minimum=1,
    )
    shuffle_partitions: int = setting(
        "MARKETFEED_SHUFFLE_PARTITIONS", "parts of the state; fixed by the first checkpoint", default=2, minimum=1
    )
    kafka: KafkaSettings = field(kw_only=True)
    http: HttpSettings = field(default_factory=lambda: HttpSettings(port=8083))

    @property
    def topics(self) -> dict[str, str]:
        """The topic that each query reads, by the table that it fills."""
        found = {"trade_metrics": self.trade_topic, "spread_metrics": self.quote_topic}
        return {table: topic for table, topic in found.items() if topic}
