"""Watching over the streaming job: when it is well, when it is started again, and when that would not help."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from marketfeed_operator.objects import MANAGER, NUDGE, SPEC_HASH, Manifest, Served
from marketfeed_operator.spark import PATIENCE_S, STARTED_AGAIN, Verdict, supervise, tie
from observations import EVERYTHING, NOW, later, stamp

START = NOW - timedelta(hours=5)
EPOCH = int(NOW.timestamp())


def ago(seconds: float) -> str:
    """Return the time so long before NOW."""
    return stamp(NOW - timedelta(seconds=seconds))


def job(
    state: str = "RUNNING",
    hash_: str = "h1",
    *,
    nudge: str | None = None,
    changed_s: float = 18_000,
    error: str = "",
    spec: dict[str, Any] | None = None,
    **status: Any,
) -> Manifest:
    """Return a SparkApplication that we changed so long ago."""
    return {
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "SparkApplication",
        "metadata": {
            "name": "spot-analytics",
            "namespace": "md",
            "creationTimestamp": stamp(START),
            "managedFields": [
                {"manager": MANAGER, "operation": "Apply", "time": ago(changed_s)},
                {"manager": "spark-operator", "subresource": "status", "time": ago(0)},
            ],
        },
        "spec": {
            "driver": {"labels": {SPEC_HASH: hash_}, **({} if nudge is None else {"annotations": {NUDGE: nudge}})},
            **(spec or {}),
        },
        "status": {"applicationState": {"state": state, "errorMessage": error}, **status},
    }


def pod(role: str = "driver", hash_: str = "h1", *, started_s: float = 10_000, **status: Any) -> Manifest:
    """Return a pod of the job, started so long ago."""
    labels = {"spark-role": role, "sparkoperator.k8s.io/app-name": "spot-analytics", SPEC_HASH: hash_}
    return {
        "metadata": {"name": f"spot-analytics-{role}", "namespace": "md", "labels": labels},
        "status": {"phase": "Running", "startTime": ago(started_s), **status},
    }


PULL: dict[str, Any] = {
    "phase": "Pending",
    "containerStatuses": [{"name": "driver", "image": "x:1", "state": {"waiting": {"reason": "ImagePullBackOff"}}}],
}


def judged(live: Manifest | None, *pods: Manifest, wanted: Manifest | None = None, now: datetime = NOW) -> Verdict:
    """Judge a job that is wanted with the hash h1, unless said otherwise."""
    return supervise(job() if wanted is None else wanted, live, pods, EVERYTHING, now)


def test_a_running_job_is_left_alone() -> None:
    """The right driver runs: ready, no wait, and the nudge that it was given stays."""
    assert judged(job(nudge="2@100"), pod()) == Verdict("Running", True, "Running", "the streaming job runs", "2@100")  # noqa: FBT003


def test_no_job_no_api_suspended_and_not_made_yet() -> None:
    """What is not judged by its state: each has its own word."""
    assert supervise(None, None, (), EVERYTHING, NOW).state == "Off"
    unserved = supervise(job(), None, (), Served(), NOW)
    assert (unserved.state, unserved.reason) == ("Unserved", "SparkNotServed")
    assert supervise(None, None, (), Served(), NOW) == unserved, "it is not rendered then"
    assert judged(job("SUSPENDED", nudge="1@5"), wanted=job(spec={"suspend": True})).state == "Suspended"
    assert judged(job("SUSPENDED", nudge="1@5"), wanted=job(spec={"suspend": True})).nudge == "1@5"
    assert judged(None).reason == "Waiting"
    assert judged(job(hash_="h0"), pod(hash_="h0")).reason == "Updating"


@pytest.mark.parametrize(
    ("live", "pods", "reason"),
    [
        (job(changed_s=61), (pod(hash_="h0"),), "Outdated"),
        (job("SUBMITTED", lastSubmissionAttemptTime=ago(301), changed_s=400), (), "Starting"),
        (job("SUBMITTED", lastSubmissionAttemptTime=ago(301), changed_s=400), (pod(phase="Pending"),), "Starting"),
        (job("FAILED", terminationTime=ago(61)), (), "JobFailed"),
        (job("COMPLETED", terminationTime=ago(61)), (), "JobEnded"),
        (job("FAILING", terminationTime=ago(301)), (), "JobFailed"),
        (job("PENDING_RERUN", terminationTime=ago(301)), (), "Starting"),
        (job("UNKNOWN", lastSubmissionAttemptTime=ago(61)), (), "JobLost"),
        (job("SUBMISSION_FAILED", lastSubmissionAttemptTime=ago(301)), (), "SubmissionFailed"),
    ],
)
def test_a_job_that_does_not_help_itself_is_started_again(
    live: Manifest, pods: tuple[Manifest, ...], reason: str
) -> None:
    """Past its patience a state leads to the first nudge, and a look after the first gap."""
    verdict = judged(live, *pods)
    assert (verdict.state, verdict.reason, verdict.ready) == ("Restarting", reason, False)
    assert verdict.nudge == f"1@{EPOCH}"
    assert STARTED_AGAIN in verdict.message
    assert verdict.look_again_s is not None
    assert verdict.look_again_s > PATIENCE_S


@pytest.mark.parametrize(
    ("live", "pods", "wait_s"),
    [
        (job(changed_s=20), (pod(hash_="h0"),), 41),
        (job("SUBMITTED", lastSubmissionAttemptTime=ago(200)), (), 101),
        (job("FAILED", terminationTime=ago(10)), (), 51),
        (job("INVALIDATING", changed_s=100), (), 201),
        (job("", changed_s=0), (), 301),
    ],
)
def test_patience_ends_at_a_time_that_is_told(live: Manifest, pods: tuple[Manifest, ...], wait_s: float) -> None:
    """Before its time nothing is nudged, and the verdict says when to look again."""
    verdict = judged(live, *pods)
    assert verdict.nudge is None
    assert verdict.look_again_s == pytest.approx(wait_s, abs=1)


def test_another_patience_scales_every_wait() -> None:
    """With a tenth of the usual patience a job is nudged after a tenth of each time."""
    for live, pods in (
        (job(changed_s=7), (pod(hash_="h0"),)),
        (job("FAILED", terminationTime=ago(7)), ()),
        (job("SUBMISSION_FAILED", lastSubmissionAttemptTime=ago(31)), ()),
    ):
        assert judged(live, *pods).nudge is None
        verdict = supervise(job(), live, pods, EVERYTHING, NOW, patience_s=PATIENCE_S / 10)
        assert verdict.nudge == f"1@{EPOCH}"
        assert verdict.look_again_s == pytest.approx(PATIENCE_S / 10 + 1)


def test_a_driver_that_cannot_start_is_not_started_again() -> None:
    """A missing image is named; another driver would miss it too."""
    verdict = judged(job("SUBMITTED", lastSubmissionAttemptTime=ago(4000)), pod(**PULL))
    assert (verdict.state, verdict.reason, verdict.nudge) == ("Failed", "ImagePullBackOff", None)


def test_executors_that_cannot_start_are_named() -> None:
    """A running driver without a running executor does no work."""
    verdict = judged(job(), pod(), pod("executor", **PULL))
    assert (verdict.state, verdict.ready, verdict.reason) == ("Failed", False, "ImagePullBackOff")
    assert judged(job(), pod(), pod("executor")).ready


def test_a_silent_spark_operator_is_named_and_not_nudged() -> None:
    """What only the Spark operator can take on waits for it, whatever is written."""
    for state in ("", "INVALIDATING", "SUSPENDED"):
        verdict = judged(job(state, changed_s=301))
        assert (verdict.reason, verdict.nudge) == ("SparkOperatorSilent", None)
        assert "namespace md" in verdict.message


def test_a_changed_job_is_given_time_from_its_change_and_after_a_nudge() -> None:
    """A minute counts from our last write; without the note of it, from the last nudge."""
    assert judged(job(changed_s=59), pod(hash_="h0")).nudge is None
    live = job(nudge=f"1@{EPOCH - 30}")
    bare = {**live, "metadata": {**live["metadata"], "managedFields": []}}
    assert judged(bare, pod(hash_="h0")).nudge == f"1@{EPOCH - 30}"


def test_the_gap_doubles_up_to_half_an_hour() -> None:
    """A job that never gets well is nudged after 1, 2, 4, 8, 16, 30, 30 min ..., and not in between."""
    nudges = []
    nudge: str | None = None
    for minute in range(300):
        now = later(minute * 60 + 30)
        verdict = judged(job("FAILED", nudge=nudge, terminationTime=ago(600)), now=now)
        if verdict.nudge != nudge:
            nudge = verdict.nudge
            nudges.append(minute)
    gaps = [after - before for before, after in pairwise(nudges)]
    assert gaps[:5] == [2, 3, 5, 9, 17]  # one look a minute sees each gap at the next minute
    assert set(gaps[5:]) == {30 + 1}
    assert nudge is not None
    assert nudge.startswith(f"{len(nudges)}@")


def test_an_hour_of_running_earns_a_fresh_start() -> None:
    """After a long run the next trouble is nudged at once, as the first one."""
    ran = job("FAILED", nudge=f"9@{EPOCH - 100}", lastSubmissionAttemptTime=ago(3800), terminationTime=ago(100))
    assert judged(ran).nudge == f"1@{EPOCH}"
    short = job("FAILED", nudge=f"9@{EPOCH - 100}", lastSubmissionAttemptTime=ago(800), terminationTime=ago(100))
    assert judged(short).nudge == f"9@{EPOCH - 100}"
    outdated = job(changed_s=61, nudge=f"9@{EPOCH - 5000}")
    assert judged(outdated, pod(hash_="h0", started_s=4000)).nudge == f"1@{EPOCH}"


def test_a_broken_nudge_counts_as_none() -> None:
    """A value that somebody else wrote is replaced by the first one when it is time."""
    for value in ("", "x", "1@", "@5", "-1@5", "1@x"):
        assert judged(job("FAILED", nudge=value, terminationTime=ago(61))).nudge == f"1@{EPOCH}"


def test_the_job_s_own_error_is_passed_on_without_secrets() -> None:
    """The driver's last words stand in the message, bounded, and no password with them."""
    error = "driver failed: jdbc postgresql://feed:s3cr3t@db/market " + "x" * 5000
    verdict = judged(job("FAILED", error=error, terminationTime=ago(5)))
    assert "driver failed" in verdict.message
    assert "s3cr3t" not in verdict.message
    assert len(verdict.message) < 500


