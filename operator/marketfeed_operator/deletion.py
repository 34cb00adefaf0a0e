"""Letting topics go: what becomes of a KafkaTopic when a feed no longer wants it, one step at a time.

Each step is decided from the topic as it is now, so any step may be repeated, and the operator may end between any two.
What does not live here: carrying a step out (the shell), and which topics a feed no longer wants (reconcile).

To keep a topic's data its resource must go without Strimzi following: it is first marked as not managed, then Strimzi
is waited for, and only then is the resource deleted. Source: Strimzi's documentation, "Managing Kafka topics with the
Topic Operator", on the annotation `strimzi.io/managed`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from marketfeed_operator.diff import WISH_PREFIX
from marketfeed_operator.objects import (
    APPLIED,
    CLAIM_PREFIX,
    COMPONENT,
    GROUP,
    INSTANCE,
    MANAGED_BY,
    MANAGER,
    NAME,
    POLICY,
    Key,
    Manifest,
    annotations_of,
    claims_of,
    key_of,
    labels_of,
)
from marketfeed_operator.wording import feeds

MANAGED = "strimzi.io/managed"
"""Annotation, Strimzi's: "false" makes it leave the topic alone, and keep it when its resource is deleted."""
RELEASED_AT = f"{GROUP}/released-at"
"""Annotation of a topic: when we marked it as not managed. Without it the mark is the user's own."""
RETAIN, DELETE = "Retain", "Delete"

ANSWER_S = 60.0
"""How long Strimzi may take to answer."""
_LOOK_AGAIN_S = 2.0


