"""How streams move between shards without a moment in which nobody holds them (make-before-break).

Two writes: first every shard keeps what it is to lose to another, until those others have it; then the final sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Assignment = Mapping[str, frozenset[str]]
"""Streams, in their text form, by shard."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What to write first, which shards to wait for, what to write last.

    A shard of `awaited` is waited for until it has subscribed all of its streams of `first`.
    """

    first: dict[str, frozenset[str]]
    awaited: frozenset[str]
    final: dict[str, frozenset[str]]

    @property
    def emptied(self) -> frozenset[str]:
        """Shards that hold nothing in the end, and are to be stopped then."""
        return frozenset(shard for shard, streams in self.final.items() if not streams)


def handover(before: Assignment, after: Assignment) -> Handover:
    """Return the steps from one assignment to the other; a stream that nobody wants any more goes with the first."""
    shards = before.keys() | after.keys()
    held: frozenset[str] = frozenset().union(*before.values())
    wanted: frozenset[str] = frozenset().union(*after.values())
    final = {shard: after.get(shard, frozenset()) for shard in shards}
    first = {shard: final[shard] | (before.get(shard, frozenset()) & wanted) for shard in shards}
    awaited = frozenset(shard for shard in shards if (final[shard] - before.get(shard, frozenset())) & held)
    return Handover(first, awaited, final)
