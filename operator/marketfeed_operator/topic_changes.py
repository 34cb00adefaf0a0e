"""What a write changes in a topic, and what may be written without losing records.

Kafka deletes at once what a shorter retention no longer covers, and nothing brings it back.
What does not live here: all other objects (changes), and letting topics go (deletion).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from marketfeed_operator.diff import is_topic, object_differences, topic_name
from marketfeed_operator.differences import ChangeClass, Difference, named
from marketfeed_operator.fields import Duration
from marketfeed_operator.objects import (
    APPLIED,
    CLAIM_PREFIX,
    COMPONENT,
    MANAGED_BY,
    NAME,
    POLICY,
    Manifest,
    annotations_of,
    claims_of,
    digest,
    key_of,
    labels_of,
)
from marketfeed_operator.wording import feeds

_KEEPS = ("retention.ms", "retention.bytes")
"""Settings of a topic that say which records Kafka deletes; -1 keeps all, and unset is as the brokers say."""


def topic_changes(manifest: Manifest, live: Manifest, uid: str) -> Iterator[Difference]:
    """Yield what writing a topic changes that is there; `uid` is that of the feed that writes it."""
    key, name = key_of(manifest), topic_name(manifest)
    said: set[tuple[str, ...]] = set()
    for setting, wanted, kept in _shortened(manifest, live):
        said.add(("spec", "config", setting))
        yield Difference(key, ChangeClass.DESTRUCTIVE, _loses(name, setting, wanted, kept), _state(live))
    wanted, there = (_partitions(found) for found in (manifest, live))
    if wanted < there:
        sentence = f"topic {name} keeps its {there} partitions: Kafka cannot take any away"
        yield Difference(key, ChangeClass.NONE, sentence)
    elif wanted > there:
        sentence = (
            f"topic {name} gets {wanted} partitions instead of {there}: symbols move to other partitions, so across "
            "this change a symbol's records are not in one order"
        )
        yield Difference(key, ChangeClass.RESHARD, sentence)
    said.add(("spec", "partitions"))
    rest = [path for path in object_differences(manifest, live) if path not in said]
    yield from _lesser_topic_changes(manifest, live, uid, rest)


def topic_leaves(live: Manifest, uid: str, policy: str) -> Difference:
    """Return what becomes of a topic that the feed `uid` no longer wants."""
    key, name = key_of(live), topic_name(live)
    others = sorted(feed for other, feed in claims_of(live).items() if other != uid)
    if others:
        return Difference(key, ChangeClass.LIVE, f"topic {name} is left to {feeds(others)}")
    if policy == "Delete":
        return Difference(key, ChangeClass.DESTRUCTIVE, f"topic {name} is deleted with its records", _state(live))
    return Difference(key, ChangeClass.LIVE, f"topic {name} is let go: Kafka keeps it and its records")


def _lesser_topic_changes(
    manifest: Manifest, live: Manifest, uid: str, paths: Sequence[tuple[str, ...]]
) -> Iterator[Difference]:
    key, name = key_of(manifest), topic_name(manifest)
    others = claims_of(live)
    if uid not in others:
        how = f"shared with {feeds(sorted(others.values()))}" if others else "taken over"
        yield Difference(key, ChangeClass.LIVE, f"topic {name}, which is there, is {how}")
    for path in paths:
        if path[:1] == ("spec",):
            before, after = _at(live, path), _at(manifest, path)
            sentence = f"topic {name} has {path[-1]} {_value(path[-1], after)} instead of {_value(path[-1], before)}"
            yield Difference(key, ChangeClass.LIVE, sentence)
        elif path[-1] == POLICY:
            policy = annotations_of(manifest)[POLICY]
            fate = "is deleted with its records" if policy == "Delete" else "and its records stay"
            yield Difference(key, ChangeClass.LIVE, f"topic {name} {fate} when its last feed goes")
        elif uid in claims_of(live):
            yield Difference(key, ChangeClass.LIVE, f"topic {name} changes{named([path])}")


def _shortened(manifest: Manifest, live: Manifest) -> Iterator[tuple[str, int, int | None]]:
    """Yield (setting, wanted, live) where Kafka would delete records that it keeps now.

    What brokers keep by themselves is not known: a topic that we never wrote is only cut on approval.
    """
    ours = APPLIED in annotations_of(live)
    wanted, there = (found.get("spec", {}).get("config") or {} for found in (manifest, live))
    for setting in _KEEPS:
        asked, kept = _whole(wanted.get(setting)), _whole(there.get(setting))
        if asked is not None and asked >= 0 and (not ours if kept is None else kept < 0 or kept > asked):
            yield setting, asked, kept


def _loses(name: str, setting: str, wanted: int, kept: int | None) -> str:
    before = "as much as the brokers say" if kept is None else _value(setting, kept)
    asked = _value(setting, wanted)
    if setting == "retention.ms":
        before = "as long as the brokers say" if kept is None else before
        return f"topic {name} keeps records for {asked} instead of {before}: Kafka deletes the older ones"
    return f"topic {name} keeps {asked} of each partition instead of {before}: Kafka deletes the oldest records"


def _value(setting: str, value: Any) -> str:
    """Return a setting's value for people."""
    number = _whole(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(name, part)}" for name, part in sorted(value.items()))
    if number is None:
        return "unset" if value is None else str(value)
    if setting == "retention.ms":
        return "ever" if number < 0 else Duration.of(number)
    if setting == "retention.bytes":
        return "all" if number < 0 else f"{number} bytes"
    return str(number)


def _partitions(topic: Manifest) -> int:
    return _whole(topic.get("spec", {}).get("partitions")) or 1


def _whole(value: Any) -> int | None:
    """Return a number that Kafka may have as a number or as text; None for anything else."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _state(live: Manifest) -> str:
    """Return a hash of which object it is and which spec it has, so that an approval is for nothing else."""
    metadata = live["metadata"]
    return digest([metadata.get("uid"), metadata.get("generation"), live.get("spec")])


def possible(manifest: Manifest, live: Manifest | None, *, held: bool) -> Manifest:
    """Return the object as it may be written beside the live one."""
    if live is None or not is_topic(manifest):
        return manifest
    spec = dict(manifest["spec"])
    if _partitions(live) > _partitions(manifest):
        spec["partitions"] = _partitions(live)
    if held:
        kept = {setting: before for setting, _, before in _shortened(manifest, live)}
        config = {**(spec.get("config") or {}), **kept}
        spec["config"] = {setting: value for setting, value in config.items() if value is not None}
    return {**manifest, "spec": spec} if spec != manifest["spec"] else manifest


_TOPIC_LABELS = (MANAGED_BY, NAME, COMPONENT, "strimzi.io/cluster")


def as_it_is(live: Manifest, uid: str) -> Manifest:
    """Return a live topic as something that we want: the claim, our labels and marks, and its whole spec."""
    claim = f"{CLAIM_PREFIX}{uid}"
    labels = {name: value for name, value in labels_of(live).items() if name in (*_TOPIC_LABELS, claim)}
    annotations = {name: value for name, value in annotations_of(live).items() if name == POLICY}
    metadata = {name: live["metadata"][name] for name in ("name", "namespace")}
    return {
        **{name: live[name] for name in ("apiVersion", "kind", "spec")},
        "metadata": {**metadata, "labels": labels, **({"annotations": annotations} if annotations else {})},
    }


def _at(value: Any, path: Iterable[str]) -> Any:
    """Return what stands at a path of field names, None where nothing does."""
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
