"""The streaming job of a feed: made, watched over, started again where it must be, and never in a hot loop.

The Spark operator and the nodes are stand-ins, no Spark runs. What its states lead to at which time is test_spark's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane import ControlPlane, audit, crds
from controlplane.install import install, own
from helpers import wait_until
from operators import SOON_S, USER, Feeds, install_operator
from operators import operator as operator_process
from released import COLLECTED_S
from replicas import KAFKA
from standins.runner import Standins
from standins.spark_operator import SparkOperator

JOB = "spot-analytics"
RETRIES_S = 10.0
APIS_S = 75.0  # the operator looks every 30 s at what is served


def job(feeds: Feeds, name: str = JOB) -> dict[str, Any]:
    """Return the SparkApplication; empty where there is none."""
    return feeds.get("sparkapplication", name) or {}


def driver(feeds: Feeds, name: str = JOB) -> dict[str, Any]:
    """Return the driver's pod; empty where there is none."""
    return feeds.get("pod", f"{name}-driver") or {}


def runs(pod: dict[str, Any]) -> bool:
    """Tell whether a pod runs and is to stay."""
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def await_driver(feeds: Feeds, *, other_than: str, name: str = JOB) -> dict[str, Any]:
    """Wait for another driver that runs."""

    def another() -> dict[str, Any]:
        found = driver(feeds, name)
        return found if found and found["metadata"]["uid"] != other_than and runs(found) else {}

    return wait_until(another, SOON_S, f"another driver of {name}", every_s=0.2)


def await_event(feeds: Feeds, reason: str, words: str, name: str = "spot") -> None:
    """Wait until `kubectl describe` shows an event of the feed."""

    def shown() -> bool:
        lines = feeds.kubectl("describe", "mf", name).splitlines()
        return any(reason in line and words in line for line in lines)

    wait_until(shown, SOON_S, f"the event {reason}: {words}", every_s=0.3)


def test_the_job_runs_follows_its_spec_and_goes_with_its_section(feeds: Feeds, standins: Standins) -> None:
    """All that a job needs is made. Thresholds restart nothing, another window does, even where Spark's operator slept.

    Suspended it is gone, resumed it is back; without the section nothing of it is left.
    """
    feeds.apply(analytics={})
    feeds.wait("AnalyticsReady", "True", "AllReady")
    feeds.wait("Ready")
    assert feeds.status()["analytics"] == "Running"
    for kind in ("configmap", "serviceaccount", "role", "rolebinding"):
        assert feeds.get(kind, JOB) is not None, kind
    first = driver(feeds)
    assert first["spec"]["serviceAccountName"] == JOB

    generation = job(feeds)["metadata"]["generation"]
    feeds.apply(analytics={"alerts": {"spread": 4.5}})
    wait_until(lambda: _thresholds(feeds)["spread"] == 4.5, SOON_S, "the threshold", every_s=0.2)
    assert job(feeds)["metadata"]["generation"] == generation
    assert driver(feeds)["metadata"]["uid"] == first["metadata"]["uid"]

    standins.spark.miss_next_update()
    feeds.apply(analytics={"tradeWindow": "2m"})
    feeds.wait("AnalyticsReady", "False", "Outdated")
    await_event(feeds, "AnalyticsRestarted", "the driver still runs the job of before")
    second = await_driver(feeds, other_than=first["metadata"]["uid"])
    wanted = job(feeds)["spec"]["driver"]["labels"]["marketfeed.dev/spec-hash"]
    assert second["metadata"]["labels"]["marketfeed.dev/spec-hash"] == wanted
    feeds.wait("AnalyticsReady")

    feeds.apply(analytics={"tradeWindow": "2m"}, suspend=True)
    feeds.gone("pods", f"sparkoperator.k8s.io/app-name={JOB}", within_s=COLLECTED_S)
    feeds.wait("Suspended")
    assert feeds.status()["analytics"] == "Suspended"
    assert not job(feeds), "its definition has no spec.suspend: only its absence stops it"
    feeds.apply(analytics={"tradeWindow": "2m"})
    feeds.wait("Suspended", "False", "NotSuspended")
    feeds.wait("AnalyticsReady")

    feeds.apply()
    feeds.wait("AnalyticsReady", "True", "Off")
    feeds.gone("sparkapplications,pods,roles,rolebindings,configmaps", "app.kubernetes.io/component=analytics")
    feeds.wait("Ready")


