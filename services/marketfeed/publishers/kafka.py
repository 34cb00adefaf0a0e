"""Produces records to Kafka: one topic per channel, one key per symbol, acknowledged before they count as delivered.

librdkafka retries for as long as it takes; no Python code runs for a record that arrives.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message

from marketfeed import quarantine
from marketfeed.errors import ConfigurationError, MarketfeedError, Unavailable
from marketfeed.events import Stream
from marketfeed.kafka import ANSWER_TIMEOUT_S, answered, producer, producer_config
from marketfeed.logs import logger
from marketfeed.publishers import Flow, Full
from marketfeed.settings import KafkaSettings, KeyStyle, ProducerSettings

_STATISTICS_MS = 2_000
_NO_TOPIC = frozenset({KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART})  # noqa: SLF001 - its public name

_log = logger("kafka")


class ProducerDead(MarketfeedError):
    """The Kafka producer cannot go on; a new process must start with a new one."""


@dataclass(slots=True)
class _Route(Flow):
    """A stream's way into Kafka."""

    key: bytes = b""


class _Routes(dict[str, _Route]):
    """The way of each stream, made when its first record comes."""

    def __init__(self, exchange: str, topics: Mapping[str, str], key_style: KeyStyle) -> None:
        super().__init__()
        self._exchange, self._topics, self._key_style = exchange, topics, key_style

    def __missing__(self, name: str) -> _Route:
        stream = Stream.parse(name)
        key = self._key_style.key(self._exchange, stream.symbol)
        route = self[name] = _Route(self._topics[stream.channel], self._exchange, stream, key=key)
        return route


class _Broker(msgspec.Struct):
    nodeid: int
    state: str


class _Statistics(msgspec.Struct):
    brokers: dict[str, _Broker] = {}


class KafkaPublisher:
    """Hands records to one producer. `topics` names the topic of each channel; `shard` is who quarantines a frame."""

    def __init__(
        self,
        kafka: KafkaSettings,
        producer_settings: ProducerSettings,
        *,
        exchange: str,
        shard: str,
        topics: Mapping[str, str],
        key_style: KeyStyle,
        dead_letter_topic: str,
    ) -> None:
        self.failed: Counter[str] = Counter()
        self._kafka = kafka
        self._shard = shard
        self._topics = (*dict.fromkeys(topics.values()), dead_letter_topic)
        self._dead_letter_topic = dead_letter_topic
        self._headers = parse_headers(producer_settings.headers)
        self._routes = _Routes(exchange, topics, key_style)
        self._problem: str | None = None
        self._fatal: str | None = None
        self._producer = producer(
            {
                **producer_config(kafka, producer_settings),
                "statistics.interval.ms": _STATISTICS_MS,
                "on_delivery": self._on_failure,
                "error_cb": self._on_error,
                "stats_cb": self._on_statistics,
            }
        )
        self._produce = self._producer.produce

    def waits_for(self) -> str | None:
        """Return the topic that does not exist yet, or why no broker can be asked."""
        try:
            with answered(self._kafka):
                known = self._producer.list_topics(timeout=ANSWER_TIMEOUT_S).topics
        except Unavailable as error:
            return str(error)
        missing = [topic for topic in self._topics if topic not in known]
        return f"topic {missing[0]} does not exist yet" if missing else None

    def publish(self, stream: str, value: bytes) -> None:
        """Queue one record; raises Full when the queue is full, or when its topic is gone for now."""
        route = self._routes[stream]
        try:
            if self._headers is None:
                self._produce(route.topic, value, route.key)
            else:
                self._produce(route.topic, value, route.key, headers=self._headers)
        except BufferError:
            raise Full from None
        except KafkaException as error:
            self._refused(error.args[0], route.topic)
        else:
            route.taken += 1

    def quarantine(self, frame: bytes, error_type: str, reason: str) -> None:
        """Queue a frame for the dead-letter topic, its bytes untouched and the reason in its headers."""
        headers = quarantine.headers(error_type, reason, now_us=time.time_ns() // 1000, component=self._shard)
        try:
            self._produce(self._dead_letter_topic, frame, headers=list(headers))
        except BufferError:
            raise Full from None
        except KafkaException as error:
            self._refused(error.args[0], self._dead_letter_topic)

    def flows(self) -> Iterable[Flow]:
        """Return the streams that had records so far."""
        return list(self._routes.values())

    def pending(self) -> int:
        """Return how many records the producer holds or waits for."""
        return len(self._producer)

    def problem(self) -> str | None:
        """Return why nothing can be delivered at the moment."""
        return self._fatal or self._problem

    def poll(self) -> None:
        """Let failures and statistics in; raises ProducerDead after a fatal error."""
        self._producer.poll(0)
        if self._fatal is not None:
            raise ProducerDead(f"the Kafka producer cannot go on: {self._fatal}")

    def flush(self, timeout_s: float) -> int:
        """Wait for the acknowledgements."""
        return int(self._producer.flush(timeout_s))

    def _refused(self, error: KafkaError, topic: str) -> None:
        """Deal with a record that the producer did not take: a missing topic may come back, the rest never will."""
        if error.code() in _NO_TOPIC:
            self._problem = f"topic {topic} does not exist"
            raise Full from None
        if error.fatal():
            self._fatal = error.str()
            raise Full from None
        self._failure(topic, error)

    def _on_failure(self, error: KafkaError | None, message: Message) -> None:
        """Count a record that was taken and is lost; only failures are reported (`delivery.report.only.error`)."""
        if error is not None:
            self._failure(message.topic() or "", error)

    def _failure(self, topic: str, error: KafkaError) -> None:
        self.failed[topic] += 1
        _log.error("delivery_failed", topic=topic, error_code=error.name(), error=error.str())

    def _on_error(self, error: KafkaError) -> None:
        """Take note of what concerns the whole client."""
        if error.fatal():
            self._fatal = error.str()
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name for a local error
            self._problem = self._no_broker()

    def _on_statistics(self, text: str) -> None:
        """Notice brokers that went and came back, also while nothing is sent."""
        brokers = _decode_statistics(text).brokers.values()
        reachable = any(broker.state == "UP" for broker in brokers if broker.nodeid >= 0)
        self._problem = None if reachable else self._no_broker()

    def _no_broker(self) -> str:
        return f"no Kafka broker answers at {self._kafka.bootstrap_servers}"


_decode_statistics = msgspec.json.Decoder(_Statistics).decode


def parse_headers(headers: Iterable[str]) -> list[tuple[str, Any]] | None:
    """Read `name=value` texts as Kafka headers, None where there are none; raises ConfigurationError."""
    pairs = [header.partition("=") for header in headers]
    if not all(name and equals for name, equals, _ in pairs):
        variable = ProducerSettings.variable("headers")
        raise ConfigurationError(f"{variable}: {', '.join(headers)!r} is not a list of headers: write name=value")
    return [(name, value.encode()) for name, _, value in pairs] or None
