"""The operator behind a proxy that fails, hangs, drops and goes mute: whatever the API server does, feeds come right.

What does not live here: what a single call does about a fault (test_cluster_client), and outages (test_availability).
"""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from controlplane import ControlPlane
from helpers import wait_until
from operators import NAMESPACE, Feeds, OperatorProcess, operator
from replicas import KAFKA, LATE_S, REPLICAS, apply_all, held, settle, settled
from standins.proxy import FaultProxy, Seen

FOR_EVER = 10**6
BEFORE, AFTER = ("BTCUSDT", "ETHUSDT"), ("BTCUSDT", "ETHUSDT", "SOLUSDT")
SOON_S = 15.0
"""Longer than any wait of the operator's own that these tests provoke, shorter than its comparison with the cluster."""
AGENT = "marketfeed-operator/"


@pytest.fixture(scope="module")
def proxy(quiet_control_plane: ControlPlane) -> Iterator[FaultProxy]:
    """Stand before the API server; the operator alone goes through."""
    with FaultProxy(quiet_control_plane.kubeconfig) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def through_proxy(quiet_control_plane: ControlPlane, proxy: FaultProxy) -> Iterator[Any]:
    """Return what starts an operator behind the proxy."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="marketfeed-test-")))

        def start(stack: ExitStack, **settings: Any) -> OperatorProcess:
            asked = ["create", "token", REPLICAS[0], f"--namespace={NAMESPACE}"]
            token = quiet_control_plane.kubectl(*asked).stdout.strip()
            name = f"operator-{secrets.token_hex(2)}"
            kubeconfig = proxy.kubeconfig(folder / f"{name}.account", token)
            process = stack.enter_context(
                operator(quiet_control_plane, folder, name=name, kubeconfig=kubeconfig, lease_s=10.0, **settings)
            )
            wait_until(process.leads, LATE_S, "the operator to lead", every_s=0.1)
            return process

        yield start


@pytest.fixture(scope="module")
def shared(through_proxy: Any) -> Iterator[OperatorProcess]:
    """Run the operator that meets one fault after the other; it compares only every five minutes, as usual."""
    with ExitStack() as stack:
        yield through_proxy(stack, request_timeout_s=2.0)


@pytest.fixture
def feeds(quiet_feeds: Feeds, proxy: FaultProxy, shared: OperatorProcess) -> Iterator[Feeds]:
    """Return a settled feed, named spot, of an operator that is still the same process afterwards."""
    shared.assert_alive()
    apply_all(quiet_feeds, ["spot"], BEFORE)
    settle(quiet_feeds, ["spot"], BEFORE)
    yield quiet_feeds
    proxy.clear()
    shared.assert_alive()


def _change(feeds: Feeds, proxy: FaultProxy, timeout_s: float = SOON_S) -> None:
    """Change the feed, and wait until that is done and every fault has struck."""
    apply_all(feeds, ["spot"], AFTER)
    settle(feeds, ["spot"], AFTER, timeout_s)
    wait_until(lambda: not proxy.unspent, timeout_s, "the faults to strike", every_s=0.1)


def _ours(seen: tuple[Seen, ...]) -> list[Seen]:
    """Return the operator's own requests, without those of the lease and of the watches."""
    return [each for each in seen if each.agent.startswith(AGENT) and "/leases" not in each.path]


def test_a_passing_conflict_is_tried_again(feeds: Feeds, proxy: FaultProxy) -> None:
    """409 because somebody wrote at the same moment: the same write is made soon after, without another cause."""
    proxy.fail(
        409, times=2, verb="apply", path=f"{feeds.namespace}/configmaps/", message="the object has been modified"
    )
    _change(feeds, proxy)


