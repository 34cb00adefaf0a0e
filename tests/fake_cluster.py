"""A fake of `Cluster`: an API server in memory that keeps what it was asked, and fails where a test tells it to.

Server-side apply is `server.Server`'s. It knows no schemas, defaults, admission, watches or garbage collection: those
are the real one's (tests/operator). Errors on the wire are `fake_api`'s.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any, Self

from marketfeed_operator.api.cluster import Cluster, Guard
from marketfeed_operator.api.errors import ApiError, Conflict, NotFound, Unanswered
from marketfeed_operator.api.recorder import Noted
from marketfeed_operator.objects import (
    KAFKA_TOPIC_V1,
    KINDS,
    MANAGER,
    SECRET,
    Key,
    Kind,
    Manifest,
    Served,
    key_of,
    labels_of,
)
from server import Conflict as FieldConflict
from server import Server

Call = tuple[str, str]
"""A verb and the name of what it was about, as ("apply", "Deployment md/spot-ingestor-0")."""
WRITES = ("apply", "apply_status", "patch", "delete")


class FakeCluster(Cluster):
    """Objects in memory. `calls` is what was asked in order, `fails` what to answer a call with instead, each time."""

    def __init__(self, *objects: Manifest, served: Served | None = None) -> None:
        self.served_now = served or Served(kafka_topic=KAFKA_TOPIC_V1)
        self.calls: list[Call] = []
        self.notices: list[Noted] = []
        self.fails: dict[Call, Exception] = {}
        self.before: Callable[[Call], None] = lambda _: None
        """Is called with every call, before it does anything: what somebody else does at that moment."""
        self._server = Server()
        self._versions = count(1)
        for manifest in objects:
            self.put(manifest)

    # For tests

    def put(self, manifest: Manifest) -> Manifest:
        """Make an object so, as somebody else does; return it as it is now."""
        if key_of(manifest) in self._server.objects:
            self._server.remove(key_of(manifest))
        self._server.apply(manifest, "somebody", force=True)
        return self._stored(key_of(manifest))

    def edit(self, key: Key, change: Callable[[dict[str, Any]], None]) -> Manifest:
        """Change an object by hand; return it as it is now."""
        self._server.edit(key, change)
        return self._stored(key)

    def remove(self, key: Key) -> None:
        """Delete an object, as somebody else does."""
        self._server.remove(key)

    def secret(self, name: str, values: Mapping[str, str | bytes], namespace: str = "md") -> Manifest:
        """Make a Secret."""
        texts = {key: value.encode() if isinstance(value, str) else value for key, value in values.items()}
        data = {key: base64.b64encode(value).decode() for key, value in texts.items()}
        metadata = {"name": name, "namespace": namespace}
        return self.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    def at(self, key: Key) -> Manifest | None:
        """Return an object without this counting as a call."""
        return copy.deepcopy(self._server.objects.get(key))

    def objects(self, kind: str) -> list[Manifest]:
        """Return the objects of a kind without this counting as a call."""
        return [copy.deepcopy(found) for key, found in self._server.objects.items() if key.kind == kind]

    def written(self) -> list[Call]:
        """Return the calls that could change something, but for events."""
        return [call for call in self.calls if call[0] in WRITES]

    # As Cluster has it

    def guarded_by(self, guard: Guard) -> Self:
        """Return the same cluster: no guard is looked at here."""
        del guard
        return self

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """Return an object."""
        key = self._asked("get", kind, namespace, name)
        return self.at(key)

    async def list(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Manifest]:
        """Return the objects of a kind that carry one label with one value, or all."""
        self._asked("list", kind, namespace, "")
        label, _, value = selector.partition("=")
        return [
            found
            for found in self.objects(kind.kind)
            if namespace in (None, found["metadata"]["namespace"])
            and (not label or labels_of(found).get(label) == value)
        ]

    async def version(self, kind: Kind, namespace: str | None, name: str) -> str | None:
        """Return `uid:resourceVersion`."""
        found = self.at(self._asked("version", kind, namespace, name))
        return None if found is None else f"{found['metadata']['uid']}:{found['metadata']['resourceVersion']}"

    async def serves(self, kind: Kind) -> bool:
        """Tell that every kind is served."""
        return (kind.group, kind.kind) in KINDS

    async def served(self) -> Served:
        """Return which optional APIs there are."""
        return self.served_now

    async def apply(self, manifest: Manifest, kind: Kind, *, manager: str = MANAGER, force: bool = True) -> Manifest:
        """Apply an object; a field of another manager's is a conflict."""
        key = key_of(manifest)
        self._asked("apply", kind, key.namespace, key.name)
        before = self.at(key)
        try:
            self._server.apply(manifest, manager, force=force)
        except FieldConflict as error:
            raise Conflict(409, "Conflict", f"conflict: {error}") from error
        return self._stored(key, before)

    async def apply_status(self, kind: Kind, namespace: str, name: str, status: Mapping[str, Any]) -> Manifest:
        """Set the status."""
        key = self._asked("apply_status", kind, namespace, name)
        return self._merged(key, {"status": None}, {"status": copy.deepcopy(dict(status))})

    async def patch(self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]) -> Manifest:
        """Merge a patch in; one that names another version than the object's is a conflict."""
        key = self._asked("patch", kind, namespace, name)
        found = self.at(key)
        wanted = (patch.get("metadata") or {}).get("resourceVersion")
        if found is not None and wanted not in (None, found["metadata"]["resourceVersion"]):
            raise Conflict(409, "Conflict", "the object has been modified")
        return self._merged(key, patch)

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """Delete an object, if it is the one that is meant."""
        key = self._asked("delete", kind, namespace, name)
        found = self.at(key)
        if found is None:
            return
        meant = {"uid": uid, "resourceVersion": resource_version}
        if any(value not in (None, found["metadata"][field]) for field, value in meant.items()):
            raise Conflict(409, "Conflict", "it is another one by now")
        self._server.remove(key)

    async def event(self, kind: Kind, namespace: str, name: str, uid: str, notice: Noted) -> None:
        """Keep the notice."""
        del uid
        self._asked("event", kind, namespace, name)
        self.notices.append(notice)

    async def close(self) -> None:
        """Have nothing to close."""

    # Inside

    def _asked(self, verb: str, kind: Kind, namespace: str | None, name: str) -> Key:
        key = Key(kind.group, kind.kind, namespace or "", name)
        call = (verb, str(key) if name else kind.kind)
        self.calls.append(call)
        self.before(call)
        if call in self.fails:
            raise self.fails[call]
        return key

    def _merged(self, key: Key, *patches: Mapping[str, Any]) -> Manifest:
        found = self._server.objects.get(key)
        if found is None:
            raise NotFound(404, "NotFound", f"{key} not found")
        before, merged = copy.deepcopy(found), found
        for patch in patches:
            merged = _merge(merged, patch)
        self._server.objects[key] = merged
        return self._stored(key, before)

    def _stored(self, key: Key, before: Manifest | None = None) -> Manifest:
        """Give what was written its identity, and the next version if it is another than before."""
        found = self._server.objects[key]
        if before is None or _content(found) != _content(before):
            metadata = dict(found["metadata"])
            metadata["resourceVersion"] = str(next(self._versions))
            metadata.setdefault("generation", 1)
            self._server.objects[key] = {**found, "metadata": metadata}
        return copy.deepcopy(self._server.objects[key])


def unanswered() -> ApiError:
    """Return the error of an API server that is away."""
    return Unanswered(0, "Unreachable", "the API server cannot be reached")


def secret_key(name: str, namespace: str = "md") -> Key:
    """Return the key of a Secret."""
    return Key(SECRET.group, SECRET.kind, namespace, name)


def served(**changes: Any) -> Served:
    """Return what a cluster with Strimzi serves, with changes."""
    return replace(Served(kafka_topic=KAFKA_TOPIC_V1), **changes)


def _content(manifest: Manifest) -> Manifest:
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "resourceVersion"}
    return {**manifest, "metadata": metadata}


def _merge(value: Any, patch: Any) -> Any:
    """Return `value` after a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    merged = dict(value) if isinstance(value, Mapping) else {}
    for name, inner in patch.items():
        if inner is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), inner)
    return merged
