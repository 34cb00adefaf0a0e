"""What the watches have told us: every live object that concerns a feed, indexed by the feed.

It belongs to one event loop. An older state of an object never replaces a newer one, so that what a write returned
counts at once and the watch's echo of it changes nothing.
What does not live here: watching (watch), and comparing with the API server now and then (resync).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from marketfeed_operator.objects import (
    FEED_LABEL,
    MARKETFEED,
    POD,
    SPARK_APPLICATION,
    UID_LABEL,
    Key,
    Manifest,
    Served,
    claims_of,
    key_of,
    labels_of,
)
from marketfeed_operator.observed import DirectTopics, Observed, Sample

_K = TypeVar("_K")


class FeedName(NamedTuple):
    """Which feed."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Change:
    """That an object is another than it was; `old` is None for a new one, `new` for one that is gone."""

    key: Key
    old: Manifest | None
    new: Manifest | None


@dataclass(slots=True)
class Store:
    """The objects, and beside them what is asked for otherwise: secrets' versions, samples, brokers' answers."""

    served: Served = field(default_factory=Served)
    secrets: dict[tuple[str, str], str | None] = field(default_factory=dict)  # (namespace, name) → version
    samples: dict[tuple[str, str], Sample] = field(default_factory=dict)  # (namespace, pod)
    direct: dict[str, DirectTopics] = field(default_factory=dict)  # by the feed's uid
    failures: dict[str, Mapping[Key, str]] = field(default_factory=dict)  # by the feed's uid
    _objects: dict[Key, Manifest] = field(default_factory=dict)
    _owned: dict[str, set[Key]] = field(default_factory=dict)  # by the feed's uid: children, and topics that it claims
    _pods: dict[FeedName, set[Key]] = field(default_factory=dict)
    _feeds: dict[str, FeedName] = field(default_factory=dict)  # by uid

    def put(self, manifest: Manifest) -> Change | None:
        """Take an object's state; return what changed, or None when we knew it or know a newer one."""
        manifest = _lean(manifest)
        key = key_of(manifest)
        old = self._objects.get(key)
        if old is not None and not _supersedes(manifest, old):
            return None
        sample = self.samples.get((key.namespace, key.name)) if key.kind == POD.kind else None
        self._forget(key)
        self._objects[key] = manifest
        if sample is not None and old is not None and _life(old) == _life(manifest):
            self.samples[key.namespace, key.name] = sample
        if key.kind == MARKETFEED.kind:
            self._feeds[str(manifest["metadata"]["uid"])] = FeedName(key.namespace, key.name)
        elif key.kind != POD.kind:
            for uid in owners(manifest):
                self._owned.setdefault(uid, set()).add(key)
        elif (feed := feed_of(manifest)) is not None:
            self._pods.setdefault(feed, set()).add(key)
        return Change(key, old, manifest)

    def drop(self, manifest: Manifest) -> Change | None:
        """Take it that an object is gone; return None when we did not know it, or know a newer one of its name.

        The change holds its last state, which may be one that no watch has told of before.
        """
        key = key_of(manifest)
        old = self._objects.get(key)
        if old is None or version(old) > version(manifest):
            return None
        self._forget(key)
        return Change(key, _lean(manifest), None)

    def _forget(self, key: Key) -> None:
        old = self._objects.pop(key, None)
        if old is None:
            return
        if key.kind == MARKETFEED.kind:
            self._feeds.pop(str(old["metadata"]["uid"]), None)
        for uid in owners(old):
            _discard(self._owned, uid, key)
        if key.kind == POD.kind:
            self.samples.pop((key.namespace, key.name), None)
            if (feed := feed_of(old)) is not None:
                _discard(self._pods, feed, key)

    def get(self, key: Key) -> Manifest | None:
        """Return an object that we know."""
        return self._objects.get(key)

    def feed(self, name: FeedName) -> Manifest | None:
        """Return a MarketFeed."""
        return self._objects.get(Key(MARKETFEED.group, MARKETFEED.kind, name.namespace, name.name))

    def feeds(self) -> list[FeedName]:
        """Return every MarketFeed that we know."""
        return list(self._feeds.values())

    def named(self, uid: str) -> FeedName | None:
        """Return the MarketFeed that has this uid."""
        return self._feeds.get(uid)

    def of_kind(self, kind: str) -> list[Manifest]:
        """Return every object of a kind."""
        return [manifest for key, manifest in self._objects.items() if key.kind == kind]

    def owned(self, uid: str) -> dict[Key, Manifest]:
        """Return the feed's children and the topics that it claims."""
        return {key: self._objects[key] for key in self._owned.get(uid, ())}

    def pods(self, feed: FeedName) -> tuple[Manifest, ...]:
        """Return the feed's pods, by name."""
        return tuple(self._objects[key] for key in sorted(self._pods.get(feed, ())))

    def observe(self, name: FeedName, body: Manifest, secrets: Iterable[str], adopted: Iterable[Manifest]) -> Observed:
        """Gather what concerns one feed; `adopted` are objects of the right names that are not the feed's yet."""
        uid = str(body["metadata"]["uid"])
        pods = self.pods(name)
        names = [pod["metadata"]["name"] for pod in pods]
        return Observed(
            feed=body,
            served=self.served,
            children={**{key_of(manifest): manifest for manifest in adopted}, **self.owned(uid)},
            pods=pods,
            secrets={secret: self.secrets.get((name.namespace, secret)) for secret in secrets},
            samples={pod: found for pod in names if (found := self.samples.get((name.namespace, pod))) is not None},
            direct=self.direct.get(uid),
            failures=self.failures.get(uid, {}),
        )

    def readiness(self) -> dict[str, int]:
        """Return how many feeds are Ready: True, False and Unknown."""
        found = {"True": 0, "False": 0, "Unknown": 0}
        for (ready, _), count in self.reasons().items():
            found[ready] = found.get(ready, 0) + count
        return found

    def reasons(self) -> Counter[tuple[str, str]]:
        """Return how many feeds there are of each status and reason of their condition Ready."""
        return Counter(map(self._ready, self._feeds.values()))

    def _ready(self, name: FeedName) -> tuple[str, str]:
        conditions = ((self.feed(name) or {}).get("status") or {}).get("conditions") or ()
        found = ((item["status"], item.get("reason", "")) for item in conditions if item["type"] == "Ready")
        return next(found, ("Unknown", "Reconciling"))

    def forget_feed(self, uid: str) -> None:
        """Drop what was remembered about a feed that is gone."""
        self.direct.pop(uid, None)
        self.failures.pop(uid, None)


