"""Batches of records on their way to a sink, and the pure decisions about them.

When a batch is full or due, how a refused batch is taken apart, which offsets may be committed. What does not live
here: clocks, threads and clients (`intake`, `lanes`, `writer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from marketfeed import codec
from marketfeed.errors import BadRecord
from marketfeed.events import Record
from marketfeed.quarantine import Rejected, Source
from marketfeed.sinks import Refused

Partition = tuple[str, int]
"""A topic and the number of one of its partitions."""


@dataclass(slots=True)
class Batch:
    """Records of one partition in their order, and what could not be decoded among them."""

    partition: Partition
    opened_at: float  # s, of a monotonic clock
    next_offset: int = 0  # what may be committed once all of this is stored
    records: list[Record] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records) + len(self.rejected)

    def add(self, source: Source) -> int:
        """Decode one record and take it, or the reason why it cannot be decoded; return how many were taken."""
        try:
            record = codec.decode(source.value() or b"")
        except BadRecord as error:
            self.rejected.append(Rejected(source, error.error_type, str(error)))
        else:
            self.records.append(record)
            self.sources.append(source)
        self.next_offset = (source.offset() or 0) + 1
        return len(self.records) + len(self.rejected)


def due(batch: Batch, now: float, rows: int, max_delay_s: float) -> bool:
    """Whether the batch should be stored now: it is full, or its first row has waited long enough."""
    return len(batch) >= rows or (len(batch) > 0 and now - batch.opened_at >= max_delay_s)


def isolate(records: Sequence[Record], store: Callable[[Sequence[Record]], object]) -> list[tuple[int, Refused]]:
    """Store the records, halving what the sink refuses; return the index of each bad row, and why.

    One bad row among n costs at most 2 * ceil(log2(n)) further calls. What `store` raises besides Refused passes
    through: some of the records may be stored then, and storing all of them again does no harm.
    """
    bad: list[tuple[int, Refused]] = []
    waiting = [(0, len(records))]
    while waiting:
        start, end = waiting.pop()
        if start == end:
            continue
        try:
            store(records[start:end])
        except Refused as refusal:
            if end - start == 1:
                bad.append((start, refusal))
            else:
                middle = (start + end) // 2
                waiting += [(middle, end), (start, middle)]  # the earlier half first: rows keep their order
    return bad


def rejected(batch: Batch, bad: Iterable[tuple[int, Refused]]) -> list[Rejected]:
    """Return everything of the batch that belongs into quarantine: undecodable, or refused by the sink."""
    return [
        *batch.rejected,
        *(Rejected(batch.sources[index], "refused_by_sink", str(refusal)) for index, refusal in bad),
    ]


class Offsets:
    """What is stored and not committed yet, of the partitions that are ours."""

    def __init__(self) -> None:
        self._ours: set[Partition] = set()
        self._stored: dict[Partition, int] = {}
        self._uncommitted: dict[Partition, int] = {}

    @property
    def assigned(self) -> frozenset[Partition]:
        """The partitions that are ours."""
        return frozenset(self._ours)

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Take partitions over."""
        self._ours.update(partitions)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Let partitions go; what was not committed of them is their next owner's to store again."""
        for partition in partitions:
            self._ours.discard(partition)
            self._stored.pop(partition, None)
            self._uncommitted.pop(partition, None)

    def stored(self, partition: Partition, offset: int) -> None:
        """Note that everything before this offset is stored; of a partition that was revoked it is forgotten."""
        if partition in self._ours and offset > self._stored.get(partition, -1):
            self._stored[partition] = self._uncommitted[partition] = offset

    def next_offset(self, partition: Partition) -> int | None:
        """Return the offset after the last stored record; None before anything was stored."""
        return self._stored.get(partition)

    def take(self) -> dict[Partition, int]:
        """Return what is to be committed now; it counts as committed until `failed` says otherwise."""
        taken, self._uncommitted = self._uncommitted, {}
        return taken

    def failed(self, offsets: Mapping[Partition, int]) -> None:
        """Note that a commit failed: unless newer ones came meanwhile, these are to be committed again."""
        for partition, offset in offsets.items():
            if partition in self._ours:
                self._uncommitted.setdefault(partition, offset)
