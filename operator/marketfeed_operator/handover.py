"""Moving streams between running shards without a gap: the new shard holds a stream before the old one drops it.

What does not live here: which shard a stream belongs to (shards), and writing the ConfigMaps (render, reconcile).

Nothing is remembered between two calls: where a hand-over stands is read from what the shards hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from marketfeed_operator.objects import CONFIG_MAP, SHARD_LABEL, UID_LABEL, Manifest, labels_of
from marketfeed_operator.observed import Observed

Holdings = Mapping[str, frozenset[str]]
"""The streams of each shard by its name, as BTCUSDT@trade."""

STREAMS_KEY = "streams.json"
"""Key of a shard's ConfigMap."""


@dataclass(frozen=True, slots=True, order=True)
class Move:
    """A stream on its way: `target` is told to hold it, `source` holds it until the target does."""

    stream: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """What every shard is to hold next, and what is on its way.

    `holdings` has every shard that must run now: the planned ones, and those that leave and still hold something.
    """

    holdings: Holdings
    moving: tuple[Move, ...] = ()  # the source still holds it: the target has not been seen to carry it
    broken: tuple[Move, ...] = ()  # let go before the target had it, because neither had room for both


def hand_over(planned: Holdings, current: Holdings, carried: Holdings, limit: int) -> HandOver:
    """Return the next step from what the shards are told to hold now towards what is planned.

    `carried` is what each shard has been seen to receive; `limit` is the most streams that one connection may have.
    A stream that nobody holds goes straight to its target. One that moves is added to its target while its source
    keeps it; once the target carries it, the source drops it. Streams that are planned nowhere are dropped at once.
    Where nothing can move because full shards wait for one another, one stream a circle is let go (`broken`).
    Called again with its own holdings and the same `carried`, it returns them, except where a stream was let go.
    """
    step = _Step(planned, current, carried, limit)
    step.keep()
    step.move()
    if not step.moving and step.waiting:
        step.break_one()
    step.place()
    holdings = {shard: frozenset(held) for shard, held in step.next.items() if held or shard in planned}
    return HandOver(holdings, tuple(sorted(step.moving)), tuple(step.broken))


def current_holdings(observed: Observed, uid: str) -> Holdings:
    """Return what the ConfigMaps of the feed's shards tell them to hold; one that nobody can read holds nothing."""
    kind = (CONFIG_MAP.group, CONFIG_MAP.kind)
    return {
        key.name: streams_of(manifest)
        for key, manifest in observed.children.items()
        if key[:2] == kind and SHARD_LABEL in labels_of(manifest) and labels_of(manifest).get(UID_LABEL) == uid
    }


def streams_of(config_map: Manifest) -> frozenset[str]:
    """Return the streams of a shard's ConfigMap; none where its text is not what we write."""
    try:
        content = json.loads((config_map.get("data") or {}).get(STREAMS_KEY, "{}"))
    except ValueError:
        return frozenset()
    streams = content.get("streams") if isinstance(content, dict) else None
    return frozenset(stream for stream in streams if isinstance(stream, str)) if isinstance(streams, list) else _NONE


_NONE: frozenset[str] = frozenset()


class _Step:
    """One step under way: `next` fills up, and a stream that cannot be added yet stays with its source."""

    def __init__(self, planned: Holdings, current: Holdings, carried: Holdings, limit: int) -> None:
        self.targets = {stream: shard for shard, streams in planned.items() for stream in streams}
        self.holders = _holders(current)
        self.carried = carried
        self.room = {shard: max(limit, len(streams)) for shard, streams in planned.items()}
        self.next: dict[str, set[str]] = {shard: set() for shard in sorted({*planned, *current})}
        self.moving: list[Move] = []
        self.waiting: list[Move] = []
        self.broken: list[Move] = []

    def keep(self) -> None:
        """Leave every planned stream where it is: with its target, and with one source until the target carries it."""
        for stream, target in sorted(self.targets.items()):
            holders = self.holders.get(stream, ())
            source = self._source(stream, target, holders)
            if target in holders:
                self.next[target].add(stream)
            if source is not None:
                self.next[source].add(stream)
                (self.moving if target in holders else self.waiting).append(Move(stream, source, target))

    def _source(self, stream: str, target: str, holders: Iterable[str]) -> str | None:
        """Return who goes on holding the stream beside its target; of several, one that carries it."""
        if target in holders and stream in self.carried.get(target, _NONE):
            return None
        others = [shard for shard in holders if shard != target]
        return min(others, key=lambda shard: (stream not in self.carried.get(shard, _NONE), shard), default=None)

    def move(self) -> None:
        """Add the waiting streams to their targets as far as there is room."""
        still_waiting = []
        for move in self.waiting:
            if self._has_room(move.target):
                self.next[move.target].add(move.stream)
                self.moving.append(move)
            else:
                still_waiting.append(move)
        self.waiting = still_waiting

    def break_one(self) -> None:
        """Let go of one stream whose place another one waits for, and give that one the place.

        Every full target holds a stream that belongs elsewhere, so those that wait for one another form a circle.
        """
        wanted = {move.target for move in self.waiting}
        circle = _circle({move.source: move for move in reversed(self.waiting) if move.source in wanted})
        self.next[circle.source].remove(circle.stream)
        self.waiting.remove(circle)
        self.broken.append(circle)
        self.move()

    def place(self) -> None:
        """Give every stream that nobody holds to its target as far as there is room."""
        let_go = {move.stream for move in self.broken}
        for stream, target in sorted(self.targets.items()):
            if stream not in self.holders and stream not in let_go and self._has_room(target):
                self.next[target].add(stream)

    def _has_room(self, shard: str) -> bool:
        return len(self.next[shard]) < self.room[shard]


def _circle(leaving: Mapping[str, Move]) -> Move:
    """Return a move of the circle that is reached from the first shard by following where streams want to go."""
    shard = min(leaving)
    seen = set()
    while shard not in seen:
        seen.add(shard)
        shard = leaving[shard].target
    return leaving[shard]


def _holders(current: Holdings) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for shard, streams in sorted(current.items()):
        for stream in streams:
            found[stream] = (*found.get(stream, ()), shard)
    return found
