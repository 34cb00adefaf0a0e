"""The feeds of the operator's benchmark, and the objects that each of them is to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from marketfeed_operator.objects import KAFKA_TOPIC_V1BETA2, Manifest, Served
from marketfeed_operator.plan import Defaults, plan
from marketfeed_operator.render import Installation, Owner, render
from marketfeed_operator.spec import parse

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
NAMESPACES = 10
"""Feeds are spread over so many namespaces, each with one Secret that its feeds share."""
SECRET = "timescale"
SERVED = Served(KAFKA_TOPIC_V1BETA2, spark_application=True, pod_monitor=True)


def documents(prefix: str, count: int) -> list[dict[str, Any]]:
    """Return MarketFeeds with topics of their own: one shard, one sink, a streaming job."""
    return [document(f"{prefix}-{number:03d}", f"{prefix}-{number % NAMESPACES}", prefix) for number in range(count)]


def namespaces(prefix: str) -> list[str]:
    """Return the namespaces of those feeds; their topics are in the last one."""
    return [*(f"{prefix}-{number}" for number in range(NAMESPACES)), f"{prefix}-kafka"]


def document(name: str, namespace: str, prefix: str) -> dict[str, Any]:
    """Return one MarketFeed."""
    names = {"trade": f"{name}.trades", "bookTicker": f"{name}.book"}
    return {
        "apiVersion": "marketfeed.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "exchange": "binance",
            "symbols": list(SYMBOLS),
            "channels": list(names),
            "kafka": {"topics": {"namespace": f"{prefix}-kafka", "cluster": "kafka", "names": names}},
            "deadLetter": {"topic": f"{name}.dlq"},
            "sinks": [{"name": "timescale", "type": "timescaledb", "secretRef": {"name": SECRET, "key": "dsn"}}],
            "analytics": {"checkpoint": {"volumeClaim": "checkpoints"}},
        },
    }


def children(given: Mapping[str, Any], uid: str = "nobody") -> Sequence[Manifest]:
    """Return the objects that the feed asks for, in the order in which they are written."""
    metadata = given["metadata"]
    feed = parse(given, metadata["name"])
    made = plan(feed, Defaults())
    holdings = {shard.name: frozenset(map(str, shard.streams)) for shard in made.shards}
    owner = Owner(metadata["name"], metadata["namespace"], uid)
    secrets = {SECRET: "1:1"}
    return render(made, feed, owner, Installation(), SERVED, holdings=holdings, secrets=secrets)