def _thresholds(feeds: Feeds) -> dict[str, float]:
    found: dict[str, float] = json.loads((feeds.get("configmap", JOB) or {})["data"]["thresholds.json"])
    return found


@pytest.fixture
def eager_spark(standins: Standins) -> Iterator[SparkOperator]:
    """Return a Spark operator that waits a tenth of the usual time between two attempts."""
    standins.spark.interval_scale = 0.1
    yield standins.spark
    standins.spark.interval_scale = 1.0


def test_jobs_that_cannot_run_say_why_and_cost_few_writes(
    feeds: Feeds, standins: Standins, eager_spark: SparkOperator, control_plane: ControlPlane
) -> None:
    """Refused submissions, and a driver without an image: both are named; nothing is written over and over.

    Mended, both run. A job that Spark's operator has given up is started again, and a driver that dies is replaced.
    """
    refused, pulling = "refused-analytics", "pulling-analytics"
    image = f"sparkoperator.k8s.io/app-name={pulling}"
    eager_spark.refuse_submissions(refused, "forbidden: exceeded quota at s3a://key:hunter2@store")
    standins.kubelet.fail(image, "ImagePullBackOff")
    try:
        for name in ("refused", "pulling"):
            topics = feeds.topics(f"{feeds.namespace}.{name}")
            feeds.apply(feeds.document(name, analytics={}, kafka={"topics": topics}))
        found = feeds.wait("AnalyticsReady", "False", "SubmissionFailed", name="refused")
        assert "exceeded quota" in found["message"]
        found = feeds.wait("AnalyticsReady", "False", "ImagePullBackOff", name="pulling")
        assert "marketfeed/analytics:test cannot be pulled" in found["message"]
        await_event(feeds, "ImagePullBackOff", "marketfeed/analytics:test", "pulling")
        assert feeds.status("pulling")["analytics"] == "Failed"
        for name in ("refused", "pulling"):
            feeds.wait("DataFlowing", name=name)
            feeds.wait("SinksReady", name=name)
        since = datetime.now(UTC)
        wait_until(
            lambda: datetime.now(UTC) > since + timedelta(seconds=RETRIES_S), SOON_S, "the time to look at", every_s=0.5
        )
        written = _writes(control_plane, feeds, since)
        assert [item for item in written if _concerns(item, "pulling")] == []
        assert len([item for item in written if item.resource == "sparkapplications"]) <= 1
        assert len([item for item in written if item.resource == "marketfeeds/status"]) <= 4
    finally:
        eager_spark.accept_submissions(refused)
        standins.kubelet.heal(image)
    feeds.wait("AnalyticsReady", name="pulling")
    feeds.wait("AnalyticsReady", name="refused")
    assert "hunter2" not in feeds.kubectl("get", "marketfeeds,events", "-o", "yaml")
    before = _uid(driver(feeds, pulling))
    _give_up(feeds, pulling)
    eager_spark.end_driver(feeds.namespace, refused, 1, "marketfeed: lost the brokers")
    found = feeds.wait("AnalyticsReady", "False", "JobFailed", name="refused")
    assert "marketfeed: lost the brokers" in found["message"]
    await_driver(feeds, other_than=before, name=pulling)
    feeds.wait("AnalyticsReady", name="pulling")
    await_event(feeds, "AnalyticsRestarted", "the job is failed", "pulling")
    feeds.wait("AnalyticsReady", name="refused")


def _give_up(feeds: Feeds, name: str) -> None:
    """Have the job's status say that Spark's operator will not try any more."""
    status = {"applicationState": {"state": "FAILED", "errorMessage": "driver container failed"}}
    long_ago = "2026-01-01T00:00:00Z"
    patch = json.dumps({"status": {**status, "terminationTime": long_ago, "lastSubmissionAttemptTime": long_ago}})
    feeds.kubectl("patch", "sparkapplication", name, "--subresource=status", "--type=merge", "--patch", patch)


def _uid(found: dict[str, Any]) -> str:
    return str(found["metadata"]["uid"])


def _writes(plane: ControlPlane, feeds: Feeds, since: datetime) -> list[audit.Request]:
    return [item for item in plane.writes(USER, since) if item.namespace == feeds.namespace]