def test_a_refusal_is_told_and_not_hammered(feeds: Feeds, proxy: FaultProxy) -> None:
    """422 becomes a condition with the API server's sentence; the write is not repeated in a storm, and heals."""
    sentence = 'Deployment.apps "spot" is invalid: spec.template: Invalid value: no such thing'
    path = f"{feeds.namespace}/deployments/"
    proxy.fail(422, times=FOR_EVER, verb="apply", path=path, message=sentence)
    apply_all(feeds, ["spot"], BEFORE, ingest={"resources": {"requests": {"cpu": "123m"}}})
    condition = feeds.wait("IngestReady", "False")
    assert sentence in condition["message"]
    assert sentence in feeds.wait("Ready", "False")["message"]
    begun = len(proxy.seen(verb="apply", path=path))
    feeds.kubectl("annotate", "marketfeed", "spot", "look=again")
    wait_until(lambda: len(proxy.seen(verb="apply", path=path)) > begun, SOON_S, "another look", every_s=0.1)
    time_of_rest = time.monotonic() + 3.0
    wait_until(lambda: time.monotonic() > time_of_rest, 10, "three seconds")
    assert len(proxy.seen(verb="apply", path=path)) <= begun + 6
    proxy.clear()
    feeds.kubectl("annotate", "marketfeed", "spot", "look=once-more", "--overwrite")

    def asked() -> bool:
        found = feeds.get("deployment", "spot-ingestor-0")
        assert found is not None
        return '"123m"' in json.dumps(found["spec"])

    wait_until(asked, SOON_S, "the change", every_s=0.2)
    wait_until(lambda: sentence not in json.dumps(feeds.status()), SOON_S, "the sentence to go", every_s=0.2)


def test_retry_after_is_honoured_by_every_call(feeds: Feeds, proxy: FaultProxy) -> None:
    """After a 429 that asks for 3 s nothing but the lease is asked for in these 3 s; then the change is made."""
    proxy.fail(429, times=1, verb="apply", path=feeds.namespace, retry_after_s=3)
    _change(feeds, proxy)
    (throttled,) = [each for each in proxy.seen(verb="apply", path=feeds.namespace) if each.status == 429]
    after = [each.at - throttled.at for each in _ours(proxy.requests) if each.at > throttled.at]
    assert [wait_s for wait_s in after if 0.3 < wait_s < 3.0] == []
    assert min(wait_s for wait_s in after if wait_s >= 3.0) < 6


@pytest.mark.parametrize("status", [500, 503, 504])
def test_errors_of_the_api_server_pass(feeds: Feeds, proxy: FaultProxy, status: int) -> None:
    """Six errors in a row, of writes and reads alike, only delay a change; the last write was executed unseen."""
    proxy.fail(status, times=5, path=f"{feeds.namespace}/", verb="apply")
    proxy.fail(status, times=1, path=f"{feeds.namespace}/", verb="apply", executed=True)
    _change(feeds, proxy)


def test_a_hung_request_is_given_up(feeds: Feeds, proxy: FaultProxy) -> None:
    """A write that is never answered, and one that was executed unseen, only delay a change by the timeout."""
    proxy.hang(times=1, verb="apply", path=f"{feeds.namespace}/configmaps/")
    proxy.hang(times=1, verb="apply", path=f"{feeds.namespace}/configmaps/", executed=True)
    _change(feeds, proxy)


def test_answers_that_break_off_are_no_answers(feeds: Feeds, proxy: FaultProxy) -> None:
    """Writes, lists and watches that end in the middle of an answer are made again."""
    proxy.drop(times=2, verb="apply", path=feeds.namespace)
    proxy.drop(times=5, verb="watch")
    proxy.cut_watches()
    _change(feeds, proxy)


def test_watches_that_are_cut_come_back(feeds: Feeds, proxy: FaultProxy) -> None:
    """All watches cut at once, and refused three times: what is changed meanwhile is noticed."""
    proxy.fail(503, times=3, verb="watch", path="/marketfeeds")
    assert proxy.cut_watches() >= 9
    _change(feeds, proxy)


