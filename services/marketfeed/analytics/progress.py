"""How far each query is, from what Spark says of its batches. Pure but for the clock that the caller passes in.

An event is the JSON of Spark's StreamingQueryProgress. Spark looks at a topic's end when a batch begins: a lag of 0
says that whatever was there then is processed and written, and nothing of what has come since; `processed` says how
far that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

OBSERVED = "records"
"""The name under which a query counts its records; its figures are `malformed` and `records`."""

Offsets = Mapping[str, Mapping[str, int]]
"""Per topic and partition, the offset of the next record."""

_NO_WATERMARK = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Progress:
    """One query. Times are those of the caller's clock but `watermark` and `batch_began`, which are Spark's."""

    started_at: float
    event_at: float | None = None
    batch_began: datetime | None = None  # the moment up to which `lag_records` speaks
    batch_s: float | None = None
    batch_records: int = 0
    batch_malformed: int = 0
    input_records: int = 0
    input_rate: float = 0.0
    malformed: int = 0
    processed: Offsets = field(default_factory=dict)
    lag_records: int | None = None  # unknown before the first batch, and after the replay of one
    state_rows: int = 0
    state_bytes: int = 0
    watermark: datetime | None = None

    def after_batch(self, event: Mapping[str, Any], now: float) -> Progress:
        """Return the progress after a batch, which is written when Spark says this."""
        counted = event["observedMetrics"].get(OBSERVED, {})
        records, malformed = event["numInputRows"], int(counted.get("malformed") or 0)
        operators = event["stateOperators"]
        processed = _merged(self.processed, *(source["endOffset"] for source in event["sources"]))
        return replace(
            self,
            event_at=now,
            batch_began=_time(event["timestamp"]),
            batch_s=event["batchDuration"] / 1000,
            batch_records=records,
            batch_malformed=malformed,
            input_records=self.input_records + records,
            input_rate=float(event.get("inputRowsPerSecond") or 0.0),
            malformed=self.malformed + malformed,
            processed=processed,
            lag_records=_lag(processed, [source.get("latestOffset") for source in event["sources"]]),
            state_rows=sum(operator["numRowsTotal"] for operator in operators),
            state_bytes=sum(operator["memoryUsedBytes"] for operator in operators),
            watermark=_watermark(event) or self.watermark,
        )

    def after_idle(self, timestamp: str, committed: Offsets, now: float) -> Progress:
        """Return the progress after a look at the topic that found nothing new; `committed`: what is processed."""
        return replace(
            self,
            event_at=now,
            batch_began=_time(timestamp),
            batch_records=0,
            batch_malformed=0,
            input_rate=0.0,
            processed=_merged(self.processed, committed),
            lag_records=0,
        )

    def silent_s(self, now: float) -> float:
        """Return how long nothing was heard of the query."""
        return now - (self.started_at if self.event_at is None else self.event_at)

    def watermark_delay_s(self, wall: datetime) -> float | None:
        """Return the age of the watermark; None before there is one."""
        return None if self.watermark is None else (wall - self.watermark).total_seconds()

    def as_stats(self, now: float, wall: datetime) -> dict[str, Any]:
        """Return what `/stats` says of the query."""
        delay_s = self.watermark_delay_s(wall)
        return {
            "batch_age_s": None if self.event_at is None else round(now - self.event_at, 3),
            "batch_seconds": self.batch_s,
            "input_records": self.input_records,
            "input_records_per_second": round(self.input_rate, 1),
            "lag_records": self.lag_records,
            "processed": {topic: dict(parts) for topic, parts in self.processed.items()},
            "state_rows": self.state_rows,
            "watermark_delay_s": None if delay_s is None else round(delay_s, 3),
            "malformed": self.malformed,
        }


def _merged(before: Offsets, *more: Offsets | None) -> Offsets:
    """Return the offsets with newer ones put over them; Spark leaves partitions out of which nothing was ever read."""
    found = {topic: dict(parts) for topic, parts in before.items()}
    for offsets in more:
        for topic, parts in (offsets or {}).items():
            found.setdefault(topic, {}).update(parts)
    return found


def _lag(processed: Offsets, latest: list[Offsets | None]) -> int | None:
    """Return the records behind the ends; None where Spark does not say where these were, as for a replayed batch."""
    if not latest or not all(latest):
        return None
    return sum(
        max(0, end - processed.get(topic, {}).get(partition, 0))
        for offsets in latest
        for topic, parts in (offsets or {}).items()
        for partition, end in parts.items()
    )


def _watermark(event: Mapping[str, Any]) -> datetime | None:
    text = event.get("eventTime", {}).get("watermark")
    time = None if text is None else _time(text)
    return None if time is None or time <= _NO_WATERMARK else time


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
