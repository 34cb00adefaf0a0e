"""Which objects must be written: what is wanted beside what is there, and nothing for what is as it should be.

Only the fields that we render are looked at: defaults of the API server and what others add are not ours.
What does not live here: what is wanted (render), what a change means to people (changes), releasing topics (deletion).

A topic may be wanted by several feeds. Each applies it with a field manager of its own and says in an annotation
which wish it has. While the wishes differ, the topic stays as it is, and every feed whose wish it is not is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from marketfeed_operator.objects import (
    ALWAYS_SERVED,
    APPLIED,
    CLAIM_PREFIX,
    DEPLOYMENT,
    FEED_LABEL,
    GROUP,
    KAFKA_TOPIC_V1,
    MANAGER,
    POLICY,
    SOMETIMES_SERVED,
    UID_LABEL,
    Key,
    Manifest,
    annotations_of,
    claims_of,
    digest,
    key_of,
    labels_of,
)
from marketfeed_operator.observed import Observed
from marketfeed_operator.render.quantities import canonical

WISH_PREFIX = f"wish.{GROUP}/"
"""Annotation of a topic: one for each feed that claims it, `wish.marketfeed.dev/<uid>: <hash of what it wants>`."""
_WAITING = ".waiting"
"""Ends a wish that the topic does not have. Once it does, the feed applies it without this, and owns it too."""

MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "ports": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "ownerReferences": "uid",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists that others may add to: the field that tells their items apart."""

_PRUNED = frozenset((kind.group, kind.kind) for kind in (*ALWAYS_SERVED, *SOMETIMES_SERVED)) - {
    (KAFKA_TOPIC_V1.group, KAFKA_TOPIC_V1.kind)
}
_KEPT_WHEN_EMPTY = frozenset({("emptyDir",)})  # the API server leaves other empty fields out
_QUANTITIES = frozenset({"requests", "limits"})  # maps of them
_QUANTITY = frozenset({"sizeLimit", "divisor", "storage"})
_MAPS = (dict, Mapping)  # asking an abstract class takes ten times as long, and nearly all are plain
_NOT_COMPARED = frozenset({"apiVersion", "kind", "status"})


class Cause(StrEnum):
    """Why an object is applied, in a word for counting."""

    MISSING = "missing"  # it is not there
    CHANGED = "changed"  # the feed asks for something else than we applied last
    DRIFTED = "drifted"  # somebody changed what we applied


@dataclass(frozen=True, slots=True)
class Apply:
    """A server-side apply; `why` says what is not as it should be, without any value."""

    manifest: Manifest
    manager: str
    force: bool
    why: str
    cause: Cause

    @property
    def key(self) -> Key:
        """Return which object it is."""
        return key_of(self.manifest)


@dataclass(frozen=True, slots=True)
class Delete:
    """A deletion; `uid` is that of the object that was seen, so that no other one of the name is deleted."""

    key: Key
    uid: str | None = None


Write = Apply | Delete


def stamp(manifest: Manifest) -> Manifest:
    """Return the object with the hash of itself, which tells later what we no longer want.

    A topic's hash leaves out whose wish it is, and stands a second time under the feed's own name.
    """
    labels = {name: value for name, value in labels_of(manifest).items() if not name.startswith(CLAIM_PREFIX)}
    content = _with_metadata(manifest, labels=labels, annotations=_bare(annotations_of(manifest)))
    wish = digest(content)
    marks = {APPLIED: wish, **{f"{WISH_PREFIX}{uid}": wish for uid in claims_of(manifest) if is_topic(manifest)}}
    return _with_metadata(manifest, annotations={**_bare(annotations_of(manifest)), **marks})


def writes(desired: Sequence[Manifest], observed: Observed, uid: str) -> tuple[Write, ...]:
    """Return what must be written so that exactly the desired objects of the feed `uid` are there, deletions last.

    Objects that somebody else owns are left alone (see `refusals`), and so is what is on its way out: it is written
    again when it is gone. Topics are never deleted here.
    """
    refused = _foreign(desired, observed, uid)
    wanted = [manifest for manifest in desired if key_of(manifest) not in refused]
    applies = (apply for manifest in wanted if (apply := _apply(manifest, observed, uid)) is not None)
    return (*applies, *_deletes(frozenset(map(key_of, desired)), observed, uid))


def refusals(desired: Sequence[Manifest], observed: Observed, uid: str, feed_name: str) -> Mapping[Key, str]:
    """Return a sentence for each desired object that is not written, because it is another's or feeds disagree on it.

    `feed_name` is that of the feed: what an earlier feed of the name left behind is adopted.
    """
    return {**_foreign(desired, observed, uid, feed_name), **_contested(desired, observed, uid)}


def is_topic(manifest: Manifest) -> bool:
    """Tell whether an object is a KafkaTopic, of either version."""
    return is_topic_key(key_of(manifest))


