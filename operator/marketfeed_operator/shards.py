"""Which shard holds which stream: rendezvous hashing with a cap.

Every stream ranks all shards by a hash of both names and goes to the first that has room; where two streams want the
last place, the one with the higher weight gets it. The outcome is unique, so it depends on neither order nor history,
and a change of the streams or of the count moves few of them.
Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on
Networking 6(1), 1998; the rule for full shards is Gale and Shapley's deferred acceptance.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterable
from hashlib import blake2b

from marketfeed.errors import ConfigurationError
from marketfeed.events import Stream

Placement = tuple[tuple[Stream, ...], ...]
"""The streams of each shard, sorted; the index is the shard's number."""

_WEIGHTS_PER_DIGEST = 8


def place(streams: Iterable[Stream], streams_per_shard: int, max_shards: int, shards: int | None = None) -> Placement:
    """Place every stream on exactly one of `shards` shards, or of the fewest that hold them all.

    A shard may stay empty where `shards` says so; that `shards` keeps to `max_shards` is a rule's business. Raises
    ConfigurationError when `shards` cannot hold the streams, or when holding them takes more than `max_shards`.
    """
    distinct = sorted(set(streams))
    count = -(-len(distinct) // streams_per_shard)
    if shards is not None and shards < count:
        enough = -(-len(distinct) // shards)
        more = " and spec.ingest.maxShards" if count > max_shards else ""
        raise ConfigurationError(
            f"{len(distinct)} streams do not fit on {shards} shards of {streams_per_shard}: "
            f"raise spec.ingest.shards{more} to {count} or spec.ingest.streamsPerShard to {enough}"
        )
    if count > max_shards:
        enough = -(-len(distinct) // max_shards)
        raise ConfigurationError(
            f"{len(distinct)} streams need {count} shards of {streams_per_shard}, above the limit of {max_shards}: "
            f"raise spec.ingest.maxShards to {count} or spec.ingest.streamsPerShard to {enough}"
        )
    return spread(distinct, count if shards is None else shards, streams_per_shard)


def spread(streams: Iterable[Stream], count: int, streams_per_shard: int) -> Placement:
    """Place distinct streams on `count` shards, none with more than `streams_per_shard`; there must be room for all."""
    held: list[list[tuple[int, Stream]]] = [[] for _ in range(count)]
    for stream in streams:
        _settle(stream, held, streams_per_shard)
    return tuple(tuple(sorted(stream for _, stream in shard)) for shard in held)


def _settle(stream: Stream, held: list[list[tuple[int, Stream]]], streams_per_shard: int) -> None:
    """Let the stream, and every stream that it displaces in turn, take the best place that it can hold.

    `held` is a heap for each shard, the lightest stream on top.
    """
    homeless: Stream | None = stream
    while homeless is not None:
        newcomer, homeless = homeless, None
        for weight, index in sorted(_ranking(newcomer, len(held)), reverse=True):
            shard = held[index]
            if len(shard) < streams_per_shard:
                heapq.heappush(shard, (weight, newcomer))
                break
            if (weight, newcomer) > shard[0]:
                homeless = heapq.heapreplace(shard, (weight, newcomer))[1]
                break


def _ranking(stream: Stream, count: int) -> Iterable[tuple[int, int]]:
    """Return (weight, shard number) for every shard; 64-bit weights that no process, platform or version changes."""
    name = str(stream).encode()
    weights: list[int] = []
    for block in range(-(-count // _WEIGHTS_PER_DIGEST)):
        weights.extend(struct.unpack(">8Q", blake2b(name, salt=block.to_bytes(4, "big")).digest()))
    return zip(weights, range(count), strict=False)
