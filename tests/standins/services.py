"""What the pretended services in pods answer over HTTP: the paths and figures of the real ingestor and consumer.

Nothing is ingested or stored: an ingestor "carries" what it was told to, after the time that a venue takes to answer,
and figures grow at a rate. What does not live here: which pods there are, and what they mount (kubelet).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, Mapping[str, Any]]


@dataclass(slots=True)
class Service:
    """One container's service. Times are seconds since the epoch."""

    role: str  # ingestor, consumer, or anything else, which has no figures
    feed: str
    name: str  # the shard's, or the sink's
    exchange: str
    rate: float  # records per second and stream; of a consumer: in all
    started_at: float
    desired: frozenset[str] = frozenset()
    carried: frozenset[str] = frozenset()
    mounted_at: float = 0.0
    counted: float = 0.0
    counted_at: float = 0.0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    failing: str | None = None

    def mount(self, streams: frozenset[str], now: float) -> None:
        """See a new streams file: what it no longer has is dropped at once."""
        self._count(now)
        if streams != self.desired:
            self.desired, self.mounted_at = streams, now
            self.carried &= streams

    def acknowledge(self, now: float) -> None:
        """Have the venue acknowledge all that was asked for."""
        self._count(now)
        self.carried = self.desired

    def problem(self) -> str | None:
        """Return why it is not ready."""
        missing = len(self.desired - self.carried)
        if missing and self.role == "ingestor":
            return self.failing or f"{missing} of {len(self.desired)} streams are not acknowledged"
        return self.failing

    def answer(self, path: str, now: float) -> Answer:
        """Answer a GET as the real services do."""
        self._count(now)
        problem = self.problem()
        state: Answer = (503, {"status": "unhealthy", "reason": problem}) if problem else (200, {"status": "ok"})
        pairs = sorted({stream.partition("@")[0] for stream in self.desired})
        known: dict[str, Answer] = {
            "/livez": (200, {"status": "ok"}),
            "/readyz": state,
            "/health": (state[0], {**state[1], "stats": self.stats(now)}),
            "/stats": (200, self.stats(now)),
            "/pairs": (200, {"count": len(pairs), "pairs": pairs}),
        }
        if self.role == "ingestor":
            known["/streams"] = 200, {"desired": sorted(self.desired), "carried": sorted(self.carried)}
        return known.get(path, (404, {"error": f"try {' '.join(known)}"}))

    def stats(self, now: float) -> dict[str, Any]:
        """Return the figures, with what a test wants them to be."""
        figures: dict[str, Any] = {}
        if self.role == "ingestor":
            figures = self._ingestor()
        elif self.role == "consumer":
            figures = self._consumer(now)
        return {**figures, **self.overrides}

    def _count(self, now: float) -> None:
        elapsed_s = max(0.0, now - (self.counted_at or self.started_at))
        sources = len(self.carried) if self.role == "ingestor" else 1
        self.counted += elapsed_s * self.rate * sources
        self.counted_at = now

    def _ingestor(self) -> dict[str, Any]:
        total, flowing = int(self.counted), bool(self.carried) and self.rate > 0
        return {
            "feed": self.feed,
            "shard": self.name,
            "exchange": self.exchange,
            "active_connections": int(bool(self.desired)),
            "streams": {
                "desired": len(self.desired),
                "subscribed": len(self.carried),
                "fresh": len(self.carried) if flowing else 0,
            },
            "pairs_count": len({stream.partition("@")[0] for stream in self.desired}),
            "total_messages": total,
            "messages_per_second": round(self.rate * len(self.carried), 1),
            "publish_count": total,
            "error_count": 0,
            "bad_frames": 0,
            "pending": 0,
            "last_message_age_s": 0.05 if flowing else None,
            "reconnects": 0,
        }

    def _consumer(self, now: float) -> dict[str, Any]:
        rows = int(self.counted)
        return {
            "feed": self.feed,
            "sink": self.name,
            "rows_stored": rows,
            "rows_duplicate": 0,
            "dead_letters": 0,
            "error_count": 0,
            "lag_records": 0,
            "lag_seconds": 0.4,
            "last_commit_age_s": 0.8,
            "assigned_partitions": 3,
            "proof": {
                "window_s": 300,
                "checked_at": now,
                "missing": 0,
                "expected": rows,
                "stored": rows,
                "unprovable_streams": 0,
            },
        }
