"""Valid MarketFeeds of every shape, for tests that claim something about all of them.

Resources and pod templates are left out: what a person overlays is that person's.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from marketfeed_operator.models import MarketFeed
from marketfeed_operator.spec import parse

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
SYMBOLS = st.from_regex(r"[A-Z0-9]{2,6}(USDT|BTC|EUR)", fullmatch=True)
TOPICS = st.from_regex(r"[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,40}", fullmatch=True)
CHANNELS = ("trade", "aggTrade", "bookTicker")
STREAMS_PER_SHARD = 4
"""Small, so that few symbols already make several shards."""


def feeds(**fixed: Any) -> st.SearchStrategy[MarketFeed]:
    """Generate feeds that can be planned; `fixed` are documents' sections of `spec` that are to be as given."""
    return documents(**fixed).map(parse)


@st.composite
def documents(draw: st.DrawFn, /, **fixed: Any) -> dict[str, Any]:
    """Generate the documents of such feeds, as an API server holds them."""
    kafka = fixed.get("kafka") or draw(_kafka())
    sinks = fixed["sinks"] if "sinks" in fixed else draw(_sinks(kafka=kafka["enabled"]))
    spec = {
        "exchange": "binance",
        "symbols": draw(st.lists(SYMBOLS, min_size=1, max_size=7, unique=True)),
        "channels": draw(st.lists(st.sampled_from(CHANNELS), min_size=1, unique=True)),
        "ingest": {"streamsPerShard": STREAMS_PER_SHARD, "maxShards": 100},
        "kafka": kafka,
        "sinks": sinks,
        "deadLetter": {"topic": f"dead{draw(st.sampled_from('-_.'))}letters"},
        "deletionPolicy": draw(st.sampled_from(["Retain", "Delete"])),
        "suspend": draw(st.booleans()),
        **fixed,
    }
    if "analytics" not in fixed and kafka["enabled"] and sinks and draw(st.booleans()):
        spec["analytics"] = draw(_analytics())
    return {
        "apiVersion": "marketfeed.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"name": draw(NAMES), "namespace": "market", "uid": str(draw(st.uuids()))},
        "spec": spec,
    }


@st.composite
def _kafka(draw: st.DrawFn) -> dict[str, Any]:
    topics = {
        "provisioner": draw(st.sampled_from(["strimzi", "direct"])),
        "namespace": draw(st.sampled_from(["kafka", "market"])),
        "partitions": draw(st.integers(1, 12)),
        "replicas": draw(st.integers(1, 5)),
        "retention": draw(st.sampled_from(["36h", "7d"])),
        "names": draw(st.dictionaries(st.sampled_from(CHANNELS), TOPICS)),
    }
    return {
        "enabled": draw(st.booleans()),
        "topics": topics,
        "producer": {"queueBytes": draw(st.sampled_from([1 << 20, 1 << 25, 1 << 30]))},
        "security": draw(st.sampled_from(SECURITY)),
    }


SECURITY: tuple[dict[str, Any], ...] = (
    {"protocol": "PLAINTEXT"},
    {"protocol": "SSL", "caSecretRef": {"name": "kafka-ca", "key": "ca.crt"}},
    {"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", "credentialsSecretRef": {"name": "kafka-user"}},
    {
        "protocol": "SASL_SSL",
        "mechanism": "SCRAM-SHA-512",
        "credentialsSecretRef": {"name": "kafka.user", "usernameKey": "user", "passwordKey": "password"},
        "caSecretRef": {"name": "kafka.user", "key": "authority.pem"},
    },
)
"""Every way to reach the brokers; in the last one secret holds everything."""


@st.composite
def _sinks(draw: st.DrawFn, *, kafka: bool) -> list[dict[str, Any]]:
    if not kafka:
        return draw(st.sampled_from([[], [{"name": "console", "type": "stdout"}]]))
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    return [
        {
            "name": name,
            "type": draw(st.sampled_from(["timescaledb", "postgresql"])),
            "secretRef": {"name": f"{name[:20].rstrip('-')}.database", "key": "dsn"},
            "replicas": draw(st.integers(1, 4)),
            "batch": {"rows": draw(st.sampled_from([500, 100_000]))},
        }
        for name in names
    ]


@st.composite
def _analytics(draw: st.DrawFn) -> dict[str, Any]:
    checkpoint = draw(st.sampled_from([{}, {"location": "s3a://bucket/path"}, {"volumeClaim": "progress"}]))
    return {
        "tradeWindow": draw(st.sampled_from(["1m", "5m"])),
        "alerts": {"spread": draw(st.sampled_from([2.5, 3.0]))},
        "checkpoint": checkpoint,
        "executor": {"instances": draw(st.integers(1, 3))},
    }
