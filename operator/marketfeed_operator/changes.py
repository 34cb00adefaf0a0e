"""What a feed's next state would change in the cluster, each change in a class and a sentence, before anything is done.

The operator holds destructive changes back until a person approves them by their hash; `marketfeed plan --against
cluster` prints the same list. What does not live here: which fields of an object are ours to write (diff).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from marketfeed_operator.diff import (
    is_topic,
    is_topic_key,
    object_differences,
    outdated,
    prunable,
    refusals,
    stamp,
    topic_name,
)
from marketfeed_operator.differences import ChangeClass, Difference, approval_hash, destructive, named, worst
from marketfeed_operator.handover import Holdings, streams_of
from marketfeed_operator.objects import (
    APPLIED,
    CONFIG_MAP,
    DEPLOYMENT,
    SHARD_LABEL,
    SINK_LABEL,
    SPARK_APPLICATION,
    UID_LABEL,
    Key,
    Manifest,
    annotations_of,
    claims_of,
    key_of,
    labels_of,
)
from marketfeed_operator.observed import Observed
from marketfeed_operator.topic_changes import as_it_is, possible, topic_changes, topic_leaves
from marketfeed_operator.wording import count

__all__ = ["ChangeClass", "Difference", "approval_hash", "classify", "hold_back", "worst"]


def classify(desired: Sequence[Manifest], observed: Observed, uid: str, policy: str) -> tuple[Difference, ...]:
    """Return every change that writing `desired` would make, in the order of the writes, what goes last.

    policy: the feed's deletion policy, Retain or Delete. What will not be written has a row of class NONE.
    """
    refused = refusals(desired, observed, uid, str(observed.feed["metadata"]["name"]))
    told = (Difference(key, ChangeClass.NONE, sentence) for key, sentence in refused.items())
    view = _View.of(desired, observed, uid, policy)
    changed = (
        difference
        for manifest in desired
        if key_of(manifest) not in refused
        for difference in view.written(manifest, observed.children.get(key_of(manifest)))
    )
    return (*told, *changed, *view.leaving(observed.children))


def hold_back(
    desired: Sequence[Manifest], observed: Observed, differences: Sequence[Difference], approved: str | None
) -> tuple[tuple[Manifest, ...], tuple[Difference, ...]]:
    """Return what may be applied now, and the destructive changes that wait.

    approved: the hash that a person has set. A topic whose records would go keeps how long it keeps them; one that
    would be deleted stays among what is desired. Partitions, which Kafka cannot take away, are kept in any case.
    """
    waiting = () if approved == approval_hash(differences) else tuple(destructive(differences))
    held = {difference.key for difference in waiting}
    keys = {key_of(manifest) for manifest in desired}
    allowed = (
        possible(manifest, observed.children.get(key_of(manifest)), held=key_of(manifest) in held)
        for manifest in desired
    )
    uid = str(observed.feed["metadata"].get("uid", ""))
    kept = (as_it_is(observed.children[key], uid) for key in sorted(held - keys))
    return (*allowed, *kept), waiting


@dataclass(frozen=True)
class _View:
    """What a single object's change is judged beside: all shards before and after, whose feed it is, its policy."""

    before: Holdings
    after: Holdings
    wanted: frozenset[Key]
    uid: str
    policy: str

    @classmethod
    def of(cls, desired: Sequence[Manifest], observed: Observed, uid: str, policy: str) -> _View:
        ours = (live for live in observed.children.values() if labels_of(live).get(UID_LABEL) == uid)
        return cls(_holdings(ours), _holdings(desired), frozenset(map(key_of, desired)), uid, policy)

    def written(self, manifest: Manifest, live: Manifest | None) -> Iterator[Difference]:
        """Yield what writing an object changes."""
        key = key_of(manifest)
        if live is not None and "deletionTimestamp" in live["metadata"]:
            return
        if _is_shard_map(manifest):
            yield from self._streams(key, manifest, live)
        elif live is None:
            yield Difference(key, *_created(manifest))
        elif is_topic(manifest):
            yield from topic_changes(manifest, live, self.uid)
        elif (found := _changed(manifest, live)) is not None:
            yield Difference(key, *found)

    def leaving(self, children: Mapping[Key, Manifest]) -> Iterator[Difference]:
        """Yield what is no longer wanted."""
        for key, live in sorted(children.items()):
            if key in self.wanted or "deletionTimestamp" in live["metadata"]:
                continue
            if is_topic_key(key) and self.uid in claims_of(live):
                yield topic_leaves(live, self.uid, self.policy)
            elif _is_shard_map(live) and labels_of(live).get(UID_LABEL) == self.uid:
                yield from self._streams(key, None, live)
            elif prunable(live, self.uid):
                scaled = key.kind in (DEPLOYMENT.kind, SPARK_APPLICATION.kind)
                change = ChangeClass.SCALE if scaled else ChangeClass.LIVE
                yield Difference(key, change, f"{_thing(live)} is removed")

    def _streams(self, key: Key, manifest: Manifest | None, live: Manifest | None) -> Iterator[Difference]:
        """Yield what a shard takes and drops, or that its ConfigMap is put right."""
        parts = list(_stream_parts(key.name, self.before, self.after))
        moves = any(word in part for part in parts for word in ("takes over", "hands"))
        change = ChangeClass.RESHARD if moves else ChangeClass.LIVE
        if parts:
            yield Difference(key, change, f"shard {key.name} {' and '.join(parts)}, live")
        elif manifest is None or live is None:
            yield Difference(key, change, f"ConfigMap {key.name} is {'removed' if manifest is None else 'created'}")
        elif (found := _changed(manifest, live)) is not None:
            yield Difference(key, *found)


