"""The catalogue of the operator's metrics, each with its labels and help text. None is declared elsewhere.

Every operator makes its own registry, so that tests never meet through a global one. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5)


class OperatorMetrics:
    """What one replica reports."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._reconciling(registry)
        self._queueing(registry)
        self._calling(registry)
        self._looking(registry)

    def _reconciling(self, registry: CollectorRegistry) -> None:
        self.reconciles = Counter(
            "marketfeed_operator_reconciles", "Reconciliations by how they ended", ["result"], registry=registry
        )
        self.errors = Counter(
            "marketfeed_operator_errors", "Failed reconciliations by kind of error", ["kind"], registry=registry
        )
        self.reconcile_seconds = Histogram(
            "marketfeed_operator_reconcile_seconds",
            "Time of one reconciliation, waits for the API server included",
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.children_applied = Counter(
            "marketfeed_operator_children_applied",
            "Children written, by kind and by what made it necessary",
            ["kind", "why"],
            registry=registry,
        )
        self.feeds = Gauge(
            "marketfeed_operator_feeds",
            "Feeds by their condition Ready: True, False or Unknown",
            ["ready"],
            registry=registry,
        )
        self._feeds_by_reason = Gauge(
            "marketfeed_operator_feeds_by_reason",
            "Feeds by status and reason of their condition Ready, as False and SecretMissing",
            ["ready", "reason"],
            registry=registry,
        )
        self._reasons: frozenset[tuple[str, str]] = frozenset()

    def show_reasons(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Show how many feeds are Ready or not, and why: (status, reason) → feeds. A reason that is gone counts 0."""
        self._reasons |= counts.keys()
        for ready, reason in self._reasons:
            self._feeds_by_reason.labels(ready, reason).set(counts.get((ready, reason), 0))

    def _queueing(self, registry: CollectorRegistry) -> None:
        self.queue_depth = Gauge("marketfeed_operator_queue_depth", "Feeds that wait for a worker", registry=registry)
        self.queue_oldest_seconds = Gauge(
            "marketfeed_operator_queue_oldest_seconds",
            "Age of the feed that has waited longest for a worker",
            registry=registry,
        )
        self.retries = Counter(
            "marketfeed_operator_retries", "Reconciliations put off after a failure", registry=registry
        )

    def _calling(self, registry: CollectorRegistry) -> None:
        self.api_calls = Counter(
            "marketfeed_operator_api_calls",
            "Requests to the API server; code 0 is one without an answer",
            ["verb", "kind", "code"],
            registry=registry,
        )
        self.api_seconds = Histogram(
            "marketfeed_operator_api_seconds",
            "Time of one request to the API server, without waits before it",
            ["verb"],
            registry=registry,
            buckets=_CALL_BUCKETS,
        )
        self.api_wait_seconds = Counter(
            "marketfeed_operator_api_wait_seconds",
            "Time that requests were held back, by why: rate, pause, retry",
            ["why"],
            registry=registry,
        )
        self.events_dropped = Counter(
            "marketfeed_operator_events_dropped", "Events that could not be written", registry=registry
        )

    def _looking(self, registry: CollectorRegistry) -> None:
        self.watch_age_seconds = Gauge(
            "marketfeed_operator_watch_age_seconds",
            "Time since a watch brought anything, bookmarks included",
            ["kind"],
            registry=registry,
        )
        self.leader = Gauge("marketfeed_operator_leader", "1 while this replica holds the lease", registry=registry)
        self.samples = Counter(
            "marketfeed_operator_samples", "Looks at a pod's figures: ok or failed", ["result"], registry=registry
        )
        self.loop_lag_seconds = Histogram(
            "marketfeed_operator_loop_lag_seconds",
            "How late the event loop ran a timer",
            registry=registry,
            buckets=_LAG_BUCKETS,
        )
