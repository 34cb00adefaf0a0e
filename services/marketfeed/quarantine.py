"""What a dead letter says about itself: the headers of both conventions that tools for dead-letter topics read.

The value and the key of a dead letter are the untouched bytes of what could not be taken; all else is in its headers.
Pure: who sends it, and when, is the shells' business.

Sources: Kafka Connect, `org.apache.kafka.connect.runtime.errors.DeadLetterQueueReporter` (values are text); Spring
Kafka, `DeadLetterPublishingRecoverer` and `KafkaHeaders` (numbers are big-endian, 4 and 8 bytes).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from marketfeed.errors import BadFrame, BadInput, BadRecord

ERROR_TYPE = "error_type"
ATTEMPT = "attempt"
FIRST_SEEN = "first_seen"

# The text of an error may quote its input: bounded, so that a dead letter stays about as large as its record.
_REASON_CHARACTERS = 500

_TIMESTAMP_TYPES = {1: "CreateTime", 2: "LogAppendTime"}

Headers = Mapping[str, str | bytes | None] | Sequence[tuple[str, str | bytes | None]]


class Source(Protocol):
    """The record that could not be taken, as the Kafka client hands it out."""

    def topic(self) -> str | None:
        """Return the topic it was read from."""

    def partition(self) -> int | None:
        """Return its partition's number."""

    def offset(self) -> int | None:
        """Return its offset."""

    def timestamp(self) -> tuple[int, int]:
        """Return the kind of its timestamp, and the timestamp in ms."""

    def key(self) -> bytes | None:
        """Return its key's bytes."""

    def value(self) -> bytes | None:
        """Return its value's bytes."""

    def headers(self) -> Headers | None:
        """Return its headers."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that was refused, and why: `error_type` is a word of the taxonomy in `errors.BadInput`."""

    source: Source
    error_type: str
    reason: str


def headers(
    error_type: str,
    reason: str,
    *,
    now_us: int,
    component: str,
    source: Source | None = None,
    group: str | None = None,
) -> list[tuple[str, bytes]]:
    """Return a dead letter's headers.

    `component` is who refused it (a consumer, an ingestor's shard). `source` and `group` are there for a record that
    came from a topic; a venue's frame has neither. A letter that was replayed and is refused again keeps the time of
    its first sight and counts its attempts.
    """
    before = _previous(source)
    failure = BadRecord if source is not None else BadFrame
    text = {
        ERROR_TYPE: error_type,
        ATTEMPT: str(_attempt(before) + 1),
        FIRST_SEEN: before.get(FIRST_SEEN, "") or _time(now_us),
        "__connect.errors.connector.name": component,
        "__connect.errors.stage": "VALUE_CONVERTER" if error_type != "refused_by_sink" else "TASK_PUT",
        "__connect.errors.exception.class.name": _class_name(failure),
        "__connect.errors.exception.message": reason[:_REASON_CHARACTERS],
        "kafka_dlt-exception-fqcn": _class_name(failure),
        "kafka_dlt-exception-message": reason[:_REASON_CHARACTERS],
    }
    made = [(name, value.encode("utf-8", "replace")) for name, value in text.items()]
    return made if source is None else made + _origin(source, group)


def _origin(source: Source, group: str | None) -> list[tuple[str, bytes]]:
    """Return where a record stood."""
    topic, partition, offset = source.topic() or "", source.partition() or 0, source.offset() or 0
    kind, timestamp_ms = source.timestamp()
    return [
        ("__connect.errors.topic", topic.encode()),
        ("__connect.errors.partition", str(partition).encode()),
        ("__connect.errors.offset", str(offset).encode()),
        ("kafka_dlt-original-topic", topic.encode()),
        ("kafka_dlt-original-partition", struct.pack(">i", partition)),
        ("kafka_dlt-original-offset", struct.pack(">q", offset)),
        ("kafka_dlt-original-timestamp", struct.pack(">q", timestamp_ms)),
        ("kafka_dlt-original-timestamp-type", _TIMESTAMP_TYPES.get(kind, "NoTimestampType").encode()),
        *([("kafka_dlt-original-consumer-group", group.encode())] if group is not None else []),
    ]


def _previous(source: Source | None) -> Mapping[str, str]:
    """Return what an earlier refusal of the same record left in its headers."""
    found = (source.headers() if source is not None else None) or ()
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
        for name, value in dict(found).items()
        if name in (ATTEMPT, FIRST_SEEN)
    }


def _attempt(before: Mapping[str, str]) -> int:
    text = before.get(ATTEMPT, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _time(us: int) -> str:
    moment = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)
    return moment.isoformat(timespec="microseconds")


def _class_name(failure: type[BadInput]) -> str:
    return f"{failure.__module__}.{failure.__qualname__}"
