"""What an ingestor has done, in numbers: gathered once a second on its loop, read at any time by its HTTP server.

The hot path counts in plain integers; here they become Prometheus counters and the object of `/stats`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from marketfeed.events import Stream
from marketfeed.metrics import IngestorMetrics
from marketfeed.publishers import Publisher


class Report:
    """The counters of one shard."""

    def __init__(self, registry: CollectorRegistry, exchange: str, shard: str) -> None:
        self._metrics = IngestorMetrics(registry)
        self._exchange, self._shard = exchange, shard
        self._taken: dict[tuple[str, Stream], int] = {}
        self._changed_at: dict[Stream, float] = {}
        self._wanted: frozenset[Stream] = frozenset()
        self._wanted_since: dict[Stream, float] = {}
        self._epoch_s = 0.0  # of the monotonic clock, s since 1970
        self._frames = 0
        self._failed: Counter[str] = Counter()
        self.frame_at: float | None = None  # monotonic, s
        self.bad_frames: Counter[str] = Counter()
        self.reconnects = 0
        self.taken = 0  # by the publisher
        for gauge in (self._metrics.connected, self._metrics.streams):
            gauge.labels(exchange, shard).set(0)  # shown before the first connection, too
        self._metrics.last_records(self._last_records)

    def connected(self, *, again: bool) -> None:
        """Count a connection that was made."""
        self._metrics.connects.labels(self._exchange, self._shard).inc()
        self._metrics.connected.labels(self._exchange, self._shard).set(1)
        self.reconnects += again

    def disconnected(self) -> None:
        """Note that the connection is gone."""
        self._metrics.connected.labels(self._exchange, self._shard).set(0)

    def connect_failed(self, reason: str) -> None:
        """Count a connection that could not be made."""
        self._metrics.connect_failures.labels(self._exchange, self._shard, reason).inc()

    def bad_frame(self, error_type: str) -> None:
        """Count a frame that went to quarantine."""
        self.bad_frames[error_type] += 1
        self._metrics.bad_frames.labels(self._exchange, error_type).inc()

    def queue_full(self, topic: str) -> None:
        """Count a pause for want of room."""
        self._metrics.queue_full.labels(topic).inc()

    def frames(self, total: int, now: float, wall_s: float) -> None:
        """Take the number of frames so far; a new one makes the connection fresh."""
        self._epoch_s = wall_s - now
        if total != self._frames:
            self._metrics.frames.labels(self._exchange, self._shard).inc(total - self._frames)
            self._metrics.last_frame.labels(self._exchange, self._shard).set(wall_s)
            self._frames, self.frame_at = total, now

    def publisher(self, publisher: Publisher, now: float) -> None:
        """Take the publisher's numbers."""
        self._metrics.pending.set(publisher.pending())
        for topic, failed in (publisher.failed - self._failed).items():
            self._metrics.delivery_errors.labels(topic).inc(failed)
        self._failed = publisher.failed.copy()
        for flow in publisher.flows():
            new = flow.taken - self._taken.get((flow.topic, flow.stream), 0)
            if new:
                symbol, channel = flow.stream
                self._metrics.records.labels(flow.exchange, symbol, channel).inc(new)
                self._metrics.published.labels(flow.topic, channel, flow.exchange).inc(new)
                self._taken[flow.topic, flow.stream] = flow.taken
                self._changed_at[flow.stream] = now
                self.taken += new

    def streams(self, wanted: frozenset[Stream], now: float) -> None:
        """Note which streams this shard has."""
        if wanted is self._wanted:
            return  # as it is several times a second
        self._metrics.streams.labels(self._exchange, self._shard).set(len(wanted))
        self._wanted_since = {stream: self._wanted_since.get(stream, now) for stream in wanted}
        self._wanted = wanted

    def fresh(self, streams: Iterable[Stream], now: float, within_s: float) -> int:
        """Return how many of these streams had a record within the last `within_s`."""
        return sum(now - self._changed_at.get(stream, -within_s) < within_s for stream in streams)

    def _last_records(self) -> list[tuple[tuple[str, str, str], float]]:
        """Return the time of each wanted stream's last record. Called by the HTTP server's thread."""
        return [
            ((self._exchange, *stream), self._epoch_s + max(since, self._changed_at.get(stream, since)))
            for stream, since in self._wanted_since.items()  # never changed, only replaced
        ]
