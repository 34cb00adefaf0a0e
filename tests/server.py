"""A fake of server-side apply in memory: who owns which field, conflicts, and what goes when its last owner leaves it.

It knows lists by their merge keys as the real one does, and no defaults, schemas or admission.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from marketfeed_operator.diff import MERGE_KEYS, Delete, Write
from marketfeed_operator.objects import Key, Manifest, key_of

Path = tuple[str, ...]
_IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}


class Conflict(Exception):
    """Another field manager owns a field with another value."""


class Server:
    """Objects by key, each with the paths that every field manager owns."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.writes = 0
        self._owned: dict[Key, dict[str, set[Path]]] = {}

    def write(self, found: Iterable[Write]) -> None:
        """Carry writes out in their order."""
        for write in found:
            self.writes += 1
            if isinstance(write, Delete):
                self.remove(write.key)
            else:
                self.apply(write.manifest, write.manager, force=write.force)

    def apply(self, manifest: Manifest, manager: str, *, force: bool) -> None:
        """Apply an object; raises Conflict where `force` would be needed."""
        key = key_of(manifest)
        owned = self._owned.setdefault(key, {})
        stored = flat(self.objects.get(key, {}))
        wanted = flat(json.loads(json.dumps(manifest)))
        for other, paths in owned.items():
            taken = {path for path in paths & wanted.keys() if stored[path] != wanted[path]}
            if other != manager and taken - _IDENTITY:
                if not force:
                    raise Conflict(f"{other} owns {sorted(taken - _IDENTITY)}")
                paths.difference_update(taken)
        left = owned.get(manager, set()) - wanted.keys()
        owned[manager] = set(wanted)
        still_owned = set().union(*owned.values())
        merged = {path: value for path, value in stored.items() if path not in left or path in still_owned} | wanted
        self._store(key, merged)

    def edit(self, key: Key, change: Callable[[dict[str, Any]], None]) -> None:
        """Change an object by hand, as kubectl does; the editor takes what it changes."""
        before, edited = flat(self.objects[key]), copy.deepcopy(self.objects[key])
        change(edited)
        after = flat(edited)
        taken = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        for paths in self._owned[key].values():
            paths.difference_update(taken)
        self._owned[key]["kubectl"] = taken & after.keys()
        self._store(key, after)

    def remove(self, key: Key) -> None:
        """Delete an object by hand."""
        del self.objects[key], self._owned[key]

    def _store(self, key: Key, fields: dict[Path, Any]) -> None:
        stored = nested(fields)
        stored["metadata"].setdefault("uid", f"uid of {key}")
        self.objects[key] = stored


def flat(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Return the leaves by path; a part `[name=x]` is an item of a list with merge keys."""
    key = MERGE_KEYS.get(path[-1]) if path else None
    if isinstance(value, Mapping) and value:
        return {p: v for name, item in value.items() for p, v in flat(item, (*path, name)).items()}
    if key and isinstance(value, list) and value and all(isinstance(item, Mapping) and key in item for item in value):
        items = ((f"[{key}={item[key]}]", item) for item in value)
        return {p: v for name, item in items for p, v in flat(item, (*path, name)).items()}
    return {path: value} if path else {}


def nested(fields: Mapping[Path, Any]) -> dict[str, Any]:
    """Return the object of these leaves."""
    tree: dict[str, Any] = {}
    for path, value in fields.items():
        *outer, last = path
        parent = tree
        for part in outer:
            parent = parent.setdefault(part, {})
        parent[last] = value
    made: dict[str, Any] = _listed(tree)
    return made


def _listed(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree and all(name.startswith("[") for name in tree):
        return [_listed(item) for item in tree.values()]
    return {name: _listed(item) for name, item in tree.items()}
