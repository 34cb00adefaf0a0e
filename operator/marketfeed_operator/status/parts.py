"""What is said of a feed's parts: topics, ingestors, consumers, the streaming job, and whether it is stopped.

What does not live here: whether data flows and is complete (flow), and what all parts come to (conditions.ready).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from marketfeed_operator.causes import Cause, presentable
from marketfeed_operator.deletion import MANAGED, RELEASED_AT
from marketfeed_operator.diff import is_topic_key, topic_name
from marketfeed_operator.objects import (
    COMPONENT,
    COMPONENT_ANALYTICS,
    COMPONENT_CONSUMER,
    COMPONENT_INGESTOR,
    Manifest,
    annotations_of,
    claims_of,
    key_of,
    labels_of,
)
from marketfeed_operator.observed import Observed
from marketfeed_operator.outcome import Outcome
from marketfeed_operator.plan import Plan
from marketfeed_operator.spark import STARTED_AGAIN
from marketfeed_operator.status.conditions import PASSING, Condition
from marketfeed_operator.status.symptoms import reason_of
from marketfeed_operator.status.workloads import Workload, missing_secret, running, workload

_STOPPED = "spec.suspend is true"

Named = tuple[str, Cause]
"""What is not well, and why."""


def topics(observed: Observed, outcome: Outcome, plan: Plan) -> tuple[Condition, list[Manifest]]:
    """Return TopicsReady and every topic with what is to be said of it."""
    if not plan.topics:
        return Condition("TopicsReady", "True", "KafkaDisabled", "spec.kafka.enabled is false: no topics"), []
    causes = [(topic.name, _topic(topic.name, observed, outcome)) for topic in plan.topics]
    described = [_described(name, cause) for name, cause in causes]
    waiting = [(f"topic {name}", cause) for name, cause in causes if cause is not None and not _fine(cause)]
    return _condition("TopicsReady", waiting, f"{len(causes)} of {len(causes)} topics are ready"), described


def ingest(observed: Observed, outcome: Outcome, plan: Plan) -> tuple[Condition, list[Workload]]:
    """Return IngestReady and the shards' Deployments, in the order of the plan."""
    found = [workload(observed, shard.name, 0 if plan.suspended else 1) for shard in plan.shards]
    if plan.suspended:
        return Condition("IngestReady", "False", "Suspended", _STOPPED), found
    secret = missing_secret(observed, [use for shard in plan.shards for use in shard.secrets])
    causes = [
        *_general(secret, _refusals(observed, outcome, COMPONENT_INGESTOR)),
        *((f"shard {one.name}", one.cause) for one in found if one.cause is not None),
    ]
    moving = outcome.hand_over is not None and outcome.hand_over.moving
    hand_over = "; streams are being handed over" if moving else ""
    return _condition("IngestReady", causes, f"{len(found)} of {len(found)} shards run{hand_over}"), found


def sinks(observed: Observed, outcome: Outcome, plan: Plan) -> tuple[Condition, list[Manifest]]:
    """Return SinksReady and every sink with its consumers, wanted and ready."""
    stopped = plan.suspended
    found = {one.sink: workload(observed, one.name, 0 if stopped else one.replicas) for one in plan.consumers}
    described: list[Manifest] = [
        {"name": one.sink, "type": one.type, "desired": found[one.sink].desired, "ready": found[one.sink].available}
        for one in plan.consumers
    ]
    if stopped:
        return Condition("SinksReady", "False", "Suspended", _STOPPED), described
    if not found:
        return Condition("SinksReady", "True", "NoConsumers", "no sink needs a consumer"), described
    causes = _general(None, _refusals(observed, outcome, COMPONENT_CONSUMER))
    for one in plan.consumers:
        cause = missing_secret(observed, one.secrets) or found[one.sink].cause
        causes += [] if cause is None else [(f"sink {one.sink}", cause)]
    return _condition("SinksReady", causes, f"{len(found)} of {len(found)} sinks have their consumers"), described