# Shards


def _is_shard_map(manifest: Manifest) -> bool:
    return manifest["kind"] == CONFIG_MAP.kind and SHARD_LABEL in labels_of(manifest)


def _holdings(manifests: Iterable[Manifest]) -> Holdings:
    return {manifest["metadata"]["name"]: streams_of(manifest) for manifest in manifests if _is_shard_map(manifest)}


def _stream_parts(shard: str, before: Holdings, after: Holdings) -> Iterator[str]:
    """Yield what happens to a shard's streams, a part of a sentence each."""
    none: frozenset[str] = frozenset()
    added = after.get(shard, none) - before.get(shard, none)
    dropped = before.get(shard, none) - after.get(shard, none)
    sources, taken = _shared(shard, added, before)
    targets, handed = _shared(shard, dropped, after)
    if taken:
        yield f"takes over {count(len(taken), 'stream')} from {', '.join(sources)}"
    if new := added - taken:
        yield f"takes {count(len(new), 'stream')} more"
    if handed:
        yield f"hands {count(len(handed), 'stream')} over to {', '.join(targets)}"
    if gone := dropped - handed:
        yield f"drops {count(len(gone), 'stream')}"


def _shared(shard: str, streams: frozenset[str], holdings: Holdings) -> tuple[list[str], frozenset[str]]:
    """Return the other shards that hold some of the streams, and which streams these are."""
    found = {other: streams & held for other, held in holdings.items() if other != shard and streams & held}
    return sorted(found), frozenset().union(*found.values())


# Processes and everything around them


def _created(manifest: Manifest) -> tuple[ChangeClass, str]:
    if is_topic(manifest):
        partitions = count(int(manifest["spec"]["partitions"]), "partition")
        return ChangeClass.LIVE, f"topic {topic_name(manifest)} is created with {partitions}"
    if manifest["kind"] == DEPLOYMENT.kind:
        return ChangeClass.SCALE, f"{_thing(manifest)} is added with {_processes(manifest)}"
    scaled = manifest["kind"] == SPARK_APPLICATION.kind
    return (ChangeClass.SCALE if scaled else ChangeClass.LIVE), f"{_thing(manifest)} is created"


def _changed(manifest: Manifest, live: Manifest) -> tuple[ChangeClass, str] | None:
    """Return what a write makes of an object that is there, None where it would not be written."""
    paths = list(object_differences(manifest, live))
    fewer = not paths and APPLIED in annotations_of(live) and outdated(stamp(manifest), live)
    if not paths and not fewer:
        return None
    if manifest["kind"] == DEPLOYMENT.kind:
        return _deployment_change(manifest, live, paths)
    if manifest["kind"] == SPARK_APPLICATION.kind:
        return _job_change(manifest, paths)
    return ChangeClass.LIVE, f"{_thing(manifest)} changes{named(paths)}"


def _deployment_change(manifest: Manifest, live: Manifest, paths: Sequence[tuple[str, ...]]) -> tuple[ChangeClass, str]:
    template = [path for path in paths if path[:2] == ("spec", "template")]
    scaled = ("spec", "replicas") in paths
    if template or not paths:
        also = f"; then it runs {_processes(manifest)}" if scaled else ""
        return ChangeClass.ROLL, f"{_thing(manifest)} is replaced{named(template)}{also}"
    if scaled:
        return ChangeClass.SCALE, f"{_thing(manifest)} runs {_processes(manifest)} instead of {_replicas(live)}"
    return ChangeClass.LIVE, f"{_thing(manifest)} changes{named(paths)}"


def _job_change(manifest: Manifest, paths: Sequence[tuple[str, ...]]) -> tuple[ChangeClass, str]:
    spec = [path for path in paths if path[:1] == ("spec",)]
    if spec == [("spec", "suspend")]:
        suspended = manifest["spec"]["suspend"]
        return ChangeClass.SCALE, f"{_thing(manifest)} {'stops' if suspended else 'starts again'}"
    if spec or not paths:
        return ChangeClass.ROLL, f"{_thing(manifest)} is started again{named(spec)}"
    return ChangeClass.LIVE, f"{_thing(manifest)} changes{named(paths)}"


def _thing(manifest: Manifest) -> str:
    """Return what people call the object."""
    name, labels = manifest["metadata"]["name"], labels_of(manifest)
    if manifest["kind"] == DEPLOYMENT.kind and SHARD_LABEL in labels:
        return f"shard {name}"
    if manifest["kind"] == DEPLOYMENT.kind and SINK_LABEL in labels:
        return f"consumer {name}"
    if manifest["kind"] == SPARK_APPLICATION.kind:
        return f"streaming job {name}"
    return f"{manifest['kind']} {name}"


def _processes(manifest: Manifest) -> str:
    return count(_replicas(manifest), "process", "es")


def _replicas(manifest: Manifest) -> int:
    return int(manifest["spec"].get("replicas", 1))
