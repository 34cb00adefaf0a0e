"""Plays the Kubeflow Spark operator (2.3, with the suspension of 2.4) up to the driver's pod; no Spark runs.

True to life: states and their order, the driver's labels and annotations, the attempts and the linear, uncapped wait
between them, that a changed spec is noticed only by who watches just then, that SUBMITTED lasts as long as the
driver's image cannot be pulled, that there are no conditions, that a driver has no owner where the webhook is off. Not
so: no executors, no web service, no events, no time to live, and a submission takes `submit_s`, not ten seconds. The
driver's pod needs a kubelet to run.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from standins.api import NOT_FOUND, Api, ApiError, Key, Mirror, Object, key_of, timestamp
from standins.standin import StandIn, control

CONTAINER = "spark-kubernetes-driver"
_API = "/apis/sparkoperator.k8s.io/v1beta2"
_LABEL = "sparkoperator.k8s.io/"
_IGNORED = ("suspend", "timeToLiveSeconds")  # their change does not start the job anew
_STATE_OF_PHASE = {"Pending": "SUBMITTED", "Running": "RUNNING", "Succeeded": "SUCCEEDING", "Failed": "FAILING"}
_ENDED = ("COMPLETED", "FAILED")
_INTERVAL_S = 5
_SOON_S = 0.1

_log = logging.getLogger("standins.spark_operator")


class SparkOperator(StandIn):
    """Reconciles all SparkApplications. `stop` and `start` lose every spec change in between, as in reality."""

    def __init__(self, api: Api, *, submit_s: float = 0.3, grace_s: float = 10.0, interval_scale: float = 1.0) -> None:
        """Take s that a submission takes, and that a driver may be missing after it; scale the restart intervals."""
        super().__init__(api)
        self.submit_s, self.grace_s, self.interval_scale = submit_s, grace_s, interval_scale
        self._changed_specs: set[Key] = set()
        self._refusals: dict[str, str] = {}
        self._misses = 0
        self.mirrors()  # empty ones: it may be commanded before it starts

    # -- what tests command ------------------------------------------------------------------------------------------

    @control
    def miss_next_update(self) -> None:
        """Overlook the next change of a spec: the status write that should have told of it is lost."""
        self._misses += 1

    @control
    def refuse_submissions(self, name: str, message: str = "spark-submit: forbidden") -> None:
        """Let submissions of an application fail, until `accept_submissions`."""
        self._refusals[name] = message

    @control
    def accept_submissions(self, name: str) -> None:
        """Let its next submission succeed."""
        self._refusals.pop(name, None)

    def end_driver(self, namespace: str, name: str, exit_code: int = 1, message: str | None = None) -> None:
        """Let the driver of an application exit, from any thread; a job that streams should never exit with 0."""
        ending = self._end_driver(Key(namespace, f"{name}-driver"), exit_code, message)
        asyncio.run_coroutine_threadsafe(ending, self.loop).result(10)

    # -- the reconciler ----------------------------------------------------------------------------------------------

    def mirrors(self) -> list[Mirror]:
        self._changed_specs.clear()
        self._apps = Mirror(self.api, f"{_API}/sparkapplications", self._app_changed)
        self._pods = Mirror(self.api, "/api/v1/pods", self._pod_changed)
        return [self._pods, self._apps]

    async def reconcile(self, key: Key) -> float | None:
        app = await self._fresh(key)
        if app is None or "deletionTimestamp" in app["metadata"]:
            return None  # the driver goes with its owner
        old = app.get("status") or {}
        status = copy.deepcopy(old)
        status.setdefault("applicationState", {"state": ""})
        status.setdefault("driverInfo", {})
        again_s = await self._step(key, app, status)
        if status != old and status["applicationState"]["state"]:
            gone = {name: None for name in old if name not in status}
            _log.info("application %s/%s: %s", *key, status["applicationState"]["state"])
            try:
                await self.api.merge(
                    f"{_API}/namespaces/{key.namespace}/sparkapplications/{key.name}/status",
                    {"metadata": {"uid": app["metadata"]["uid"]}, "status": {**status, **gone}},
                )
            except ApiError as error:
                if error.status != NOT_FOUND:
                    raise
        return again_s

    async def _fresh(self, key: Key) -> Object | None:
        """Return an application as it is: one that is told of late would be submitted twice."""
        try:
            return await self.api.get(f"{_API}/namespaces/{key.namespace}/sparkapplications/{key.name}")
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return None

    async def _step(self, key: Key, app: Object, status: Object) -> float | None:
        """Go one step of the state machine by changing `status`; return when to look again, s."""
        state = status["applicationState"]["state"]
        if key in self._changed_specs:
            self._changed_specs.discard(key)
            _enter(status, "INVALIDATING")
            return None
        if app["spec"].get("suspend") and state not in (*_ENDED, "SUSPENDING", "SUSPENDED"):
            await self._delete_driver(key)
            _enter(status, "SUSPENDING")
            return None
        step = {
            "": self._submit,
            "SUBMITTED": self._follow_driver,
            "RUNNING": self._follow_driver,
            "UNKNOWN": self._follow_driver,
            "FAILING": self._rerun_or_end,
            "SUBMISSION_FAILED": self._rerun_or_end,
            "SUCCEEDING": self._rerun_or_end,
            "INVALIDATING": self._invalidate,
            "PENDING_RERUN": self._resubmit,
            "RESUMING": self._resubmit,
            "SUSPENDING": self._suspend,
            "SUSPENDED": self._resume,
        }.get(state)
        return await step(key, app, status) if step else None

    async def _submit(self, key: Key, app: Object, status: Object) -> float | None:
        await asyncio.sleep(self.submit_s)
        status["submissionID"] = str(uuid.uuid4())
        status["driverInfo"] = {"podName": f"{key.name}-driver"}
        status["lastSubmissionAttemptTime"] = timestamp()
        status["submissionAttempts"] = status.get("submissionAttempts", 0) + 1
        refusal = self._refusals.get(key.name)
        try:
            if refusal is None:
                driver = driver_pod(app, status["submissionID"])
                await self.api.create(f"/api/v1/namespaces/{key.namespace}/pods", driver)
        except ApiError as error:
            refusal = str(error)
        if refusal is not None:
            _enter(
                status,
                "SUBMISSION_FAILED",
                f"failed to submit spark application: failed to run spark-submit: {refusal}",
            )
            return _SOON_S
        _enter(status, "SUBMITTED")
        status["executionAttempts"] = status.get("executionAttempts", 0) + 1
        return _SOON_S

    async def _follow_driver(self, key: Key, _app: Object, status: Object) -> float | None:
        """Make the state what the driver's phase says."""
        pod = self._driver(key)
        if pod is None:
            missing_s = time.time() - _seconds(status["lastSubmissionAttemptTime"])
            if status["applicationState"]["state"] == "SUBMITTED" and missing_s < self.grace_s:
                return self.grace_s - missing_s
            _enter(status, "FAILING", "driver pod not found")
            status["terminationTime"] = timestamp()
            return None
        status["sparkApplicationId"] = pod["metadata"]["labels"]["spark-app-selector"]
        state = _STATE_OF_PHASE.get(pod["status"]["phase"], "UNKNOWN")
        if state in ("SUCCEEDING", "FAILING"):
            status["terminationTime"] = timestamp()
        if state != status["applicationState"]["state"]:
            _enter(status, state, _last_words(pod) if state == "FAILING" else None)
        return None

    async def _rerun_or_end(self, key: Key, app: Object, status: Object) -> float | None:
        state, policy = status["applicationState"]["state"], app["spec"].get("restartPolicy") or {}
        if not _retries(state, policy, status):
            _enter(status, "COMPLETED" if state == "SUCCEEDING" else "FAILED", keep=True)
            return None
        wait_s = 0.0
        if state != "SUCCEEDING":  # one that exits with 0 at once is started again without any wait
            name = "onFailureRetryInterval" if state == "FAILING" else "onSubmissionFailureRetryInterval"
            interval_s = policy.get(name, _INTERVAL_S) * self.interval_scale
            due = _seconds(status["lastSubmissionAttemptTime"]) + interval_s * status["submissionAttempts"]
            wait_s = due - time.time()
        if wait_s > 0:
            return wait_s
        await self._delete_driver(key)
        if state == "SUBMISSION_FAILED":
            return await self._submit(key, app, status)
        _enter(status, "PENDING_RERUN", keep=True)
        return None

    async def _invalidate(self, key: Key, _app: Object, status: Object) -> float | None:
        await self._delete_driver(key)
        for name in ("sparkApplicationId", "lastSubmissionAttemptTime", "terminationTime"):
            status.pop(name, None)
        status |= {"submissionAttempts": 0, "executionAttempts": 0}
        _enter(status, "PENDING_RERUN")
        return None

    async def _resubmit(self, key: Key, app: Object, status: Object) -> float | None:
        if self._driver(key) is not None:
            return _SOON_S
        for name in ("sparkApplicationId", "terminationTime"):
            status.pop(name, None)
        status["submissionAttempts"] = 0
        return await self._submit(key, app, status)

    async def _suspend(self, key: Key, _app: Object, status: Object) -> float | None:
        if self._driver(key) is not None:
            return _SOON_S
        _enter(status, "SUSPENDED")
        return None

    async def _resume(self, _key: Key, app: Object, status: Object) -> float | None:
        if not app["spec"].get("suspend"):
            _enter(status, "RESUMING")
        return None

    # -- drivers -----------------------------------------------------------------------------------------------------

    def _driver(self, key: Key) -> Object | None:
        return self._pods.objects.get(Key(key.namespace, f"{key.name}-driver"))

    async def _delete_driver(self, key: Key) -> None:
        await self.api.delete(f"/api/v1/namespaces/{key.namespace}/pods/{key.name}-driver")

    async def _end_driver(self, key: Key, exit_code: int, message: str | None) -> None:
        reason, now = "Error" if exit_code else "Completed", timestamp()
        ended = {"exitCode": exit_code, "reason": reason, "message": message or "", "startedAt": now, "finishedAt": now}
        base = {"name": CONTAINER, "image": "", "imageID": "", "ready": False, "restartCount": 0, "started": False}
        container = {**base, "state": {"terminated": ended}}
        status = {"phase": "Failed" if exit_code else "Succeeded", "containerStatuses": [container]}
        await self.api.merge(f"/api/v1/namespaces/{key.namespace}/pods/{key.name}/status", {"status": status})

    # -- what changes ------------------------------------------------------------------------------------------------

    def _app_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        if old is not None and _relevant(old["spec"]) != _relevant(new["spec"]):
            if self._misses:
                self._misses -= 1
            else:
                self._changed_specs.add(key_of(new))
        self.queue.add(key_of(new))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        name = (pod["metadata"].get("labels") or {}).get(f"{_LABEL}app-name")
        if name is not None:
            self.queue.add(Key(pod["metadata"]["namespace"], name))


