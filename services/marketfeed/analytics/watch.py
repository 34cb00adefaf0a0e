"""What the service knows of its queries: takes Spark's events as plain data, keeps the figures, feeds the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from marketfeed.analytics.progress import Offsets, Progress
from marketfeed.metrics import AnalyticsMetrics

_PATIENT_TRIGGERS = 12
_PATIENT_S = 120.0


class Watch:
    """The progress of all queries, by the table that each fills; events may come from any thread.

    monotonic: s on a clock that never goes back; wall: the time of day.
    """

    def __init__(
        self,
        metrics: AnalyticsMetrics,
        trigger_ms: int,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._metrics = metrics
        self._silence_s = max(_PATIENT_TRIGGERS * trigger_ms / 1000, _PATIENT_S)
        self._monotonic, self._wall = monotonic, wall
        self._lock = Lock()
        self._queries: dict[str, Progress] = {}
        self._ended: set[str] = set()

    def started(self, query: str) -> None:
        """Take note that a query runs."""
        with self._lock:
            self._queries[query] = Progress(self._monotonic())
        self._metrics.malformed.labels(query)  # so that its 0 is there to be compared with
        self._metrics.input_records.labels(query)

    def batch(self, query: str, event: Mapping[str, Any]) -> None:
        """Take note of a batch that is written; `event` is Spark's own JSON."""
        with self._lock:
            progress = self._queries[query].after_batch(event, self._monotonic())
            self._queries[query] = progress
        self._metrics.batch_seconds.labels(query).set(progress.batch_s or 0.0)
        self._metrics.input_records.labels(query).inc(progress.batch_records)
        self._metrics.malformed.labels(query).inc(progress.batch_malformed)
        self._metrics.state_rows.labels(query).set(progress.state_rows)
        self._metrics.state_bytes.labels(query).set(progress.state_bytes)
        self._show(query, progress)

    def idle(self, query: str, timestamp: str, committed: Offsets) -> None:
        """Take note that a query looked, and found nothing new; `committed`: what it has processed."""
        with self._lock:
            progress = self._queries[query].after_idle(timestamp, committed, self._monotonic())
            self._queries[query] = progress
        self._show(query, progress)

    def ended(self, query: str) -> None:
        """Take note that a query runs no more."""
        with self._lock:
            self._ended.add(query)

    def dead(self) -> str | None:
        """Return which query ended, or is silent for too long; None when none is."""
        with self._lock:
            if self._ended:
                return f"the query {min(self._ended)} has ended"
            silent = {query: progress.silent_s(self._monotonic()) for query, progress in self._queries.items()}
        late = [f"{query} for {age:.0f} s" for query, age in sorted(silent.items()) if age > self._silence_s]
        return f"nothing was heard of the query {late[0]}" if late else None

    def pending(self) -> str | None:
        """Return which query has not looked at its topic yet; None when all have."""
        with self._lock:
            waiting = sorted(query for query, progress in self._queries.items() if progress.event_at is None)
        return f"the first batch of {waiting[0]} is not written yet" if waiting else None

    def caught_up(self) -> datetime | None:
        """Return the moment up to which all that the topics held is written; None while a query is behind."""
        with self._lock:
            progresses = list(self._queries.values())
        began = [progress.batch_began for progress in progresses if progress.lag_records == 0]
        moments = [moment for moment in began if moment is not None]
        return min(moments) if moments and len(moments) == len(progresses) else None

    def stats(self) -> dict[str, Any]:
        """Return the figures of each query."""
        with self._lock:
            queries = dict(self._queries)
        now, wall = self._monotonic(), self._wall()
        return {query: progress.as_stats(now, wall) for query, progress in queries.items()}

    def _show(self, query: str, progress: Progress) -> None:
        wall = self._wall()
        self._metrics.batch_at.labels(query).set(wall.timestamp())
        self._metrics.input_rate.labels(query).set(progress.input_rate)
        if progress.lag_records is not None:
            self._metrics.lag_records.labels(query).set(progress.lag_records)
        delay_s = progress.watermark_delay_s(wall)
        if delay_s is not None:
            self._metrics.watermark_delay.labels(query).set(delay_s)
