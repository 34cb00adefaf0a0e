"""Why pods do not run, in the kubelet's and the scheduler's own words where they help, and without secrets.

What does not live here: which condition says it (status), and what a running service says of itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketfeed_operator.objects import Manifest, labels_of
from marketfeed_operator.wording import shortened

LONGEST_TEXT = 300
"""Characters that are kept of a text that is not ours."""

_TEMPLATE = "pod-template-hash"  # the label by which a ReplicaSet tells its pods from its predecessor's
_BAD_CONFIGURATION = 2  # the exit code of our services
_LOOPS_FROM = 2  # restarts

# Everything up to the last @ of a word: passwords hold @, : and / in real life. Too much is better than too little.
_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)\S*@|[^\s:/@'\"]+:\S+@")
_NAMED_SECRET = re.compile(
    r"(?i)\b(\w*(?:password|passwd|pwd|token|api[-_]?key|secret[-_]?key))(\W{0,2}[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s,;&}]+)"
)

_IMAGE_REASONS = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CREATE_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})

_TELLING = (
    "BadConfiguration",
    "MigrationFailed",
    "ImagePullBackOff",
    *sorted(_CREATE_REASONS),
    "OOMKilled",
    "CrashLoopBackOff",
    "ContainerFailed",
    "Unschedulable",
    "Evicted",
)
"""Reasons, the one that explains most first."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a pod does not run: a CamelCase reason and a sentence for people."""

    reason: str
    message: str


def cause(pods: Iterable[Manifest]) -> Cause | None:
    """Return what explains best why pods of one workload do not run, None where nothing is to be said.

    Pods of the newest template come first: what an old one suffers from may be mended already.
    """
    for generation in _newest_first(pods):
        found = [cause for pod in generation for cause in _causes(pod)]
        if found:
            return min(found, key=lambda cause: (_TELLING.index(cause.reason), cause.message))
    return None


def redact(text: str) -> str:
    """Return the text without what looks like user and password of an address, or the value of a secret."""
    text = _CREDENTIALS.sub(lambda found: f"{found[1] or ''}***@", text)
    return _NAMED_SECRET.sub(r"\1\2***", text)


def presentable(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return another's text on one line, without secrets and with at most `longest` characters."""
    return shortened(redact(" ".join(text.split())), longest)


def _newest_first(pods: Iterable[Manifest]) -> list[list[Manifest]]:
    """Return the pods that are here to stay, by their template, the newest template first."""
    groups: dict[str, list[Manifest]] = {}
    for pod in pods:
        if "deletionTimestamp" not in pod["metadata"]:
            groups.setdefault(labels_of(pod).get(_TEMPLATE, ""), []).append(pod)
    return sorted(groups.values(), key=lambda group: max(map(_created, group)), reverse=True)


def _created(pod: Manifest) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def _causes(pod: Manifest) -> Iterator[Cause]:
    status: Mapping[str, Any] = pod.get("status") or {}
    if status.get("reason") == "Evicted":
        yield Cause("Evicted", f"{_name(pod)} was evicted: {presentable(status.get('message', ''))}")
        return
    for condition in status.get("conditions") or ():
        if (condition.get("type"), condition.get("status")) == ("PodScheduled", "False"):
            yield Cause("Unschedulable", f"{_name(pod)} has no node: {presentable(condition.get('message', ''))}")
    yield from _containers(pod, status.get("initContainerStatuses") or (), initial=True)
    yield from _containers(pod, status.get("containerStatuses") or (), initial=False)


def _containers(pod: Manifest, statuses: Sequence[Mapping[str, Any]], *, initial: bool) -> Iterator[Cause]:
    for status in statuses:
        found = _waiting(pod, status) or _failed(pod, status, initial=initial)
        if found is not None:
            yield found


def _waiting(pod: Manifest, status: Mapping[str, Any]) -> Cause | None:
    """Return why a container was never started."""
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason, where = waiting.get("reason", ""), f"container {status['name']} of {_name(pod)}"
    if reason in _IMAGE_REASONS:
        # The kubelet goes back and forth between two reasons and two texts; a status must not follow it.
        image = status.get("image") or _image(pod, status["name"])
        return Cause("ImagePullBackOff", f"{where} has no image: {image} cannot be pulled; check its name and access")
    if reason in _CREATE_REASONS:
        return Cause(reason, f"{where} cannot start: {presentable(waiting.get('message', ''))}")
    return None


def _failed(pod: Manifest, status: Mapping[str, Any], *, initial: bool) -> Cause | None:
    """Return how a container ended that ought to run."""
    ended = _ended(status)
    if ended is None:
        return None
    where = f"{'init container' if initial else 'container'} {status['name']} of {_name(pod)}"
    code = ended.get("exitCode")
    if ended.get("reason") == "OOMKilled":
        return Cause("OOMKilled", f"{where} needed more memory than its limit: raise its limit")
    last = presentable(_last_line(ended.get("message") or ""))
    return Cause(
        _failure(status, code, initial=initial), f"{where} ended with exit code {code}{f': {last}' if last else ''}"
    )


def _failure(status: Mapping[str, Any], code: int | None, *, initial: bool) -> str:
    if code == _BAD_CONFIGURATION:
        return "BadConfiguration"
    if initial and "migrat" in status["name"]:
        return "MigrationFailed"
    waits = (status.get("state") or {}).get("waiting") or {}
    if waits.get("reason") == "CrashLoopBackOff" or status.get("restartCount", 0) >= _LOOPS_FROM:
        return "CrashLoopBackOff"
    return "ContainerFailed"


def _ended(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the last failed end of a container that is not well now; between two crashes it looks like running."""
    state = status.get("state") or {}
    if "terminated" not in state and status.get("ready"):
        return None
    ended: Mapping[str, Any] | None = state.get("terminated") or (status.get("lastState") or {}).get("terminated")
    return ended if ended is not None and ended.get("exitCode") != 0 else None


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _image(pod: Manifest, container: str) -> str:
    spec = pod.get("spec") or {}
    containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    return next((str(one.get("image")) for one in containers if one.get("name") == container), "the image")


def _name(pod: Manifest) -> str:
    return f"pod {pod['metadata']['name']}"