def driver_pod(app: Object, submission: str) -> Object:
    """Return the driver that spark-submit would create: the template with the application's own wishes in it."""
    spec, driver, metadata = app["spec"], app["spec"]["driver"], app["metadata"]
    template = copy.deepcopy(driver.get("template") or {})
    pod = {"restartPolicy": "Never", **template.get("spec", {})}
    containers = pod.get("containers") or [{}]
    containers[0] = _driver_container(spec, driver, containers[0])
    pod["containers"] = containers
    pod["volumes"] = [*pod.get("volumes", []), *spec.get("volumes", [])]
    for wish, field in (("serviceAccount", "serviceAccountName"), ("podSecurityContext", "securityContext")):
        if wish in driver:
            pod[field] = driver[wish]
    own = template.get("metadata", {})
    labels = {**own.get("labels", {}), **(metadata.get("labels") or {}), **driver.get("labels", {})}
    labels |= {
        "spark-role": "driver",
        "spark-app-selector": f"spark-{submission.replace('-', '')}",
        f"{_LABEL}app-name": metadata["name"],
        f"{_LABEL}launched-by-spark-operator": "true",
        f"{_LABEL}submission-id": submission,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{metadata['name']}-driver",
            "labels": labels,
            "annotations": {**own.get("annotations", {}), **driver.get("annotations", {})},
        },
        "spec": pod,
    }


