"""A pod of each kind killed, one after another on one feed: what is stored stays the truth, once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stand.cluster import Object, is_ready, uid
from stand.feeds import Feeds
from stand.install import OPERATOR_NAMESPACE, PLATFORM_NAMESPACE
from stand.lease import leader
from stand.scenario import READY_S, Stopwatch, Tell

_PLATFORM = {"broker": "kafka", "database": "postgresql"}


@pytest.mark.parametrize("kind", ["consumer", "broker", "database", "operator", "ingestor"])
def test_a_killed_pod_costs_nothing_but_its_own_connection(
    feeds: Feeds, kind: str, tell: Tell, watch: Stopwatch
) -> None:
    """The feed is ready again, nothing is there twice, and only what nobody was connected for is missing.

    Neither broker nor database that goes away restarts a pod of the feed.
    """
    killed = feeds.killed
    killed.wait("Ready")
    killed.wait_for_rows(100)
    before = killed.identities()
    victim = _find(feeds, kind)()
    _kill(feeds, victim)
    place = str(victim["metadata"]["namespace"])
    feeds.stand.cluster.until(
        lambda: _replaced(_find(feeds, kind), victim), READY_S, f"another {kind} to be ready", place, killed.namespace
    )
    if kind in ("broker", "database"):
        assert killed.identities() == before
    killed.wait("Ready")
    killed.wait_for_rows(200)
    tell(killed.prove(f"{kind} killed", watch, nothing_missing=kind != "ingestor"))


def _find(feeds: Feeds, kind: str) -> Callable[[], Object]:
    cluster = feeds.stand.cluster
    if kind in _PLATFORM:
        return lambda: cluster.get("pod", f"{_PLATFORM[kind]}-0", PLATFORM_NAMESPACE) or {}
    if kind == "operator":
        return lambda: leader(cluster, OPERATOR_NAMESPACE) or {}
    return lambda: next(iter(feeds.killed.pods(kind)), {})


def _kill(feeds: Feeds, pod: Object) -> None:
    """Delete a pod with one second's grace: SIGTERM, and SIGKILL for what is not gone by then."""
    where = f"--namespace={pod['metadata']['namespace']}"
    feeds.stand.cluster.kubectl("delete", "pod", pod["metadata"]["name"], where, "--grace-period=1", "--wait=false")


def _replaced(find: Callable[[], Object], victim: Object) -> bool:
    found = find()
    return bool(found) and uid(found) != uid(victim) and is_ready(found)
