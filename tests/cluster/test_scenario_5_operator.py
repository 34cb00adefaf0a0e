"""The operator itself: one replica takes over from another, a new version is rolled out and taken back."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import images
from stand import Stand, install
from stand.archives import retagged
from stand.background import loaded
from stand.cluster import is_ready
from stand.feeds import Feeds
from stand.lease import holder
from stand.scenario import Figures, Stopwatch, Tell

_FAIL_OVER_S, _HEALED_S = 15.0, 15.0
_PLACE = install.OPERATOR_NAMESPACE
_OPERATOR = "operator"


def test_another_replica_takes_over(stand: Stand, feeds: Feeds, tell: Tell, watch: Stopwatch) -> None:
    """When the leader freezes, another holds the Lease within 15 s, and mends what is deleted by hand."""
    cluster, flow = stand.cluster, feeds.flow
    flow.wait("Ready")
    cluster.until(lambda: _ready_replicas(stand) == 2, 60, "two ready replicas", _PLACE)
    old = holder(cluster, _PLACE)
    pid = stand.container_pid(_PLACE, old, _OPERATOR)
    os.kill(pid, signal.SIGSTOP)
    try:
        frozen = Stopwatch()
        cluster.until(lambda: holder(cluster, _PLACE) not in ("", old), _FAIL_OVER_S, "another to lead", _PLACE)
        seconds = frozen.seconds
        service = f"{flow.name}-ingestor"
        cluster.kubectl("delete", "service", service, f"--namespace={flow.namespace}")
        flow.until(lambda: cluster.get("service", service, flow.namespace), _HEALED_S, "the deleted Service to be back")
    finally:
        with suppress(ProcessLookupError):  # the kubelet may have ended it
            os.kill(pid, signal.SIGCONT)
    cluster.until(lambda: _ready_replicas(stand) == 2, 90, "both replicas to be ready again", _PLACE)
    assert holder(cluster, _PLACE) != old
    flow.wait("Ready")
    tell(Figures(f"the operator's fail-over ({seconds:.1f} s)", watch.seconds))


def _ready_replicas(stand: Stand) -> int:
    return sum(map(is_ready, stand.cluster.pods(_PLACE, "app.kubernetes.io/component=operator")))


def test_upgrade_and_rollback(stand: Stand, feeds: Feeds, tell: Tell, watch: Stopwatch, tmp_path: Path) -> None:
    """A new image tag replaces every pod of a feed, and a rollback does so again; nothing that flows is lost."""
    cluster, flow = stand.cluster, feeds.flow
    feeds.end_disturbed()
    flow.wait("Ready")
    before = flow.prove("before", watch, nothing_missing=False)
    pods = flow.identities()
    old = stand.services_image
    new = f"{old.rpartition(':')[0]}:next"
    stand.load(retagged(images.provide("services").archive, new, tmp_path / "next.tar"))
    install.operator(cluster, loaded(), stand.folder, "--set=services.image.tag=next", "--set=logLevel=DEBUG")
    flow.until(lambda: _images(feeds) == {new}, 180, f"every pod of {flow.name} to run {new}")
    flow.wait("Ready")
    assert not pods.keys() & flow.identities().keys()
    flow.wait_for_rows(200)
    cluster.helm("rollback", install.OPERATOR, f"--namespace={_PLACE}", "--wait", "--timeout=5m")
    flow.until(lambda: _images(feeds) == {old}, 180, f"every pod of {flow.name} to run {old} again")
    flow.wait("Ready")
    flow.wait_for_rows(200)
    after = flow.prove("upgraded and rolled back", watch, nothing_missing=False)
    assert after.missing == before.missing
    tell(after)


def _images(feeds: Feeds) -> set[str]:
    """Return the images of a feed's pods, none while one of them is still to be replaced."""
    pods = [*feeds.flow.pods("ingestor"), *feeds.flow.pods("consumer")]
    if len(pods) != 2 or not all(map(is_ready, pods)):
        return set()
    return {container["image"] for pod in pods for container in pod["spec"]["containers"]}