def test_the_driver_s_last_words_come_before_what_the_spark_operator_makes_of_them() -> None:
    """While the ended driver is there its message is told, else the application's."""
    ended = {"exitCode": 1, "reason": "Error", "message": "INFO bye\nmarketfeed: no broker answers"}
    words = pod(phase="Failed", containerStatuses=[{"name": "driver", "image": "x:1", "state": {"terminated": ended}}])
    live = job("FAILING", error="driver container failed with ExitCode: 1, Reason: Error", terminationTime=ago(5))
    assert "marketfeed: no broker answers" in judged(live, words).message
    assert "ExitCode: 1, Reason: Error" in judged(live).message


def test_pods_of_other_jobs_are_not_looked_at() -> None:
    """Only pods that bear the job's name count."""
    other = pod(hash_="h9")
    other["metadata"]["labels"]["sparkoperator.k8s.io/app-name"] = "another"
    assert judged(job(), other, pod()).ready


def test_a_driver_without_an_owner_is_given_its_job() -> None:
    """It goes with the job then, as the garbage collector has it; nobody is kept from deleting the job first."""
    live = job()
    live["metadata"]["uid"] = "u1"
    patch = tie(pod(), live)
    assert patch is not None
    (owner,) = patch["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "SparkApplication",
        "name": "spot-analytics",
        "uid": "u1",
    }
    owned = pod()
    owned["metadata"].update(patch["metadata"])
    assert tie(owned, live) is None


def test_no_other_pod_is_tied_to_a_job() -> None:
    """Executors go with their driver, and what is on its way out needs nobody; a job that goes ties nobody."""
    live, going = job(), job()
    live["metadata"]["uid"] = going["metadata"]["uid"] = "u1"
    going["metadata"]["deletionTimestamp"] = ago(1)
    leaving, other = pod(), pod()
    leaving["metadata"]["deletionTimestamp"] = ago(1)
    other["metadata"]["labels"]["sparkoperator.k8s.io/app-name"] = "another"
    assert [tie(each, live) for each in (pod("executor"), leaving, other)] == [None, None, None]
    assert tie(pod(), going) is None