def _concerns(request: audit.Request, feed: str) -> bool:
    return request.name == feed or request.name.startswith(f"{feed}-")


def test_nothing_is_stuck_when_a_feed_goes_while_spark_s_operator_is_away(feeds: Feeds, standins: Standins) -> None:
    """It is away when the feed comes, which holds up the job alone; the feed goes, and all of the job with it."""
    standins.spark.stop()
    try:
        feeds.apply(analytics={})
        feeds.wait("DataFlowing")
        feeds.wait("SinksReady")
        found = feeds.wait("AnalyticsReady", "False", "Starting")
        assert "the Spark operator takes the job on" in found["message"]
        feeds.kubectl("delete", "mf", "spot", f"--timeout={SOON_S:.0f}s")
        feeds.gone("sparkapplications,configmaps,roles,rolebindings,pods", "marketfeed.dev/feed=spot")
    finally:
        standins.spark.start()


def test_sparkapplications_may_come_late_and_go(own_control_plane: ControlPlane, tmp_path: Path) -> None:
    """Without their API AnalyticsReady alone says so. It is used from when it is there, and may go again.

    Where its definition has `spec.suspend`, a suspended job stays, suspended.
    """
    with _own_world(own_control_plane, tmp_path) as feeds:
        feeds.apply(analytics={})
        found = feeds.wait("AnalyticsReady", "False", "SparkNotServed")
        assert "install the Spark operator, or set spec.analytics.enabled to false" in found["message"]
        assert feeds.status()["analytics"] == "Unserved"
        for condition in ("TopicsReady", "IngestReady", "SinksReady", "DataFlowing"):
            feeds.wait(condition)
        feeds.wait("Ready", "False", "SparkNotServed")

        install(feeds.plane, [_with_suspend(tmp_path)])
        feeds.wait("AnalyticsReady")
        # What the definition can do is told by the API server some time after it serves the kind.
        wait_until(
            lambda: job(feeds)["spec"].get("suspend") is False, APIS_S, "the job not to be suspended", every_s=0.2
        )
        first = driver(feeds)

        feeds.apply(analytics={}, suspend=True)
        feeds.wait("Suspended")
        assert feeds.condition("AnalyticsReady")["reason"] == "Suspended"
        wait_until(lambda: _state(feeds) == "SUSPENDED", SOON_S, "the job to be suspended", every_s=0.2)
        assert not driver(feeds)
        feeds.apply(analytics={})
        await_driver(feeds, other_than=_uid(first))
        feeds.wait("Ready")

        feeds.kubectl("delete", "customresourcedefinition", "sparkapplications.sparkoperator.k8s.io", "--wait=false")
        feeds.wait("AnalyticsReady", "False", "SparkNotServed")
        assert feeds.condition("DataFlowing")["status"] == "True"
        feeds.apply(symbols=["BTCUSDT"], analytics={})
        wait_until(lambda: feeds.status()["symbols"] == 1, SOON_S, "the feed to be looked after", every_s=0.2)


def _state(feeds: Feeds) -> str | None:
    found: str | None = job(feeds).get("status", {}).get("applicationState", {}).get("state")
    return found


@contextmanager
def _own_world(plane: ControlPlane, folder: Path) -> Iterator[Feeds]:
    """Run stand-ins and an operator on a control plane that does not know SparkApplications; yield its feeds."""
    install(plane, [*own(), crds.kafka_topic()])
    install_operator(plane)
    plane.kubectl("create", "namespace", KAFKA)
    plane.kubectl("create", "namespace", "desk")
    feeds = Feeds(plane, "desk", KAFKA)
    feeds.secret()
    # It looks for APIs as often as it compares.
    with Standins(plane.kubeconfig, topic_namespace=KAFKA), operator_process(plane, folder, resync_s=2.0) as process:
        wait_until(process.leads, SOON_S, "the operator to lead", every_s=0.2)
        yield feeds
        process.assert_alive()


def _with_suspend(folder: Path) -> Path:
    """Return SparkApplication's definition as later versions have it, with `spec.suspend`."""
    definition = yaml.safe_load(crds.spark_application().read_text())
    for version in definition["spec"]["versions"]:
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["suspend"] = {"type": "boolean"}
    path = folder / "sparkapplication.json"
    path.write_text(json.dumps(definition))
    return path
