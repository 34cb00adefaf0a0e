"""Moving streams between running shards without a gap: the new shard holds a stream before the old one drops it.

What does not live here: which shard a stream belongs to (shards), and writing the ConfigMaps (render, reconcile).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Holdings = Mapping[str, frozenset[str]]
"""The streams of each shard by its name, as BTCUSDT@trade."""


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
