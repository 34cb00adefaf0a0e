"""The catalogue: every metric of every service, with its labels and help text. No metric is declared elsewhere.

Each service makes its own registry (`IngestorMetrics(registry)`), so that tests never meet through a global one.
Names keep the field's words; times are seconds, sizes bytes, as Prometheus asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from marketfeed import memory
from marketfeed.certificates import expires_at
from marketfeed.proof import Tally

Values = Callable[[], Iterable[tuple[Sequence[str], float]]]
"""Gives each set of label values with its value."""


class Computed(Collector):
    """A gauge whose values are computed when Prometheus asks, on the HTTP server's thread, and at no other time."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], values: Values, registry: CollectorRegistry
    ) -> None:
        self._name, self._documentation, self._labels, self._values = name, documentation, labels, values
        registry.register(self)

    def describe(self) -> list[GaugeMetricFamily]:
        """Return the gauge without values: nothing is computed to register it."""
        return [GaugeMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge with the values of this moment."""
        (family,) = self.describe()
        for labels, value in self._values():
            family.add_metric(labels, value)
        yield family


class ServiceMetrics:
    """What every service reports of itself: readiness, its process, its container's memory, certificates it trusts.

    unready: why `/readyz` answers 503, None while it answers 200. authorities: PEM files that the service was given.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        service: str,
        unready: Callable[[], str | None],
        authorities: Sequence[str | None] = (),
    ) -> None:
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        Computed(
            "marketfeed_ready",
            "1 while /readyz answers 200, 0 while it answers 503",
            ["service"],
            lambda: [([service], float(unready() is None))],
            registry,
        )
        Computed(
            "marketfeed_memory_used_bytes",
            "Memory of the container that cannot be dropped at once; shown where it has a limit",
            [],
            lambda: [([], each.used) for each in _container()],
            registry,
        )
        Computed(
            "marketfeed_memory_limit_bytes",
            "Memory at which the container is ended; not shown without a limit",
            [],
            lambda: [([], each.limit) for each in _container()],
            registry,
        )
        Computed(
            "marketfeed_certificate_expiry_timestamp_seconds",
            "When the last authority of a certificate file expires",
            ["file"],
            lambda: [([file], at) for file in authorities if file and (at := expires_at(Path(file))) is not None],
            registry,
        )


def _container() -> list[memory.Memory]:
    found = memory.of_container()
    return [] if found is None else [found]


