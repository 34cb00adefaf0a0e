"""Watching over the streaming job, whose own operator forgets: a pure judgement of what is seen of it.

What does not live here: what the job's SparkApplication holds (render.analytics).

The Spark operator may miss a change of the job, waits longer after every failure, and leaves a driver that cannot start
as submitted for ever. A new value of one annotation of the driver makes it begin anew with fresh counters: a nudge. The
value, `<count>@<epoch>`, is all that is remembered: how many nudges in a row, and when the last one was.
Source: kubeflow/spark-operator, internal/controller/sparkapplication/event_filter.go and pkg/util/sparkapplication.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from marketfeed_operator.causes import cause, presentable
from marketfeed_operator.objects import MANAGER, NUDGE, SPEC_HASH, Manifest, Served, labels_of

PATIENCE_S = 60.0
"""How long a driver may run for another job than the one that is wanted, and a job that has ended may stay so."""
STARTED_AGAIN = "it is started again"
"""Stands in the message of every verdict that brings a new nudge."""

_APP, _ROLE = "sparkoperator.k8s.io/app-name", "spark-role"  # labels of the job's pods

# All else is so many times the patience.
_STUCK = 5
"""How long a job may stay in a state that it should leave by itself."""
_LONGEST_GAP = 30
"""Time between two nudges: doubling from the patience to this."""
_PROVEN = 60
"""A job that has run for so long has earned a fresh start: the gap is the first one again."""
_EXECUTORS = 2
"""How long a driver may wait for its first executor."""

_LIMITS = {
    "SUBMITTED": _STUCK,
    "SUBMISSION_FAILED": _STUCK,
    "FAILING": _STUCK,
    "PENDING_RERUN": _STUCK,
    "SUCCEEDING": _STUCK,
    "RESUMING": _STUCK,
    "FAILED": 1,
    "COMPLETED": 1,  # a streaming job has no end
    "UNKNOWN": 1,
}
_FAILURES = frozenset({"SUBMISSION_FAILED", "FAILING", "FAILED", "COMPLETED", "UNKNOWN"})
_NAMES = {
    "SUBMITTED": "Submitted",
    "SUBMISSION_FAILED": "SubmissionFailed",
    "FAILING": "JobFailed",
    "FAILED": "JobFailed",
    "COMPLETED": "JobEnded",
    "UNKNOWN": "JobLost",
    "PENDING_RERUN": "Rerunning",
    "SUCCEEDING": "JobEnded",
    "RESUMING": "Resuming",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the streaming job is, and whether it must be started again."""

    state: str  # in a word for people: Starting, Running, Restarting, Failed, Suspended, Unserved, Off
    ready: bool
    reason: str  # CamelCase, for a condition
    message: str
    nudge: str | None  # value of the driver's annotation NUDGE to apply now; a new one makes it start again
    look_again_s: float | None = None  # when the judgement may change without an event


class _Nudge(NamedTuple):
    times: int  # in a row
    at: float  # s since the epoch