def is_topic_key(key: Key) -> bool:
    """Tell whether a key is a KafkaTopic's."""
    return (key.group, key.kind) == (KAFKA_TOPIC_V1.group, KAFKA_TOPIC_V1.kind)


def differing(desired: Any, live: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every field of `desired` that `live` has otherwise or not at all.

    A path's parts are field names, keys of list items (`containers`, `ingestor`) and indices.
    """
    if type(desired) is str and desired == live:
        return  # most leaves are texts as they should be
    if isinstance(desired, _MAPS) and (desired or path[-1:] in _KEPT_WHEN_EMPTY):
        yield from _differing_map(desired, live, path)
    elif isinstance(desired, list | tuple) and desired:
        yield from _differing_list(desired, live, path)
    elif desired not in (None, {}, [], ()) and not _same(desired, live, path):
        yield path


def object_differences(desired: Manifest, live: Manifest) -> Iterator[tuple[str, ...]]:
    """Yield the paths at which the live object is not as desired."""
    yield from differing({name: value for name, value in desired.items() if name not in _NOT_COMPARED}, live)


def _differing_map(desired: Mapping[str, Any], live: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(live, _MAPS):
        yield path
        return
    for name, value in desired.items():
        yield from differing(value, live.get(name), (*path, name))


def _differing_list(desired: Sequence[Any], live: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    key = MERGE_KEYS.get(path[-1], "") if path else ""
    if not isinstance(live, list | tuple):
        yield path
    elif _told_apart(desired, key):
        there = {item.get(key): item for item in live if isinstance(item, _MAPS)}
        for item in desired:
            yield from differing(item, there.get(item[key]), (*path, str(item[key])))
    elif len(desired) != len(live):
        yield path
    else:
        for index, (item, other) in enumerate(zip(desired, live, strict=True)):
            yield from differing(item, other, (*path, str(index)))


def _told_apart(items: Sequence[Any], key: str) -> bool:
    """Tell whether the field `key` tells the items apart."""
    found = [item.get(key) for item in items if isinstance(item, _MAPS)]
    return None not in found and len(items) == len(found) == len(set(found))


def _same(desired: Any, live: Any, path: tuple[str, ...]) -> bool:
    """Compare two leaves: quantities by value, all else exactly, and true is not 1."""
    if _is_quantity(path):
        return bool(canonical(desired) == canonical(live))
    return isinstance(desired, bool) == isinstance(live, bool) and bool(desired == live)


def _is_quantity(path: tuple[str, ...]) -> bool:
    return bool(path) and (path[-1] in _QUANTITY or (len(path) > 1 and path[-2] in _QUANTITIES))


def _apply(manifest: Manifest, observed: Observed, uid: str) -> Apply | None:
    live = observed.children.get(key_of(manifest))
    if is_topic(manifest):
        return _apply_topic(manifest, live, uid)
    wanted = stamp(manifest)
    return _unless_same(wanted, live, MANAGER, force=True)


def _apply_topic(manifest: Manifest, live: Manifest | None, uid: str) -> Apply | None:
    """Return the write of a topic; one that feeds disagree on is only claimed, and keeps everything else.

    A topic that was not seen is not forced: another feed may have made it a moment ago.
    """
    wanted, force = stamp(manifest), live is not None
    if live is not None and _disputed(wanted, live, uid):
        wanted, force = _claim_only(wanted, live), False
    return _unless_same(wanted, live, f"{MANAGER}-{uid}", force=force)


def _disputed(wanted: Manifest, live: Manifest, uid: str) -> bool:
    """Tell whether another feed that claims the topic wants it otherwise, and the topic is not as we want it."""
    marks = annotations_of(live)
    others = {
        marks.get(f"{WISH_PREFIX}{other}", "").removesuffix(_WAITING) for other in claims_of(live) if other != uid
    }
    ours = annotations_of(wanted)[APPLIED]
    return bool(others - {ours}) and marks.get(APPLIED) != ours


def _claim_only(wanted: Manifest, live: Manifest) -> Manifest:
    """Return the live topic with our claim and wish.

    What is there is applied too: a field manager that leaves out a field that nobody else owns takes it away.
    """
    labels = {name: value for name, value in labels_of(wanted).items() if name.startswith(CLAIM_PREFIX)}
    marks = {name: f"{wish}{_WAITING}" for name, wish in annotations_of(wanted).items() if name.startswith(WISH_PREFIX)}
    kept = {name: value for name, value in labels_of(live).items() if name in labels_of(wanted)}
    noted = {name: value for name, value in annotations_of(live).items() if name in annotations_of(wanted)}
    manifest = _with_metadata(wanted, labels={**kept, **labels}, annotations={**noted, **marks})
    return {**manifest, "spec": live.get("spec", {})}


def _unless_same(wanted: Manifest, live: Manifest | None, manager: str, *, force: bool) -> Apply | None:
    """Return the write; None where the object is as it should be, or on its way out."""
    if live is None:
        return Apply(wanted, manager, force, "is missing", Cause.MISSING)
    if "deletionTimestamp" in live["metadata"]:
        return None
    cause = Cause.CHANGED if outdated(wanted, live) else Cause.DRIFTED
    marks = ("metadata", "annotations", APPLIED)
    path = next((path for path in object_differences(wanted, live) if path != marks), None)
    if path is not None:
        what = "changes" if cause is Cause.CHANGED else "is not as it should be"
        return Apply(wanted, manager, force, f"{'.'.join(path)} {what}", cause)
    return Apply(wanted, manager, force, "has what is no longer wanted", cause) if cause is Cause.CHANGED else None


def outdated(stamped: Manifest, live: Manifest) -> bool:
    """Tell whether the live object was last applied as something else than the stamped one."""
    return annotations_of(live).get(APPLIED) != annotations_of(stamped).get(APPLIED)


def _deletes(desired: frozenset[Key], observed: Observed, uid: str) -> Iterator[Delete]:
    for key, live in observed.children.items():
        if key not in desired and prunable(live, uid) and "deletionTimestamp" not in live["metadata"]:
            yield Delete(key, live["metadata"].get("uid"))


def prunable(live: Manifest, uid: str) -> bool:
    """Tell whether an object is the feed's own, of a kind that is deleted when it is no longer wanted."""
    return labels_of(live).get(UID_LABEL) == uid and key_of(live)[:2] in _PRUNED


def _foreign(desired: Sequence[Manifest], observed: Observed, uid: str, feed_name: str | None = None) -> dict[Key, str]:
    """Return a sentence for each desired object whose name another's object has."""
    name = feed_name or str(observed.feed["metadata"]["name"])
    pairs = [(manifest, observed.children.get(key_of(manifest))) for manifest in desired]
    return {
        key_of(manifest): sentence
        for manifest, live in pairs
        if live is not None and (sentence := _not_ours(manifest, live, uid, name)) is not None
    }


def _not_ours(manifest: Manifest, live: Manifest, uid: str, feed_name: str) -> str | None:
    owners = live["metadata"].get("ownerReferences") or ()
    owner = next((owner for owner in owners if owner.get("controller")), None)
    left_behind = labels_of(live).get(UID_LABEL) is not None and labels_of(live).get(FEED_LABEL) == feed_name
    if owner is not None and owner.get("uid") != uid and not left_behind:
        return f"{key_of(manifest)} belongs to {owner.get('kind')} {owner.get('name')}: rename one of the two"
    if key_of(manifest)[:2] == (DEPLOYMENT.group, DEPLOYMENT.kind) and _selects_otherwise(manifest, live):
        return f"{key_of(manifest)} selects other pods, which cannot be changed: delete it, and it is made anew"
    return None


def _selects_otherwise(manifest: Manifest, live: Manifest) -> bool:
    """Tell whether two Deployments have different selectors, which are immutable."""
    selectors = [found.get("spec", {}).get("selector") for found in (manifest, live)]
    return None not in selectors and selectors[0] != selectors[1]


def _contested(desired: Sequence[Manifest], observed: Observed, uid: str) -> dict[Key, str]:
    """Return a sentence for each topic that feeds disagree on and that is not as this feed wants it."""
    pairs = [(manifest, observed.children.get(key_of(manifest))) for manifest in desired if is_topic(manifest)]
    return {
        key_of(manifest): _disagreement(manifest, live, uid)
        for manifest, live in pairs
        if live is not None and _disputed(stamp(manifest), live, uid)
    }


def _disagreement(manifest: Manifest, live: Manifest, uid: str) -> str:
    others = sorted(name for other, name in claims_of(live).items() if other != uid)
    feeds = f"feed {others[0]} wants" if len(others) == 1 else f"feeds {', '.join(others)} want"
    fields = sorted(filter(None, map(_topic_field, object_differences(manifest, live))))
    what = f" ({', '.join(fields)})" if fields else ""
    return (
        f"{feeds} the topic {topic_name(manifest)} otherwise{what}: let all its feeds ask for the same, "
        "or name another topic"
    )


def _topic_field(path: tuple[str, ...]) -> str:
    """Return what a field of a topic is called where people write it; nothing for claims and marks."""
    if path[:1] == ("spec",):
        return path[-1]
    return "deletionPolicy" if path[-1:] == (POLICY,) else ""


def topic_name(manifest: Manifest) -> str:
    """Return the name of a KafkaTopic's topic as Kafka knows it."""
    return str(manifest.get("spec", {}).get("topicName") or manifest["metadata"]["name"])


def _bare(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations without the marks that `stamp` adds."""
    return {name: value for name, value in annotations.items() if name != APPLIED and not name.startswith(WISH_PREFIX)}


def _with_metadata(manifest: Manifest, **fields: Mapping[str, str]) -> Manifest:
    """Return the object with fields of its metadata replaced; an empty one is left out."""
    metadata = {**manifest["metadata"], **fields}
    return {**manifest, "metadata": {name: value for name, value in metadata.items() if value or name not in fields}}