def analytics(observed: Observed, outcome: Outcome, plan: Plan) -> tuple[Condition, str]:
    """Return AnalyticsReady and the streaming job's state in a word."""
    if plan.analytics is None:
        return Condition("AnalyticsReady", "True", "Off", "no streaming job is asked for"), "Off"
    if plan.suspended:
        return Condition("AnalyticsReady", "False", "Suspended", _STOPPED), "Suspended"
    verdict = outcome.analytics
    state = "Starting" if verdict is None else verdict.state
    causes = _general(
        missing_secret(observed, plan.analytics.secrets), _refusals(observed, outcome, COMPONENT_ANALYTICS)
    )
    if not causes and verdict is None:
        causes = [("", Cause("Waiting", "the job is being created"))]
    elif not causes and verdict is not None and not verdict.ready:
        causes = [("", Cause(verdict.reason, verdict.message))]
    elif not causes:
        causes = [("", Cause(reason_of(problem), presentable(problem))) for problem in _driver_problems(observed)]
    return _condition("AnalyticsReady", causes, "the streaming job runs"), state


def _driver_problems(observed: Observed) -> Iterator[str]:
    """Yield why a driver that runs does not do its work, in its own words: no probe asks it, see render.analytics."""
    for pod in observed.pods:
        sample = observed.samples.get(str(pod["metadata"]["name"]))
        is_analytics = labels_of(pod).get(COMPONENT) == COMPONENT_ANALYTICS and running(pod)
        if is_analytics and sample is not None and sample.problem:
            yield sample.problem


def suspended(observed: Observed, plan: Plan) -> Condition:
    """Return Suspended: True once nothing runs any more."""
    if not plan.suspended:
        return Condition("Suspended", "False", "NotSuspended", "spec.suspend is false")
    phases = {(pod.get("status") or {}).get("phase") for pod in observed.pods}
    if phases & {"Running", "Pending"}:
        return Condition("Suspended", "False", "Stopping", "spec.suspend is true: pods finish what they hold")
    return Condition("Suspended", "True", "Suspended", "spec.suspend is true: nothing runs, and all is kept")


def _condition(type_: str, causes: Sequence[Named], good: str) -> Condition:
    """Return the condition that lifts the cause which explains most, and counts the others."""
    if not causes:
        return Condition(type_, "True", "AllReady", good)
    what, cause = min(causes, key=lambda named: named[1].reason in PASSING)
    more = f" (and {len(causes) - 1} more)" if len(causes) > 1 else ""
    message = f"{what}: {cause.message}{more}" if what else f"{cause.message}{more}"
    # How far something has come, and how often it was tried, are worth a write.
    quotes = cause.reason not in PASSING and STARTED_AGAIN not in message
    return Condition(type_, "False", cause.reason, message, quotes)


def _general(secret: Cause | None, refusals: Sequence[Cause]) -> list[Named]:
    """Return what concerns a whole part, not one of its workloads."""
    return [("", cause) for cause in (*([] if secret is None else [secret]), *refusals)]


def _refusals(observed: Observed, outcome: Outcome, component: str) -> list[Cause]:
    """Return what the API server refused of a component; what belongs to none of them counts as the ingestors'."""
    components = {key_of(manifest): labels_of(manifest).get(COMPONENT) for manifest in outcome.desired}
    known = (COMPONENT_CONSUMER, COMPONENT_ANALYTICS)
    found = []
    for key, sentence in sorted(observed.failures.items()):
        named = components.get(key)
        if not is_topic_key(key) and (named if named in known else COMPONENT_INGESTOR) == component:
            text = sentence if key.name in sentence else f"{key}: {sentence}"
            found.append(Cause("Refused", presentable(text, 500)))
    return found


