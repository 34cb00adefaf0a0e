"""What a kubelet writes into a pod's status, with its own words. Pure: no client and no clock.

What does not live here: when it happens (kubelet), and what the pod's service answers (services).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from standins.api import Key, Object

Cause = Literal[
    "ImagePullBackOff",
    "CreateContainerConfigError",
    "ContainerCreating",
    "CrashLoopBackOff",
    "OOMKilled",
    "Error",
    "Completed",
    "Unschedulable",
    "NotReady",
]
"""Error and Completed end the container for good where the pod's restartPolicy is Never, as a Spark driver's."""

_NOT_STARTED = ("ImagePullBackOff", "CreateContainerConfigError", "ContainerCreating")
_SCHEDULED = {"type": "PodScheduled", "status": "True"}


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong with a pod; `container` is the first one when None, and may be an init container."""

    cause: Cause
    message: str | None = None
    exit_code: int = 1
    container: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the status of one pod is made of; times are as Kubernetes writes them."""

    ip: str
    started: str
    ready: bool
    failure: Failure | None = None


def status(pod: Object, facts: Facts) -> Object:
    """Return the pod's whole status, except since when its conditions are so."""
    spec, failure = pod["spec"], facts.failure
    failing = str(failure.container or spec["containers"][0]["name"]) if failure else None
    in_init = any(container["name"] == failing for container in spec.get("initContainers", []))
    init = [_init_status(c, facts, failing if in_init else None) for c in spec.get("initContainers", [])]
    main = [_main_status(pod, c, facts, failing, waits=in_init) for c in spec["containers"]]
    ready = all(each["ready"] for each in main)
    return {
        "phase": _phase(spec, facts, in_init=in_init),
        "hostIP": "127.0.0.1",
        "podIP": facts.ip,
        "podIPs": [{"ip": facts.ip}],
        "startTime": facts.started,
        "conditions": _conditions(ready=ready, initialized=not in_init, names=[c["name"] for c in main]),
        "containerStatuses": main,
        **({"initContainerStatuses": init} if init else {}),
    }


def unschedulable(failure: Failure) -> Object:
    """Return the status of a pod that no node takes."""
    message = failure.message or "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate"
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def _phase(spec: Object, facts: Facts, *, in_init: bool) -> str:
    cause = facts.failure.cause if facts.failure else None
    if in_init or cause in _NOT_STARTED:
        return "Pending"
    if cause in ("Error", "Completed") and spec.get("restartPolicy") == "Never":
        return "Failed" if cause == "Error" else "Succeeded"
    return "Running"


def _conditions(*, ready: bool, initialized: bool, names: list[str]) -> list[Object]:
    unready = {"reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(names)}]"}
    readiness = {"status": "True"} if ready else {"status": "False", **unready}
    start = {"status": "True"} if initialized else {"status": "False", "reason": "ContainersNotInitialized"}
    return [
        {"type": "Initialized", **start},
        {"type": "Ready", **readiness},
        {"type": "ContainersReady", **readiness},
        dict(_SCHEDULED),
    ]


def _init_status(container: Object, facts: Facts, failing: str | None) -> Object:
    """Tell of an init container: done, or what keeps it from it."""
    if failing == container["name"] and facts.failure is not None:
        return _failed(container, facts, facts.failure, restarts=True)
    state = _terminated(facts, 0, "Completed", None) if failing is None else {"waiting": {"reason": "PodInitializing"}}
    return {**_base(container), "ready": failing is None, "state": state}


def _main_status(pod: Object, container: Object, facts: Facts, failing: str | None, *, waits: bool) -> Object:
    if waits:
        return {**_base(container), "started": False, "state": {"waiting": {"reason": "PodInitializing"}}}
    if facts.failure is not None and failing == container["name"] and facts.failure.cause != "NotReady":
        return _failed(container, facts, facts.failure, restarts=pod["spec"].get("restartPolicy") != "Never")
    ready = facts.ready and not (facts.failure and failing == container["name"])
    return {**_base(container), "ready": ready, "started": True, "state": {"running": {"startedAt": facts.started}}}


def _failed(container: Object, facts: Facts, failure: Failure, *, restarts: bool) -> Object:
    if failure.cause in _NOT_STARTED:
        waiting: Object = {"reason": failure.cause, "message": failure.message or _why_not_started(container, failure)}
        return {**_base(container), "started": False, "state": {"waiting": _without_none(waiting)}}
    reason = failure.cause if failure.cause in ("OOMKilled", "Completed") else "Error"
    code = {"OOMKilled": 137, "Completed": 0}.get(failure.cause, failure.exit_code)
    ended = _terminated(facts, code, reason, failure.message)
    if not restarts:
        return {**_base(container), "started": False, "state": ended}
    message = f"back-off 10s restarting failed container={container['name']}"
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
    return {**_base(container), "started": False, "restartCount": 3, "state": waiting, "lastState": ended}


def _why_not_started(container: Object, failure: Failure) -> str | None:
    image = container["image"]
    if failure.cause != "ImagePullBackOff":
        return None
    return f'Back-off pulling image "{image}": ErrImagePull: failed to resolve reference "{image}": not found'


def _base(container: Object) -> Object:
    name, image = container["name"], container["image"]
    return {"name": name, "image": image, "imageID": "", "ready": False, "restartCount": 0}


def _terminated(facts: Facts, exit_code: int, reason: str, message: str | None) -> Object:
    times = {"startedAt": facts.started, "finishedAt": facts.started}
    return {"terminated": _without_none({"exitCode": exit_code, "reason": reason, "message": message, **times})}


def _without_none(found: Object) -> Object:
    return {name: value for name, value in found.items() if value is not None}


def missing(pod: Object, secrets: Mapping[Key, Object], config_maps: Mapping[Key, Object]) -> Failure | None:
    """Return what keeps a pod's containers from being created: a Secret or ConfigMap that is not there."""
    kinds = {"secret": ("Secret", secrets), "configMap": ("ConfigMap", config_maps)}
    namespace, spec = pod["metadata"]["namespace"], pod["spec"]
    for volume in spec.get("volumes", []):
        for source, name in (("secret", "secretName"), ("configMap", "name")):
            wanted = volume.get(source)
            if wanted and not wanted.get("optional") and (namespace, wanted[name]) not in kinds[source][1]:
                return Failure("ContainerCreating")  # the reason stands in an event only: FailedMount
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        for source, reference in _references(container):
            why = _not_found(namespace, reference, *kinds[source])
            if why is not None:
                return Failure("CreateContainerConfigError", why, container=container["name"])
    return None


def _references(container: Object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for variable in container.get("env", []):
        for source in ("secret", "configMap"):
            if f"{source}KeyRef" in variable.get("valueFrom", {}):
                yield source, variable["valueFrom"][f"{source}KeyRef"]
    for origin in container.get("envFrom", []):
        for source in ("secret", "configMap"):
            if f"{source}Ref" in origin:
                yield source, origin[f"{source}Ref"]


def _not_found(namespace: str, reference: Mapping[str, Any], kind: str, objects: Mapping[Key, Object]) -> str | None:
    """Say what a reference lacks, in the kubelet's words; None for nothing."""
    if reference.get("optional"):
        return None
    found = objects.get(Key(namespace, reference["name"]))
    if found is None:
        return f'{kind.lower()} "{reference["name"]}" not found'
    if "key" in reference and reference["key"] not in (found.get("data") or {}):
        return f"couldn't find key {reference['key']} in {kind} {namespace}/{reference['name']}"
    return None
