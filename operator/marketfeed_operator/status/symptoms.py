"""What the services' own words mean: the reason, for a condition, of what a pod's `/health` says.

What does not live here: asking the services (sampler), and which condition says it (flow, workloads).
"""

from __future__ import annotations

_TROUBLES = ("database: ", "no kafka broker ", "kafka at ")
"""What a service that starts may wait for in vain; for all else it waits as it should."""

_REASONS = (
    ("does not answer", "NotAnswering"),
    ("database: ", "DatabaseUnavailable"),
    ("dead-letter topic", "NotHealthy"),
    ("does not serve this country", "GeoBlocked"),
    ("http 451", "GeoBlocked"),
    ("banned", "Banned"),
    ("http 418", "Banned"),
    ("http 429", "RateLimited"),
    ("too many connection attempts", "RateLimited"),
    ("firewall", "Forbidden"),
    ("streams file", "StreamsUnreadable"),
    ("kafka", "KafkaUnreachable"),
    ("topic ", "TopicMissing"),
    ("refuses", "StreamRefused"),
    ("not acknowledged", "Subscribing"),
    ("no frame", "Stale"),
    ("no record", "Stale"),
    ("silent", "Stale"),
    ("stale", "Stale"),
    ("no connection", "Disconnected"),
    ("connection", "Disconnected"),
)
"""The first that fits. Those of a refused connection come before the others."""


def reason_of(problem: str) -> str:
    """Return the reason that a service's own words stand for; "NotHealthy" for words that nobody has met."""
    lowered = problem.lower()
    if lowered.startswith("starting") and not lowered.removeprefix("starting: ").startswith(_TROUBLES):
        return "Starting"
    return next((reason for words, reason in _REASONS if words in lowered), "NotHealthy")
