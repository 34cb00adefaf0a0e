"""A change of one object as a value: its class, its sentence, and the hash that approves what is destructive.

What does not live here: finding changes (changes, topic_changes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from marketfeed_operator.objects import NUDGE, Key, digest


class ChangeClass(StrEnum):
    """What a change does to what runs, in rising order of what it costs."""

    NONE = "none"
    LIVE = "live"  # taken over by running processes
    SCALE = "scale"  # processes are added or removed, the others go on
    ROLL = "roll"  # processes are replaced one by one
    RESHARD = "reshard"  # streams or keys move to another process or partition
    DESTRUCTIVE = "destructive"  # stored records go, and nothing brings them back


@dataclass(frozen=True, slots=True)
class Difference:
    """One change of one object."""

    key: Key
    change: ChangeClass
    sentence: str
    state: str = ""  # hash of the live object that a destructive change was judged on


def worst(differences: Iterable[Difference]) -> ChangeClass:
    """Return the costliest class; NONE where nothing changes."""
    order = list(ChangeClass)
    return max((difference.change for difference in differences), key=order.index, default=ChangeClass.NONE)


def approval_hash(differences: Iterable[Difference]) -> str | None:
    """Return the hash that approves exactly the destructive ones, on the objects as they are; None without any."""
    found = sorted([*item.key, item.sentence, item.state] for item in destructive(differences))
    return digest(found) if found else None


def destructive(differences: Iterable[Difference]) -> Iterator[Difference]:
    """Return those that lose records."""
    return (difference for difference in differences if difference.change is ChangeClass.DESTRUCTIVE)


_MOST_NAMED = 4
_UNNAMED = frozenset({"spec", "template", "metadata", "containers", "value", "data"})
_SPOKEN = {"labels": "labels", "ownerReferences": "owner"}


def named(paths: Sequence[tuple[str, ...]]) -> str:
    """Return ": image, env.NAME" of the fields that differ; nothing where something is only taken away."""
    found = list(dict.fromkeys(map(_field, paths)))
    if not found:
        return ": what is no longer asked for is taken away"
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f": {', '.join(found[:_MOST_NAMED])}{more}"


def _field(path: tuple[str, ...]) -> str:
    """Return a field's path without the parts that every path has."""
    if path[:1] == ("metadata",):
        return _SPOKEN.get(path[1], ".".join(path[1:]))
    if path[-1] == NUDGE:
        return "its supervisor asks for it"
    return ".".join(part for part in path if part not in _UNNAMED) or ".".join(path)