def _driver_container(spec: Object, driver: Object, template: Object) -> Object:
    wishes: Object = {name: driver[name] for name in ("securityContext", "lifecycle", "ports") if name in driver}
    lists: Object = {
        name: [*template.get(name, []), *driver.get(name, [])] for name in ("env", "envFrom", "volumeMounts")
    }
    image = driver.get("image") or spec.get("image") or template.get("image", "spark")
    return {**template, **wishes, **lists, "name": CONTAINER, "image": image}


def _retries(state: str, policy: Object, status: Object) -> bool:
    """Tell whether the application is to be started again."""
    kind = policy.get("type", "Never")
    if kind == "Always" or state == "SUCCEEDING":
        return bool(kind == "Always")
    wish, done = ("onFailureRetries", "executionAttempts")
    if state == "SUBMISSION_FAILED":
        wish, done = ("onSubmissionFailureRetries", "submissionAttempts")
    return kind == "OnFailure" and wish in policy and status.get(done, 0) <= policy[wish]


def _enter(status: Object, state: str, error: str | None = None, *, keep: bool = False) -> None:
    """Change the state; the error of before goes, unless it is to be kept."""
    before = status["applicationState"].get("errorMessage", "") if keep else ""
    status["applicationState"] = {"state": state, "errorMessage": error or before}


def _last_words(pod: Object) -> str:
    for container in pod["status"].get("containerStatuses", []):
        if (ended := container["state"].get("terminated")) is not None:
            return f"driver container failed with ExitCode: {ended['exitCode']}, Reason: {ended['reason']}"
    return "driver container status missing"


def _relevant(spec: Object) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in _IGNORED}


def _seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
