"""What a reconciliation works with, over a fake API server: for tests of the operator's shells without a process."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry

from fake_cluster import FakeCluster
from marketfeed_operator.direct import Topics
from marketfeed_operator.metrics import OperatorMetrics
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import Manifest
from marketfeed_operator.plan import Defaults, Plan
from marketfeed_operator.reconcile import Tools
from marketfeed_operator.render import Installation
from marketfeed_operator.secret_versions import SecretVersions
from marketfeed_operator.store import FeedName, Store
from observations import NOW


class FakeTopics(Topics):
    """A fake of the direct topics: it notes whose are needed and removed, and asks no broker."""

    def __init__(self, again_s: float | None = None) -> None:
        self.again_s = again_s
        self.needed: list[FeedName] = []
        self.removed: list[tuple[FeedName, Manifest]] = []

    def need(self, name: FeedName, body: Manifest, feed: MarketFeed, made: Plan) -> float | None:
        """Note the need."""
        del body, feed, made
        self.needed.append(name)
        return self.again_s

    def remove(self, name: FeedName, body: Manifest) -> None:
        """Note the removal."""
        self.removed.append((name, body))


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


def tools(cluster: FakeCluster, **changes: Any) -> Tools:
    """Return the tools of a replica that leads."""
    store = changes.pop("store", None) or Store(served=cluster.served_now)
    usual: dict[str, Any] = {
        "cluster": cluster,
        "store": store,
        "secrets": SecretVersions(cluster, store, lambda _: None),
        "direct": FakeTopics(),
        "metrics": OperatorMetrics(CollectorRegistry()),
        "installation": Installation("services:1", "analytics:1", "IfNotPresent", ()),
        "defaults": Defaults(),
        "status_s": 30.0,
        "now": Clock(),
    }
    return Tools(**{**usual, **changes})
