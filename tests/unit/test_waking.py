"""When a shard's pod is woken, and when it is woken again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from fake_cluster import FakeCluster
from marketfeed_operator.handover import streams_of
from marketfeed_operator.objects import STREAMS, Key, digest
from marketfeed_operator.observed import Sample
from marketfeed_operator.reconcile import reconcile
from marketfeed_operator.store import FeedName
from marketfeed_operator.waking import AGAIN_S, call, is_awake
from observations import feed
from observations import pod as running
from operator_tools import Clock, tools

NOW = 1_760_000_000.0
OLD, NEW = ("BTCUSDT@trade",), ("BTCUSDT@trade", "ETHUSDT@trade")


def config_map(streams: Iterable[str] = NEW) -> dict[str, Any]:
    """Return a shard's ConfigMap with these streams."""
    return {"data": {"streams.json": json.dumps({"streams": sorted(streams)})}}


def pod(annotation: str | None = None) -> dict[str, Any]:
    """Return a shard's pod that was woken like this."""
    return {"metadata": {"annotations": {} if annotation is None else {STREAMS: annotation}}}


def woken(streams: Iterable[str] = NEW, ago_s: float = 0.0) -> dict[str, Any]:
    """Return a shard's pod that was woken for these streams so long ago."""
    return pod(f"{digest(config_map(streams)['data'])}@{NOW - ago_s:.0f}")


def sample(streams: Iterable[str] | None, ago_s: float = 0.0) -> Sample:
    """Return what a pod said so long ago; None: it says nothing of its streams."""
    return Sample("spot-a", NOW - ago_s, {}, desired=None if streams is None else frozenset(streams))


@pytest.mark.parametrize("before", [pod(), woken(OLD), pod(""), pod("nonsense@soon")], ids=str)
def test_streams_that_a_pod_was_not_told_of_wake_it_at_once(before: dict[str, Any]) -> None:
    """Whatever the annotation was, it becomes one that no earlier call had, and that call is not made twice."""
    annotation = call(before, config_map(), sample(OLD), NOW)
    assert annotation is not None
    assert annotation not in before["metadata"]["annotations"].values()
    assert call(pod(annotation), config_map(), sample(OLD), NOW) is None


def test_a_pod_that_stays_with_its_old_streams_is_woken_again_and_again() -> None:
    """A kubelet that mounted an old copy once looks again: each call differs from the last one, and takes its time."""
    before = woken(ago_s=AGAIN_S)
    again = call(before, config_map(), sample(OLD), NOW)
    assert again is not None
    assert again != before["metadata"]["annotations"][STREAMS]
    later = NOW + AGAIN_S
    said = Sample("spot-a", later, {}, desired=frozenset(OLD))
    assert call(pod(again), config_map(), said, later - 1) is None
    assert call(pod(again), config_map(), said, later) not in (None, again)


@pytest.mark.parametrize(
    ("said", "ago_s"),
    [
        (sample(NEW), AGAIN_S),
        (sample(None), AGAIN_S),
        (None, AGAIN_S),
        (sample(OLD), AGAIN_S - 1),
        (sample(OLD, ago_s=AGAIN_S), AGAIN_S),
    ],
    ids=["works by them", "does not say", "was not asked", "too early", "said so before it was woken"],
)
def test_a_pod_that_may_have_heard_is_left_alone(said: Sample | None, ago_s: float) -> None:
    """A write needs a reason: an answer that is new enough and names other streams."""
    assert call(woken(ago_s=ago_s), config_map(), said, NOW) is None


@pytest.mark.parametrize(
    ("said", "awake"), [(sample(NEW), True), (sample(OLD), False), (sample(None), True), (None, True)], ids=str
)
def test_a_pod_is_awake_unless_it_says_otherwise(said: Sample | None, awake: bool) -> None:  # noqa: FBT001
    """Looking again ends: with the right streams, and with a pod that does not answer."""
    assert is_awake(woken(), config_map(), said) is awake
    assert not is_awake(woken(OLD), config_map(), said), "it has not been told of them"


SHARD, POD_NAME = "spot-ingestor-0", "spot-ingestor-0-x"
CONFIG_MAP_KEY, POD_KEY = Key("", "ConfigMap", "md", SHARD), Key("", "Pod", "md", POD_NAME)


def test_a_reconciliation_wakes_a_pod_after_the_update_and_looks_whether_it_heard() -> None:
    """The annotation follows the ConfigMap's answer; a pod that did not hear is called again, one that did is not."""
    cluster, clock = FakeCluster(), Clock()
    replica = tools(cluster, now=clock)
    replica.store.put(cluster.put(feed()))
    replica.store.put(cluster.put(_ingestor()))

    def look(after_s: float, streams: frozenset[str]) -> tuple[list[str], float | None]:
        """Reconcile so much later, with a pod that works by these streams; return what was written, and when again."""
        clock.now += timedelta(seconds=after_s)
        said = Sample(POD_NAME, clock.now.timestamp(), {}, desired=streams)
        replica.store.samples["md", POD_NAME] = said
        cluster.calls.clear()
        again = asyncio.run(reconcile(FeedName("md", "spot"), replica))
        return [key for _, key in cluster.written() if key in (str(CONFIG_MAP_KEY), str(POD_KEY))], again.after_s

    nothing: frozenset[str] = frozenset()
    assert look(0, nothing) == ([str(CONFIG_MAP_KEY), str(POD_KEY)], AGAIN_S)
    assert look(AGAIN_S - 1, nothing) == ([], AGAIN_S)
    assert look(1, nothing) == ([str(POD_KEY)], AGAIN_S)
    written = cluster.at(CONFIG_MAP_KEY)
    assert written is not None
    heard, again_s = look(AGAIN_S, streams_of(written))
    assert heard == []
    assert again_s is None or again_s > AGAIN_S


def _ingestor() -> dict[str, Any]:
    """Return a running pod of the feed's first shard."""
    labels = {"marketfeed.dev/feed": "spot", "marketfeed.dev/shard": SHARD, "app.kubernetes.io/component": "ingestor"}
    made = running(SHARD)
    return {**made, "metadata": {**made["metadata"], "name": POD_NAME, "labels": labels}}