def _described(name: str, cause: Cause | None) -> Manifest:
    said: Mapping[str, Any] = {} if cause is None else {"reason": cause.reason, "message": cause.message}
    return {"name": name, "ready": cause is None or _fine(cause), **said}


def _fine(cause: Cause) -> bool:
    """Tell whether a topic of which this is said may be used all the same."""
    return cause.reason in ("Unmanaged", "Warning")


def _topic(name: str, observed: Observed, outcome: Outcome) -> Cause | None:
    if outcome.feed is not None and outcome.feed.spec.kafka.topics.provisioner == "direct":
        return _direct(name, observed)
    if observed.served.kafka_topic is None:
        message = "KafkaTopic is not served: install Strimzi, or set spec.kafka.topics.provisioner to direct"
        return Cause("NotServed", message)
    live = next(_resources(name, observed.children.values()), None)
    failure = _topic_failure(name, observed, outcome)
    if failure is not None:
        return Cause(_refusal_reason(failure, live), presentable(failure, 500))
    return Cause("Waiting", "the KafkaTopic is being created") if live is None else _strimzi(live)


def _direct(name: str, observed: Observed) -> Cause | None:
    seen = observed.direct
    if seen is None:
        return Cause("Waiting", "the brokers have not been asked yet")
    if name in seen.names:
        return None
    if seen.problem is not None:
        return Cause("ApprovalNeeded" if name in seen.held else "KafkaError", presentable(seen.problem, 500))
    return Cause("Waiting", "the topic is being created")


def _resources(name: str, manifests: Any) -> Iterator[Manifest]:
    return (one for one in manifests if is_topic_key(key_of(one)) and topic_name(one) == name)


def _topic_failure(name: str, observed: Observed, outcome: Outcome) -> str | None:
    keys = [key_of(one) for one in _resources(name, (*outcome.desired, *observed.children.values()))]
    return next((observed.failures[key] for key in keys if key in observed.failures), None)


def _refusal_reason(sentence: str, live: Manifest | None) -> str:
    """Tell a conflict from other refusals.

    A failure is a sentence: of ours where feeds disagree, of the API server where fields belong to another manager.
    """
    contested = live is not None and len(claims_of(live)) > 1 and "otherwise" in sentence
    return "TopicConflict" if contested or "conflict" in sentence.lower() or "409" in sentence else "Refused"


def _strimzi(live: Manifest) -> Cause | None:
    """Return what keeps a KafkaTopic from being ready, or what there is to say of a ready one."""
    if "deletionTimestamp" in live["metadata"]:
        return Cause("Deleting", "the KafkaTopic is being deleted, and made anew after that")
    status: Mapping[str, Any] = live.get("status") or {}
    found = {one.get("type"): one for one in status.get("conditions") or () if one.get("status") == "True"}
    marks = annotations_of(live)
    if marks.get(MANAGED) == "false" and RELEASED_AT not in marks:
        return Cause("Unmanaged", "the KafkaTopic is marked as not managed: nobody checks the topic")
    if "ReconciliationPaused" in found:
        return Cause(
            "ReconciliationPaused", "remove the annotation strimzi.io/pause-reconciliation from the KafkaTopic"
        )
    refused = next((one for one in status.get("conditions") or () if _is_refusal(one)), None)
    current = status.get("observedGeneration") == live["metadata"].get("generation")
    if not current or (refused is None and "Ready" not in found):
        return Cause("Waiting", "Strimzi has not taken up the KafkaTopic yet")
    if refused is not None:
        return Cause(str(refused.get("reason") or "NotReady"), presentable(str(refused.get("message") or "")))
    return _remark(found)


def _is_refusal(condition: Mapping[str, Any]) -> bool:
    return (condition.get("type"), condition.get("status")) == ("Ready", "False")


def _remark(found: Mapping[Any, Mapping[str, Any]]) -> Cause | None:
    warning = found.get("Warning")
    return None if warning is None else Cause("Warning", presentable(str(warning.get("message") or "")))
