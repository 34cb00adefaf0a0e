"""The truth of one stream: every payload that it issued, one a line, in a file that only grows.

Memory stays bounded however long a market runs: what is kept is a sparse index of the file, and when that is full, every
second entry is dropped. Lines are written in whole batches, so a reader that stops at the last newline sees whole lines.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import dropwhile, islice, takewhile
from pathlib import Path
from typing import NamedTuple

STRIDE = 256  # records between two entries of the index, at first
INDEX_LIMIT = 8192  # entries: 200 KiB a stream
BATCH_BYTES = 262_144


class Key(NamedTuple):
    """What a line is found by: the payload's id and its time in ms."""

    id: int
    time_ms: int


class Journal:
    """Append payloads, read them back by id, by time or from the end."""

    def __init__(self, path: Path, *, stride: int = STRIDE, index_limit: int = INDEX_LIMIT) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._stride, self._index_limit = stride, index_limit
        self._ids, self._times, self._offsets = array("q"), array("q"), array("q")
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._written = 0
        self.count = 0
        self.first_id: int | None = None
        self.last_id: int | None = None

    def append(self, id_: int | None, time_ms: int | None, payload: bytes) -> None:
        """Add one payload; ids and times, where there are any, never fall."""
        if self.count % self._stride == 0:
            self._mark(id_, time_ms)
        if self.first_id is None:
            self.first_id = id_
        self.last_id = id_
        self.count += 1
        self._pending.append(payload)
        self._pending_bytes += len(payload) + 1
        if self._pending_bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is pending, in whole lines."""
        if not self._pending:
            return
        self._pending.append(b"")
        batch = memoryview(b"\n".join(self._pending))
        self._pending, self._pending_bytes = [], 0
        while batch:
            written = os.write(self._file.fileno(), batch)
            self._written += written
            batch = batch[written:]

    def close(self) -> None:
        """Write what is pending and let go of the file."""
        self.flush()
        self._file.close()

    def from_id(self, first_id: int, limit: int, key: Callable[[bytes], Key]) -> list[bytes]:
        """Return up to `limit` payloads with ids from `first_id` on."""
        entry = bisect_right(self._ids, first_id) - 1
        return list(islice(dropwhile(lambda line: key(line).id < first_id, self._lines(entry)), limit))

    def between(self, start_ms: int, end_ms: int, limit: int, key: Callable[[bytes], Key]) -> list[bytes]:
        """Return the first payloads, at most `limit`, with times from `start_ms` to `end_ms`, both included."""
        entry = bisect_left(self._times, start_ms) - 1
        late = dropwhile(lambda line: key(line).time_ms < start_ms, self._lines(entry))
        return list(islice(takewhile(lambda line: key(line).time_ms <= end_ms, late), limit))

    def until(self, end_ms: int, limit: int, key: Callable[[bytes], Key]) -> list[bytes]:
        """Return the last payloads, at most `limit`, with times up to `end_ms`."""
        entry = bisect_right(self._times, end_ms) - 1 - limit // self._stride - 1
        return list(takewhile(lambda line: key(line).time_ms <= end_ms, self._lines(entry)))[-limit:]

    def last(self, limit: int) -> list[bytes]:
        """Return the last payloads, at most `limit`."""
        first = max(0, self.count - limit)
        entry = first // self._stride
        return list(islice(self._lines(entry), first - entry * self._stride, None))

    def _mark(self, id_: int | None, time_ms: int | None) -> None:
        """Note where the next record starts; thin the index out when it is full."""
        if len(self._offsets) == self._index_limit:
            self._stride *= 2
            self._ids, self._times, self._offsets = self._ids[::2], self._times[::2], self._offsets[::2]
            if self.count % self._stride:
                return
        self._ids.append(id_ or 0)
        self._times.append(time_ms or 0)
        self._offsets.append(self._written + self._pending_bytes)

    def _lines(self, entry: int) -> Iterator[bytes]:
        """Read the payloads from one entry of the index on."""
        self.flush()
        if not self._offsets:
            return
        with self._path.open("rb") as file:
            file.seek(self._offsets[max(0, entry)])
            for line in file:
                yield line[:-1]