def version(manifest: Manifest) -> int:
    """Return the resourceVersion as the number that the API promises it to be (Kubernetes 1.35, KEP-5504)."""
    text = str(manifest["metadata"].get("resourceVersion", "0"))
    return int(text) if text.isdecimal() else 0


def _supersedes(manifest: Manifest, old: Manifest) -> bool:
    """Tell whether a state is newer, or the same one by another version of its API: the old one may be gone."""
    if version(manifest) == version(old):
        return bool(manifest["apiVersion"] != old["apiVersion"])
    return version(manifest) > version(old)


def owners(manifest: Manifest) -> set[str]:
    """Return the uids of the feeds that an object belongs to."""
    uid = labels_of(manifest).get(UID_LABEL)
    return {*claims_of(manifest), *([uid] if uid else [])}


def feed_of(manifest: Manifest) -> FeedName | None:
    """Return the feed that an object in a feed's own namespace names."""
    name = labels_of(manifest).get(FEED_LABEL)
    return None if name is None else FeedName(str(manifest["metadata"].get("namespace", "")), name)


def _life(pod: Manifest) -> tuple[str, int]:
    """Return what is another when a pod's processes are others: what was said before does not count for them."""
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    return str(pod["metadata"].get("uid")), sum(int(one.get("restartCount") or 0) for one in containers)


def _lean(manifest: Manifest) -> Manifest:
    """Return the object without the API server's book of who wrote what: half of its size, and seldom read."""
    metadata = manifest["metadata"]
    if "managedFields" not in metadata or manifest["kind"] == SPARK_APPLICATION.kind:  # it tells when the spec changed
        return manifest
    return {**manifest, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}


def _discard(index: dict[_K, set[Key]], key: _K, value: Key) -> None:
    values = index.get(key)
    if values is not None:
        values.discard(value)
        if not values:
            del index[key]
