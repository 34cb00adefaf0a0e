"""The streaming job by the real Spark operator, a driver and an executor pod: killed, frozen, changed, never wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import restricted
import rights
from stand import accounts, spark
from stand.cluster import Object, uid
from stand.feeds import Feeds
from stand.scenario import Figures, Stopwatch, Tell
from stand.streaming import STARTED_S, StreamingFeed

_CONTROLLER = "deployment/spark-operator-controller"
_GONE_S = 120.0
_NOTICED_S = 120.0
_SELDOM = {("", "pods", "delete"), ("", "pods", "deletecollection"), ("", "configmaps", "deletecollection")}
"""What a driver asks when it gives an executor up, and at its end where it has the time for one in order."""
_MORE = 12  # windows: of three symbols about two lengths' worth


@pytest.fixture(scope="module")
def streaming(feeds: Feeds, progress: Callable[[str], None]) -> Iterator[StreamingFeed]:
    """Return a feed whose streaming job is about to start; afterwards the Spark operator goes."""
    feed = feeds.streaming
    feed.stand.make_namespace(feed.namespace)
    try:
        spark.set_up(feed.stand, feed.namespace, progress)
        feed.begin_with_job()
        yield feed
    finally:
        feed.delete()
        feed.end()
        feeds.await_gone(feed, timeout_s=_GONE_S)
        feed.give_back_volume()
        spark.take_down(feed.stand)


def test_the_job_runs_and_its_windows_are_right(streaming: StreamingFeed, tell: Tell, watch: Stopwatch) -> None:
    """Driver and executor run, AnalyticsReady says so, and the windows are what the stored records make."""
    streaming.await_job()
    streaming.await_windows(_MORE)
    state = streaming.job()["status"]["applicationState"]["state"]
    assert state == "RUNNING"
    tell(_figures("spark: the job runs", streaming, watch))


def test_each_pod_passes_the_restricted_profile_and_has_its_own_rights(streaming: StreamingFeed) -> None:
    """Driver, executor and the Spark operator pass it; the executor holds no token, the feed's policies are there."""
    driver, (executor, *_) = streaming.await_job(), streaming.job_pods("executor")
    cluster = streaming.stand.cluster
    for pod in (driver, executor, *cluster.pods(spark.NAMESPACE)):
        assert restricted.violations(pod) == [], pod["metadata"]["name"]
    assert executor["spec"]["automountServiceAccountToken"] is False
    assert driver["spec"]["serviceAccountName"] != executor["spec"]["serviceAccountName"]
    policies = {one["metadata"]["name"] for one in cluster.items("networkpolicies", streaming.namespace)}
    assert any(name.endswith("-analytics") for name in policies), policies


def test_thresholds_are_taken_over_by_the_running_driver(
    streaming: StreamingFeed, tell: Tell, watch: Stopwatch
) -> None:
    """A lower threshold raises alerts in new windows; driver and executor are those of before."""
    driver = streaming.await_job()
    raised = streaming.alerts()
    streaming.patch(analytics={"alerts": {"volatility": 0.0000001}})
    streaming.until(lambda: streaming.alerts() > raised, STARTED_S, "an alert by the new threshold")
    assert uid(streaming.driver()) == uid(driver)
    tell(_figures("spark: thresholds changed", streaming, watch))


def test_a_killed_driver_comes_again(streaming: StreamingFeed, tell: Tell, watch: Stopwatch) -> None:
    """The Spark operator starts another driver, which goes on from the checkpoint; no window counts anything twice."""
    driver = streaming.await_job()
    streaming.stand.cluster.kubectl(
        "delete", "pod", driver["metadata"]["name"], f"--namespace={streaming.namespace}", "--now", "--wait=false"
    )
    streaming.await_job(not_driver=driver)
    streaming.await_windows(_MORE)
    tell(_figures("spark: driver killed", streaming, watch))


def test_a_frozen_driver_is_ended_and_comes_again(streaming: StreamingFeed, tell: Tell, watch: Stopwatch) -> None:
    """A driver that answers nothing fails its liveness; the kubelet ends it, and another one goes on."""
    driver = streaming.await_job()
    _freeze(streaming, driver)
    streaming.until(
        lambda: uid(streaming.driver() or driver) != uid(driver) or not streaming.driver(),
        _NOTICED_S,
        "the kubelet to end the frozen driver",
    )
    streaming.await_job(not_driver=driver)
    streaming.await_windows(_MORE)
    tell(_figures("spark: driver frozen", streaming, watch))