class _Job(NamedTuple):
    """What is seen of a job at a time."""

    live: Manifest
    driver: Manifest | None
    executors: tuple[Manifest, ...]
    now: float  # s since the epoch
    patience_s: float

    @property
    def status(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.live.get("status") or {}
        return found

    @property
    def state(self) -> str:
        return str((self.status.get("applicationState") or {}).get("state", ""))

    @property
    def nudge(self) -> str | None:
        value: str | None = (_driver_spec(self.live).get("annotations") or {}).get(NUDGE)
        return value


def supervise(
    wanted: Manifest | None,
    live: Manifest | None,
    pods: Sequence[Manifest],
    served: Served,
    now: datetime,
    *,
    patience_s: float = PATIENCE_S,
) -> Verdict:
    """Judge the job `live` (a SparkApplication) beside the one that is `wanted`; `pods` are the feed's, or more.

    For feeds with a streaming job: where nobody serves its API there is none to want, and that is what must be said.

    The verdict's nudge is the value to render: the present one, or a new one where the job must be started again. The
    object as it is after that write must be seen before the next judgement, else the job is nudged twice.
    """
    if not served.spark_application:
        return _unserved()
    if wanted is None:
        return Verdict("Off", ready=True, reason="Off", message="no streaming job is wanted", nudge=None)
    nudge = None if live is None else (_driver_spec(live).get("annotations") or {}).get(NUDGE)
    if wanted["spec"].get("suspend"):
        return Verdict("Suspended", ready=False, reason="Suspended", message="spec.suspend is true", nudge=nudge)
    if live is None:
        return Verdict("Starting", ready=False, reason="Waiting", message="the job is being created", nudge=None)
    return _judge(wanted, _seen(live, pods, now.timestamp(), patience_s))


def tie(pod: Manifest, job: Manifest) -> Mapping[str, Any] | None:
    """Return the patch by which a driver goes when its job goes; None where it does, and for what is no driver of it.

    Before version 2.5 the Spark operator ties them by its webhook alone, which may be off: a driver whose job is
    deleted would run on for good.
    """
    labels, found = labels_of(pod), pod["metadata"]
    if labels.get(_APP) != job["metadata"]["name"] or labels.get(_ROLE) != "driver":
        return None
    if found.get("ownerReferences") or "deletionTimestamp" in found or "deletionTimestamp" in job["metadata"]:
        return None
    metadata = job["metadata"]
    owner = {"apiVersion": job["apiVersion"], "kind": job["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    return {"metadata": {"ownerReferences": [owner]}}


def _unserved() -> Verdict:
    message = "SparkApplication is not served: install the Spark operator, or set spec.analytics.enabled to false"
    return Verdict("Unserved", ready=False, reason="SparkNotServed", message=message, nudge=None)


def _judge(wanted: Manifest, job: _Job) -> Verdict:
    if "deletionTimestamp" in job.live["metadata"]:
        return _verdict(job, "Starting", "Waiting", "the job is being deleted, and made anew after that")
    if _spec_hash(wanted) != _spec_hash(job.live):
        return _verdict(job, "Restarting", "Updating", "the job changes")
    if job.state == "RUNNING":
        return _running(wanted, job)
    if job.state in ("", "INVALIDATING", "SUSPENDING", "SUSPENDED"):
        return _taken_up(job)
    return _underway(job)


def _running(wanted: Manifest, job: _Job) -> Verdict:
    """Judge a running job: by the job that its driver was started for, and by its executors."""
    hash_ = _spec_hash(wanted)
    if job.driver is not None and hash_ is not None and labels_of(job.driver).get(SPEC_HASH) != hash_:
        text = "the driver still runs the job of before"
        return _nudged_after(job, job.patience_s, _changed_at(job), _verdict(job, "Restarting", "Outdated", text))
    found = cause(job.executors)
    idle = job.executors and not any(map(_runs, job.executors))
    if found is not None and idle and job.now - _driver_began(job) > _EXECUTORS * job.patience_s:
        return _verdict(job, "Failed", found.reason, f"no executor runs: {found.message}")
    return Verdict("Running", ready=True, reason="Running", message="the streaming job runs", nudge=job.nudge)


def _taken_up(job: _Job) -> Verdict:
    """Judge a job that only the Spark operator can take on: to nudge it would not reach anybody else."""
    waited_s = job.now - max(_changed_at(job), _epoch(job.status.get("lastSubmissionAttemptTime")))
    verdict = _verdict(job, "Starting", "Starting", "the Spark operator takes the job on")
    stuck_s = _STUCK * job.patience_s
    if waited_s <= stuck_s:
        return replace(verdict, look_again_s=stuck_s - waited_s + 1)
    namespace = job.live["metadata"].get("namespace", "")
    text = f"the Spark operator has not taken the job on: is it running, and does it watch namespace {namespace}?"
    return _verdict(job, "Failed", "SparkOperatorSilent", text)


def _underway(job: _Job) -> Verdict:
    """Judge a job on its way to run, or back to it."""
    found = None if job.driver is None else cause([job.driver])
    if found is not None and _phase(job.driver) == "Pending":
        # Another driver would not start either: what is wrong must be mended first.
        return _verdict(job, "Failed", found.reason, found.message)
    failed = job.state in _FAILURES
    # The driver's last words tell more than what the Spark operator makes of them: "ExitCode: 1, Reason: Error".
    error = presentable((job.status.get("applicationState") or {}).get("errorMessage") or "")
    detail = error if found is None else found.message
    reason = _NAMES.get(job.state, "Starting")
    text = f"the job is {job.state.lower().replace('_', ' ')}{f': {detail}' if detail else ''}"
    verdict = _verdict(job, "Failed" if failed else "Starting", reason if failed else "Starting", text)
    limit = _LIMITS.get(job.state)
    return verdict if limit is None else _nudged_after(job, limit * job.patience_s, _state_since(job), verdict)


def _verdict(job: _Job, state: str, reason: str, message: str) -> Verdict:
    return Verdict(state, ready=False, reason=reason, message=message, nudge=job.nudge)


def _nudged_after(job: _Job, limit_s: float, since: float, verdict: Verdict) -> Verdict:
    """Return the verdict, with a nudge where its time is over and the last nudge is long enough ago."""
    last = _last_nudge(job.nudge)
    fresh = last is None or _earned(job, last)
    gap_s = 0.0 if last is None or fresh else _gap_s(job, last.times)
    due = max(since + limit_s, 0.0 if last is None else last.at + gap_s)
    if job.now <= due:
        return replace(verdict, look_again_s=due - job.now + 1)
    count = 1 if last is None or fresh else last.times + 1
    return replace(
        verdict,
        state="Restarting",
        message=f"{verdict.message}; {STARTED_AGAIN}, attempt {count}",
        nudge=f"{count}@{int(job.now)}",
        look_again_s=_gap_s(job, count) + 1,
    )


def _gap_s(job: _Job, count: int) -> float:
    return job.patience_s * float(min(_LONGEST_GAP, 2 ** min(count - 1, 16)))


def _earned(job: _Job, last: _Nudge) -> bool:
    """Tell whether the job has run for long since the last nudge.

    Where it cannot be seen any more, its silence says so: while it was in trouble it was nudged after every gap.
    """
    proven_s = _PROVEN * job.patience_s
    return _ran_s(job) >= proven_s or job.now - last.at >= _gap_s(job, last.times) + proven_s


def _ran_s(job: _Job) -> float:
    """Return how long the last driver ran, as far as can be seen."""
    if job.state == "RUNNING":
        return job.now - _driver_began(job)
    begun, ended = _epoch(job.status.get("lastSubmissionAttemptTime")), _epoch(job.status.get("terminationTime"))
    return ended - begun if begun else 0.0


def _last_nudge(value: str | None) -> _Nudge | None:
    """Read `<count>@<epoch>`; None for nothing and for nonsense."""
    count, _, at = (value or "").partition("@")
    return _Nudge(max(1, int(count)), float(int(at))) if count.isdecimal() and at.isdecimal() else None


def _seen(live: Manifest, pods: Sequence[Manifest], now: float, patience_s: float) -> _Job:
    name = live["metadata"]["name"]
    ours = [pod for pod in pods if labels_of(pod).get(_APP) == name]
    drivers = [pod for pod in ours if labels_of(pod).get(_ROLE) == "driver"]
    executors = tuple(pod for pod in ours if labels_of(pod).get(_ROLE) == "executor")
    staying = [pod for pod in drivers if "deletionTimestamp" not in pod["metadata"]]
    return _Job(live, max(staying, key=_began, default=None), executors, now, patience_s)


def _state_since(job: _Job) -> float:
    """Return when the job came into its state, or the latest moment that it cannot have been before."""
    status = job.status
    if job.state in ("FAILED", "FAILING", "COMPLETED", "SUCCEEDING", "PENDING_RERUN") and status.get("terminationTime"):
        return _epoch(status["terminationTime"])
    return max(_epoch(status.get("lastSubmissionAttemptTime")), _epoch(status.get("terminationTime")), _changed_at(job))


def _changed_at(job: _Job) -> float:
    """Return when we changed the job last.

    The API server notes it beside our field manager. Where that note was thrown away only older moments are known.
    """
    entries = job.live["metadata"].get("managedFields") or ()
    ours = [_epoch(entry.get("time")) for entry in entries if _writes_spec(entry)]
    last = _last_nudge(job.nudge)
    return max(*ours, _epoch(job.live["metadata"].get("creationTimestamp")), 0.0 if last is None else last.at, 0.0)


def _writes_spec(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == MANAGER and not entry.get("subresource")


def _driver_began(job: _Job) -> float:
    return _began(job.driver) if job.driver is not None else _epoch(job.status.get("lastSubmissionAttemptTime"))


def _began(pod: Manifest) -> float:
    return _epoch((pod.get("status") or {}).get("startTime") or pod["metadata"].get("creationTimestamp"))


def _runs(pod: Manifest) -> bool:
    return _phase(pod) == "Running"


def _phase(pod: Manifest | None) -> str:
    return str(((pod or {}).get("status") or {}).get("phase", ""))


def _spec_hash(application: Manifest) -> str | None:
    value: str | None = (_driver_spec(application).get("labels") or {}).get(SPEC_HASH)
    return value


def _driver_spec(application: Manifest) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (application.get("spec") or {}).get("driver") or {}
    return found


def _epoch(time: str | None) -> float:
    """Return an RFC 3339 time in s since the epoch; 0 for none, and for what is no time."""
    try:
        found = datetime.fromisoformat(time or "")
    except ValueError:
        return 0.0
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