class Action(StrEnum):
    """What a step does."""

    UNCLAIM = "unclaim"  # other feeds want the topic: only our claim goes
    UNMANAGE = "unmanage"  # ask Strimzi to let go of it
    WAIT = "wait"  # until Strimzi has let go
    REMOVE = "remove"  # delete the resource
    LEAVE = "leave"  # Strimzi does not answer: the resource stays, and is nobody's
    GONE = "gone"  # it is being deleted, or not ours: nothing to do


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a merge patch to write, or a deletion, or neither; `sentence` says for people what it is about.

    A patch names the version that it was decided on, and a deletion must (`resource_version`): a claim that another
    feed makes in the meantime is a conflict then, after which the topic is judged anew. `done`: after this step nothing
    remains to be done for this feed.
    """

    action: Action
    sentence: str
    patch: Manifest | None = None
    delete: bool = False
    done: bool = False
    look_again_s: float | None = None
    uid: str | None = None
    resource_version: str | None = None


@dataclass(frozen=True, slots=True)
class Orphan:
    """A claim of a feed that is gone; `policy` is the last one that an operator saw."""

    key: Key
    topic: Manifest
    uid: str
    policy: str


def release(topic: Manifest, uid: str, policy: str, now: datetime, answer_s: float = ANSWER_S) -> Step:
    """Return the next step of letting `topic` go from the feed `uid`; with `policy` Retain its data is kept.

    A topic that the feed does not claim is never touched. The data is deleted only under the policy Delete, and only
    where no other feed claims the topic. `answer_s`: how long Strimzi may take to answer.
    """
    claims = claims_of(topic)
    if "deletionTimestamp" in topic["metadata"]:
        return _gone(topic, now, answer_s)
    if uid not in claims:
        return Step(Action.GONE, f"{_name(topic)} is not claimed by this feed", done=True)
    if len(claims) > 1:
        return _unclaim(topic, uid)
    if annotations_of(topic).get(MANAGED) == "false":
        return _let_go(topic, uid, now, answer_s)
    if policy == DELETE:
        return _remove(topic, "with its topic and data")
    return _unmanage(topic, now)


def reclaim(topic: Manifest) -> Manifest | None:
    """Return the merge patch that makes Strimzi manage a topic again that we had begun to release, None where it does.

    It must be written before a feed adopts the topic: server-side apply leaves alone what a patch has added. What the
    user marked as not managed stays so.
    """
    if RELEASED_AT not in annotations_of(topic) or "deletionTimestamp" in topic["metadata"]:
        return None
    return _patch(topic, annotations={MANAGED: None, RELEASED_AT: None})


def orphans(
    topics: Iterable[Manifest], live_uids: Collection[str], namespaces: Collection[str] = ()
) -> tuple[Orphan, ...]:
    """Return the claims of feeds that are gone: their feeds left while no operator was watching.

    `live_uids` must hold every feed of these namespaces, of all without any: a feed that is missing from it loses its
    topics. Claims of feeds of other namespaces are none of our business.
    """
    return tuple(
        Orphan(key_of(topic), topic, uid, policy_of(topic))
        for topic in topics
        for uid, feed in sorted(claims_of(topic).items())
        if uid not in live_uids and is_ours(feed, namespaces)
    )


def is_ours(feed: str, namespaces: Collection[str]) -> bool:
    """Tell whether a claim is of a feed in a namespace that we look after; other operators may share our topics."""
    return not namespaces or feed.partition("/")[0] in namespaces


def policy_of(topic: Manifest) -> str:
    """Return what is to become of the topic, as an operator last saw it; whatever is not Delete retains."""
    return DELETE if annotations_of(topic).get(POLICY) == DELETE else RETAIN


def _unclaim(topic: Manifest, uid: str) -> Step:
    """Take our claim away, and a release that we had begun before the others came."""
    others = sorted(name for other, name in claims_of(topic).items() if other != uid)
    begun = {MANAGED: None, RELEASED_AT: None} if RELEASED_AT in annotations_of(topic) else {}
    patch = _patch(topic, labels={f"{CLAIM_PREFIX}{uid}": None}, annotations={**_wish(topic, uid), **begun})
    return Step(Action.UNCLAIM, f"{_name(topic)} stays: wanted by {feeds(others)}", patch=patch, done=True)


def _unmanage(topic: Manifest, now: datetime) -> Step:
    patch = _patch(topic, annotations={MANAGED: "false", RELEASED_AT: f"{now:%Y-%m-%dT%H:%M:%SZ}"})
    sentence = f"{_name(topic)} is kept: Strimzi is asked to let go of it"
    return Step(Action.UNMANAGE, sentence, patch=patch, look_again_s=_LOOK_AGAIN_S)


def _let_go(topic: Manifest, uid: str, now: datetime, answer_s: float) -> Step:
    """Return the step for a topic that is marked as not managed."""
    released = annotations_of(topic).get(RELEASED_AT)
    if released is None:
        return _remove(topic, "its topic is not managed by Strimzi, and stays")
    if _let_go_by_strimzi(topic):
        return _remove(topic, "its topic and data are kept")
    waited_s = _since_s(released, now)
    if waited_s < answer_s:
        sentence = f"{_name(topic)} is kept: waiting for Strimzi to let go of it"
        return Step(Action.WAIT, sentence, look_again_s=min(_LOOK_AGAIN_S, answer_s - waited_s))
    if not topic.get("status") and not topic["metadata"].get("finalizers"):
        return _remove(topic, "Strimzi has never seen it")
    return _leave(topic, uid, waited_s)


def _remove(topic: Manifest, how: str) -> Step:
    metadata = topic["metadata"]
    return Step(
        Action.REMOVE,
        f"{_name(topic)} is deleted: {how}",
        delete=True,
        done=True,
        uid=metadata.get("uid"),
        resource_version=metadata.get("resourceVersion"),
    )


def _leave(topic: Manifest, uid: str, waited_s: float) -> Step:
    """Give the resource up as it is: not managed, so that nothing happens to the data when Strimzi comes back."""
    ours = labels_of(topic).get(MANAGED_BY) == MANAGER
    labels = [f"{CLAIM_PREFIX}{uid}", *((MANAGED_BY, NAME, COMPONENT, INSTANCE) if ours else ())]
    marks = {name: None for name in (APPLIED, POLICY) if name in annotations_of(topic)}
    patch = _patch(
        topic,
        labels={name: None for name in labels if name in labels_of(topic)},
        annotations={**_wish(topic, uid), **marks},
    )
    long = f" for {waited_s:.0f} s" if math.isfinite(waited_s) else ""
    sentence = (
        f"{_name(topic)} stays, not managed: Strimzi has not answered{long}. Its topic and data are "
        "kept; delete the resource by hand once the topic operator runs"
    )
    return Step(Action.LEAVE, sentence, patch=patch, done=True)


def _gone(topic: Manifest, now: datetime, answer_s: float) -> Step:
    """Say how the deletion goes: not done while a finalizer is there, so that a hanging one is told of."""
    metadata = topic["metadata"]
    finalizers = metadata.get("finalizers") or ()
    waited_s = _since_s(metadata["deletionTimestamp"], now)
    if waited_s < answer_s or not finalizers:
        look_again_s = answer_s - waited_s if finalizers else None
        sentence = f"{_name(topic)} is being deleted"
        return Step(Action.GONE, sentence, done=not finalizers, look_again_s=look_again_s)
    sentence = (
        f"{_name(topic)} hangs in its deletion: no topic operator takes away {', '.join(finalizers)}; "
        "start Strimzi's topic operator, or remove the finalizer by hand"
    )
    return Step(Action.GONE, sentence)


def _let_go_by_strimzi(topic: Manifest) -> bool:
    """Tell whether Strimzi says of this very generation that it does not manage the topic."""
    status: Mapping[str, Any] = topic.get("status") or {}
    generation = topic["metadata"].get("generation")
    unmanaged = any(
        (condition.get("type"), condition.get("status")) == ("Unmanaged", "True")
        for condition in status.get("conditions") or ()
    )
    return unmanaged and status.get("observedGeneration") == generation


def _since_s(time: str, now: datetime) -> float:
    """Return the seconds since an RFC 3339 time; what cannot be read is long ago, so that nothing waits for ever."""
    try:
        return (now - datetime.fromisoformat(time)).total_seconds()
    except (TypeError, ValueError):
        return math.inf


def _patch(
    topic: Manifest, labels: Mapping[str, str | None] | None = None, annotations: Mapping[str, str | None] | None = None
) -> Manifest:
    """Return a merge patch of the metadata that holds for this version of the topic alone."""
    version = topic["metadata"].get("resourceVersion")
    fields = {"labels": labels, "annotations": annotations, "resourceVersion": version}
    return {"metadata": {name: value for name, value in fields.items() if value}}


def _wish(topic: Manifest, uid: str) -> dict[str, None]:
    name = f"{WISH_PREFIX}{uid}"
    return {name: None} if name in annotations_of(topic) else {}


def _name(topic: Manifest) -> str:
    return str(key_of(topic))