def test_a_changed_job_is_started_again(streaming: StreamingFeed, tell: Tell, watch: Stopwatch) -> None:
    """Another trigger is another job: its driver is replaced, and no window is wrong."""
    driver = streaming.await_job()
    streaming.patch(analytics={"trigger": "3s"})
    streaming.await_job(not_driver=driver)
    streaming.await_windows(_MORE)
    tell(_figures("spark: job changed", streaming, watch))


def test_a_change_that_the_spark_operator_missed_is_not_lost(
    streaming: StreamingFeed, tell: Tell, watch: Stopwatch
) -> None:
    """Changed while the Spark operator was away, the job is started again by our operator, after its patience."""
    driver = streaming.await_job()
    cluster = streaming.stand.cluster
    _scale(streaming, 0)
    try:
        cluster.until(lambda: not cluster.pods(spark.NAMESPACE), _GONE_S, "the Spark operator to go", spark.NAMESPACE)
        streaming.patch(analytics={"trigger": "2s"})
        streaming.until(lambda: _spec_hash(streaming.job()) != _spec_hash_of(driver), _NOTICED_S, "the job to change")
    finally:
        _scale(streaming, 1)
    again = streaming.await_job(not_driver=driver)
    assert _spec_hash_of(again) == _spec_hash(streaming.job())
    streaming.await_windows(_MORE)
    tell(_figures("spark: change missed", streaming, watch))


def test_the_driver_asks_for_just_what_it_may(streaming: StreamingFeed) -> None:
    """Nothing that the drivers asked the API server was forbidden, and every right is for something that they do."""
    account = f"system:serviceaccount:{streaming.namespace}:{streaming.await_job()['spec']['serviceAccountName']}"
    asked = streaming.stand.up.node.requests(account)
    assert asked, f"{account} asked nothing"
    assert rights.denied(asked) == []
    assert sorted(accounts.allowed(streaming.stand.cluster, account) - rights.used(asked) - _SELDOM) == []


def test_without_the_section_nothing_of_the_job_is_left(streaming: StreamingFeed, tell: Tell, watch: Stopwatch) -> None:
    """Switched off, its SparkApplication, pods, role and account go, and the feed is ready without them."""
    streaming.await_job()
    role = f"{streaming.name}-analytics"
    streaming.patch(analytics={"enabled": False})
    cluster, place = streaming.stand.cluster, streaming.namespace

    def left() -> list[object]:
        objects = [cluster.get(kind, role, place) for kind in ("role", "rolebinding", "serviceaccount")]
        return [one for one in (streaming.job(), *cluster.pods(place, "spark-role"), *objects) if one]

    streaming.until(lambda: not left(), _GONE_S, "what belongs to the job to go")
    streaming.wait("Ready")
    tell(Figures("spark: switched off", watch.seconds))


def _figures(name: str, streaming: StreamingFeed, watch: Stopwatch) -> Figures:
    """Prove the windows, after the time that the scenario itself took was noted."""
    return Figures(f"{name}, {streaming.prove_windows()} windows", watch.seconds)


def _freeze(streaming: StreamingFeed, driver: Object) -> None:
    """Stop all processes of the driver's container, as one that hangs would."""
    name = str(driver["metadata"]["name"])
    first = streaming.stand.container_pid(streaming.namespace, name, "spark-kubernetes-driver")
    for pid in (*_children(first), first):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)


def _children(pid: int) -> list[int]:
    """Return all descendants of a process, the nearest first."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    return [*found, *(each for child in found for each in _children(child))]


def _scale(streaming: StreamingFeed, replicas: int) -> None:
    streaming.stand.cluster.kubectl("scale", _CONTROLLER, f"--namespace={spark.NAMESPACE}", f"--replicas={replicas}")


def _spec_hash(job: Object) -> str:
    return str(job["spec"]["driver"]["labels"]["marketfeed.dev/spec-hash"])


def _spec_hash_of(pod: Object) -> str:
    return str(pod["metadata"]["labels"]["marketfeed.dev/spec-hash"])
