"""What the job has written, corrected, raised and failed at: for `/stats` and for the metrics at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import Any

from marketfeed.metrics import AnalyticsMetrics


class Results:
    """Counts since the start, taken from any thread."""

    def __init__(self, metrics: AnalyticsMetrics) -> None:
        self._metrics = metrics
        self._lock = Lock()
        self._written: Counter[str] = Counter()
        self._corrected: Counter[str] = Counter()
        self._alerts: Counter[str] = Counter()
        self._errors = 0

    def written(self, table: str, windows: int, alerts: Mapping[str, int]) -> None:
        """Count a batch: its windows, and the alerts that it raised by their kind."""
        with self._lock:
            self._written[table] += windows
            self._alerts.update(alerts)
        self._metrics.windows_written.labels(table).inc(windows)
        self._raised(alerts)

    def corrected(self, windows: Mapping[str, int], alerts: Mapping[str, int]) -> None:
        """Count what a comparison with the ledger changed: windows by their table, alerts raised by their kind."""
        with self._lock:
            self._corrected.update(windows)
            self._alerts.update(alerts)
        for table, count in windows.items():
            self._metrics.windows_corrected.labels(table).inc(count)
        self._raised(alerts)

    def failed(self) -> None:
        """Count a time that the database was away or refused."""
        with self._lock:
            self._errors += 1
        self._metrics.sink_errors.inc()

    def stats(self) -> dict[str, Any]:
        """Return the counts as `/stats` says them."""
        with self._lock:
            return {
                "windows_written": dict(self._written),
                "windows_corrected": dict(self._corrected),
                "alerts": dict(self._alerts),
                "error_count": self._errors,
            }

    def _raised(self, alerts: Mapping[str, int]) -> None:
        for kind, count in alerts.items():
            self._metrics.alerts.labels(kind).inc(count)