def test_a_version_that_is_too_old_is_no_end(feeds: Feeds, proxy: FaultProxy) -> None:
    """410 in every watch, and on the lists that follow: what is changed meanwhile is noticed."""
    assert proxy.expire_watches() >= 9
    _change(feeds, proxy)
    proxy.fail(500, times=3, verb="list", path="/marketfeeds")
    proxy.expire_watches("/marketfeeds")
    apply_all(feeds, ["spot"], BEFORE)
    settle(feeds, ["spot"], BEFORE, SOON_S)


def test_a_deletion_that_no_watch_told_is_healed(feeds: Feeds, proxy: FaultProxy) -> None:
    """What is deleted while the watches are blind, and is missing from their next list, is made again."""
    proxy.mute_watches("/services|/configmaps")
    feeds.kubectl("delete", "service,configmap", "--selector=marketfeed.dev/feed=spot")
    assert held(feeds) == {}
    proxy.expire_watches("/services|/configmaps")
    settle(feeds, ["spot"], BEFORE, SOON_S)
    wait_until(lambda: "Service" in {kind for kind, _ in feeds.children()}, SOON_S, "the service", every_s=0.2)


def test_a_feed_that_always_fails_starves_no_other(
    feeds: Feeds, proxy: FaultProxy, quiet_control_plane: ControlPlane
) -> None:
    """Ten feeds whose every write fails back off, and another feed's change is made within 5 s meanwhile."""
    bad = Feeds(quiet_control_plane, f"{feeds.namespace}-bad", KAFKA)
    quiet_control_plane.kubectl("create", "namespace", bad.namespace)
    path = f"/namespaces/{bad.namespace}/"
    proxy.fail(500, times=FOR_EVER, path=path, verb="apply")
    try:
        apply_all(bad, [f"bad{number}" for number in range(10)], BEFORE)
        wait_until(lambda: len(proxy.seen(verb="apply", path=path)) >= 20, SOON_S, "the failures", every_s=0.1)
        started = time.monotonic()
        apply_all(feeds, ["spot"], AFTER)
        wait_until(lambda: held(feeds).get("spot") == set(AFTER), SOON_S, "the other feed's change", every_s=0.1)
        assert time.monotonic() - started < 5
        settle(feeds, ["spot"], AFTER, SOON_S)

        def backs_off() -> bool:
            now, tries = time.monotonic(), [each.at for each in proxy.seen(verb="apply", path=path)]
            first, last = sum(at < tries[0] + 5 for at in tries), sum(at > now - 5 for at in tries)
            return now > tries[0] + 10 and last < first / 2

        wait_until(backs_off, LATE_S, "the tries to become rarer", every_s=0.5)
        proxy.clear()
        bad.kubectl("annotate", "marketfeeds", "--all", "look=again")
        wait_until(lambda: settled(bad, ["bad0", "bad9"], BEFORE), LATE_S, "the bad feeds to come right", every_s=0.3)
    finally:
        quiet_control_plane.kubectl("delete", "namespace", bad.namespace, "--wait=false")


def test_what_a_mute_watch_does_not_tell_is_found_and_healed(
    quiet_feeds: Feeds, proxy: FaultProxy, shared: OperatorProcess, through_proxy: Any
) -> None:
    """A watch stays open and says nothing of a deletion: the comparison finds it, and the child comes back."""
    shared.terminate()
    feeds = quiet_feeds
    with ExitStack() as stack:
        process = through_proxy(stack, resync_s=4.0)
        apply_all(feeds, ["spot"], BEFORE)
        settle(feeds, ["spot"], BEFORE)
        proxy.mute_watches("/configmaps", new=True)
        feeds.kubectl("delete", "configmap", "spot-ingestor-0")
        settle(feeds, ["spot"], BEFORE, SOON_S)
        assert process.entries("missed")
        proxy.clear()
        process.terminate()
