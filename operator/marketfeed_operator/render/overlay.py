"""A person's overlay on a pod template: maps are merged deep, lists of things with a key by that key, others replaced.

The keys are those of Kubernetes' strategic merge, as far as pods go. `null` takes a value of ours out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_KEYS = {
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
_USUAL_KEY = "name"


def merged(ours: Any, theirs: Any, field: str = "") -> Any:
    """Return `ours` with `theirs` laid over it; `field` is the name of the field that holds the two."""
    if isinstance(theirs, Mapping):
        return _merged_maps(ours if isinstance(ours, Mapping) else {}, theirs)
    key = _KEYS.get(field, _USUAL_KEY)
    if _keyed(ours, key) and _keyed(theirs, key):
        return _merged_lists(ours, theirs, key)
    return theirs


def _merged_maps(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    whole = {**ours, **{name: merged(ours.get(name), value, name) for name, value in theirs.items()}}
    return {name: value for name, value in whole.items() if value is not None}


def _merged_lists(ours: Sequence[Any], theirs: Sequence[Any], key: str) -> list[Any]:
    """Return our items in their order, changed where an item of theirs has the same key, then the rest of theirs."""
    whole = {item[key]: item for item in ours}
    for item in theirs:
        whole[item[key]] = merged(whole.get(item[key]), item)
    return list(whole.values())


def _keyed(value: Any, key: str) -> bool:
    """Say whether this is a list whose items all have the key, as text or number."""
    return isinstance(value, list) and all(
        isinstance(item, Mapping) and isinstance(item.get(key), str | int) for item in value
    )
