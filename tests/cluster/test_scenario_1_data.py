"""Data flows, and the table equals the truth: undisturbed, with symbols that come and go, and over a suspension."""

from __future__ import annotations

import json

from stand import Stand
from stand.cluster import is_ready
from stand.feeds import Feeds
from stand.install import FEED, FEED_NAMESPACE, OPERATOR_NAMESPACE, PLATFORM_NAMESPACE
from stand.scenario import Figures, Stopwatch, Tell

_SOON_S = 60.0


def test_the_example_feed_is_ready_and_healthy(stand: Stand, tell: Tell, watch: Stopwatch) -> None:
    """What the documentation says to ask is answered: releases, conditions, and /health through the API server."""
    cluster = stand.cluster
    releases = {one["name"]: one["status"] for one in json.loads(cluster.helm("ls", "--all-namespaces", "-o", "json"))}
    assert releases == {"platform": "deployed", "marketfeed": "deployed"}
    where = f"--namespace={FEED_NAMESPACE}"
    cluster.kubectl("wait", where, "--for=condition=Ready", f"marketfeed/{FEED}", "--timeout=5m", timeout_s=310)
    for component in ("ingestor", "consumer"):
        path = f"/api/v1/namespaces/{FEED_NAMESPACE}/services/{FEED}-{component}:http/proxy/health"
        assert json.loads(cluster.raw(path))["status"] == "healthy"
    pods = [pod for place in ("kafka", "marketfeed", FEED_NAMESPACE) for pod in cluster.pods(place)]
    assert [pod["metadata"]["name"] for pod in pods if not is_ready(pod)] == []
    tell(Figures("the example feed answers", watch.seconds))


def test_the_charts_find_themselves_in_order(stand: Stand, tell: Tell, watch: Stopwatch) -> None:
    """`helm test` of each release asks every component from a pod, and leaves no pod behind."""
    cluster = stand.cluster
    for release, place in (("platform", PLATFORM_NAMESPACE), ("marketfeed", OPERATOR_NAMESPACE)):
        assert "Phase:          Succeeded" in cluster.helm("test", release, f"--namespace={place}")
        assert not [pod for pod in cluster.pods(place) if pod["metadata"]["name"].endswith("-test")]
    tell(Figures("helm test of both charts", watch.seconds))


def test_the_table_equals_the_truth(feeds: Feeds, tell: Tell, watch: Stopwatch) -> None:
    """Every record that the venue issued is stored just so and once, from its first id on."""
    flow = feeds.flow
    flow.wait("Ready")
    flow.wait_for_rows(3000)
    flow.wait("DataFlowing")
    tell(flow.prove("the table equals the truth", watch, nothing_missing=True))


def test_symbols_come_and_go_without_a_restart(feeds: Feeds, tell: Tell, watch: Stopwatch) -> None:
    """A new symbol's data arrives and a removed one's ends, while every pod stays the one that it was."""
    flow = feeds.flow
    flow.wait("Ready")
    before = flow.identities()
    flow.change_symbols(add="SOLUSDT")
    flow.until(lambda: flow.rows("SOLUSDT"), _SOON_S, "records of the new symbol")
    flow.change_symbols(remove="BNBUSDT")
    flow.until(
        lambda: "bnbusdt@trade" not in flow.market()["subscribed"], _SOON_S, "the removed symbol's streams to be let go"
    )
    flow.wait_for_rows(500)
    flow.wait("Ready")
    assert flow.identities() == before
    tell(flow.prove("a symbol added, another removed", watch, nothing_missing=True))


def test_suspend_and_resume(feeds: Feeds, tell: Tell, watch: Stopwatch) -> None:
    """A suspended feed runs nothing and keeps what it has; resumed, it lacks just what was issued meanwhile."""
    flow = feeds.flow
    flow.wait("Ready")
    flow.wait_for_rows(100)
    try:
        flow.patch(suspend=True)
        flow.wait("Suspended")
        assert flow.condition("Ready")["reason"] == "Suspended"
        assert flow.identities() == {}
        stored = flow.rows()
        assert stored
    finally:  # later scenarios need what flows
        flow.patch(suspend=False)
    flow.wait("Ready")
    flow.wait_for_rows(500)
    tell(flow.prove("suspended and resumed", watch, nothing_missing=False))
