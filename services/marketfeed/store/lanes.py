"""Lanes: batches on their way from the reading thread to the writers, one lane for each partition.

Within a lane batches keep their order and are stored one at a time; lanes are stored side by side, by whichever writer
is free. No client and no clock lives here.
"""

from __future__ import annotations

from collections import Counter, deque
from threading import Condition

from marketfeed.store.batches import Batch, Partition


class Lanes:
    """Thread-safe: the reading thread puts and collects, writers take and complete."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: dict[Partition, deque[Batch]] = {}
        self._free: deque[Partition] = deque()  # lanes with a batch that no writer is working on
        self._rows: Counter[Partition] = Counter()
        self._completed: list[Batch] = []
        self._closed = False

    def put(self, batch: Batch) -> None:
        """Add a batch at the end of its lane."""
        with self._changed:
            lane = self._waiting.setdefault(batch.partition, deque())
            if self._rows[batch.partition] == 0:
                self._free.append(batch.partition)
            lane.append(batch)
            self._rows[batch.partition] += len(batch)
            self._changed.notify_all()

    def take(self) -> Batch | None:
        """Wait for a batch and take its lane until `complete`; None once the lanes are closed and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closed)
            return self._waiting[self._free.popleft()].popleft() if self._free else None

    def complete(self, batch: Batch) -> None:
        """Report a batch that is stored, and give its lane back."""
        with self._changed:
            partition = batch.partition
            self._completed.append(batch)
            self._rows[partition] -= len(batch)
            if self._waiting[partition]:
                self._free.append(partition)
            self._changed.notify_all()

    def collect(self, wait_s: float = 0.0) -> list[Batch]:
        """Return the batches completed since the last call, waiting up to `wait_s` for the first one."""
        with self._changed:
            self._changed.wait_for(lambda: self._completed, wait_s)
            completed, self._completed = self._completed, []
            return completed

    def rows(self, partition: Partition) -> int:
        """Return how many rows of a partition are not completed."""
        with self._changed:
            return self._rows[partition]

    def total(self) -> int:
        """Return how many rows of all partitions are not completed."""
        with self._changed:
            return self._rows.total()

    def close(self) -> None:
        """Put nothing any more; writers end when nothing waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