class IngestorMetrics:
    """What one shard reports."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.frames = Counter(
            "marketfeed_frames", "Frames received from the venue", ["exchange", "shard"], registry=registry
        )
        self.records = Counter(
            "marketfeed_records_received",
            "Records understood, by stream",
            ["exchange", "symbol", "channel"],
            registry=registry,
        )
        self.bad_frames = Counter(
            "marketfeed_bad_frames", "Frames that went to quarantine", ["exchange", "error_type"], registry=registry
        )
        self.published = Counter(
            "kafka_messages_published",
            "Records taken by the publisher; pending and failed ones are counted apart",
            ["topic", "type", "exchange"],
            registry=registry,
        )
        self.delivery_errors = Counter(
            "kafka_delivery_errors", "Records taken and not delivered", ["topic"], registry=registry
        )
        self.queue_full = Counter(
            "kafka_producer_queue_full",
            "Times that reading paused because the queue was full",
            ["topic"],
            registry=registry,
        )
        self.pending = Gauge("marketfeed_publisher_pending", "Records taken and not delivered yet", registry=registry)
        self.connected = Gauge(
            "marketfeed_connected", "Open venue connections", ["exchange", "shard"], registry=registry
        )
        self.streams = Gauge("marketfeed_streams", "Streams of this shard", ["exchange", "shard"], registry=registry)
        self.connects = Counter(
            "vendor_fetch_success", "Connections to the venue that succeeded", ["exchange", "shard"], registry=registry
        )
        self.connect_failures = Counter(
            "vendor_fetch_failure",
            "Connections to the venue that failed",
            ["exchange", "shard", "reason"],
            registry=registry,
        )
        self.last_frame = Gauge(
            "marketfeed_last_frame_timestamp_seconds",
            "When the last frame came",
            ["exchange", "shard"],
            registry=registry,
        )
        self._registry = registry

    def last_records(self, values: Values) -> None:
        """Show for each stream when its last record came; `values` is asked at each scrape."""
        Computed(
            "marketfeed_last_record_timestamp_seconds",
            "When the last record of a stream came; before the first one, since when this process wants the stream",
            ["exchange", "symbol", "channel"],
            values,
            self._registry,
        )


class ConsumerMetrics:
    """What one consumer reports."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.consumed = Counter("marketfeed_records_consumed", "Records read", ["topic"], registry=registry)
        self.stored = Counter("marketfeed_rows_stored", "Rows new in the sink", ["sink", "table"], registry=registry)
        self.duplicates = Counter(
            "marketfeed_rows_duplicate", "Rows that the sink already held", ["sink", "table"], registry=registry
        )
        self.batch_seconds = Histogram(
            "marketfeed_batch_seconds",
            "Time to store one batch",
            ["sink"],
            registry=registry,
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
        )
        self.batch_rows = Histogram(
            "marketfeed_batch_rows",
            "Rows in one batch",
            ["sink"],
            registry=registry,
            buckets=(1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10000),
        )
        self.commits = Counter("kafka_consumer_commits", "Offset commits", ["topic"], registry=registry)
        self.errors = Counter("kafka_consumer_errors", "Errors from the broker", ["topic"], registry=registry)
        self.dead_letters = Counter(
            "kafka_dlq_published",
            "Records sent to quarantine",
            ["dlq_topic", "source_topic", "error_type"],
            registry=registry,
        )
        self.sink_errors = Counter(
            "marketfeed_sink_errors", "Times that the sink could not be written", ["sink", "reason"], registry=registry
        )
        self.lag_records = Gauge(
            "marketfeed_lag_records", "Records behind the topic's end", ["topic", "partition"], registry=registry
        )
        self.lag_seconds = Gauge(
            "marketfeed_lag_seconds", "Age of the last stored record at its storing", ["topic"], registry=registry
        )
        self._proof_ids = Gauge(
            "marketfeed_proof_ids",
            "Ids of the last hour by the ledger: expected, stored and missing",
            ["sink", "state"],
            registry=registry,
        )
        self._proof_unprovable = Gauge(
            "marketfeed_proof_unprovable_streams",
            "Streams of the last hour whose ids prove nothing",
            ["sink"],
            registry=registry,
        )
        self._proof_at = Gauge(
            "marketfeed_proof_timestamp_seconds", "When the last hour was last checked", ["sink"], registry=registry
        )

    def proof(self, sink: str, found: Tally, checked_at: float) -> None:
        """Show what a check of the ledger found; before the first one there is nothing to show."""
        self._proof_ids.labels(sink, "expected").set(found.expected)
        self._proof_ids.labels(sink, "stored").set(found.stored)
        self._proof_ids.labels(sink, "missing").set(found.missing)
        self._proof_unprovable.labels(sink).set(found.unprovable_streams)
        self._proof_at.labels(sink).set(checked_at)


class AnalyticsMetrics:
    """What the streaming job reports. `query` is the table that it fills: trade_metrics or spread_metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._progress(registry)
        self._results(registry)

    def _progress(self, registry: CollectorRegistry) -> None:
        query = ["query"]
        self.batch_at = Gauge(
            "marketfeed_analytics_batch_timestamp_seconds",
            "When the query last ended a batch, or found nothing to do",
            query,
            registry=registry,
        )
        self.batch_seconds = Gauge(
            "marketfeed_analytics_batch_seconds", "How long the last batch took", query, registry=registry
        )
        self.input_records = Counter(
            "marketfeed_analytics_input_records", "Records read from the topics", query, registry=registry
        )
        self.input_rate = Gauge(
            "marketfeed_analytics_input_records_per_second",
            "Records that came per second in the last batch",
            query,
            registry=registry,
        )
        self.malformed = Counter(
            "marketfeed_analytics_malformed_records",
            "Records that could not be read; the consumer quarantines them",
            query,
            registry=registry,
        )
        self.lag_records = Gauge(
            "marketfeed_analytics_lag_records", "Records behind the topic's end", query, registry=registry
        )
        self.state_rows = Gauge("marketfeed_analytics_state_rows", "Rows of state", query, registry=registry)
        self.state_bytes = Gauge("marketfeed_analytics_state_bytes", "Memory of state", query, registry=registry)
        self.watermark_delay = Gauge(
            "marketfeed_analytics_watermark_delay_seconds", "Age of the watermark", query, registry=registry
        )

    def _results(self, registry: CollectorRegistry) -> None:
        self.windows_written = Counter(
            "marketfeed_analytics_windows_written", "Windows written from the stream", ["table"], registry=registry
        )
        self.windows_corrected = Counter(
            "marketfeed_analytics_windows_corrected",
            "Windows computed anew from the stored records, because the ledger counts others",
            ["table"],
            registry=registry,
        )
        self.alerts = Counter("marketfeed_analytics_alerts", "Alerts raised", ["kind"], registry=registry)
        self.sink_errors = Counter(
            "marketfeed_analytics_sink_errors", "Times that the database refused or was away", registry=registry
        )
