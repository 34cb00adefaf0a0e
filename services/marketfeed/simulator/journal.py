"""The truth of one stream: every payload that it issued, one a line, in a file that only grows.

Memory stays bounded however long a market runs: what is kept is a sparse index of the file, and when that is full,
every second entry is dropped. Lines are written in whole batches: what ends in a newline is complete.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, dropwhile, islice, takewhile
from pathlib import Path
from sys import maxsize

from marketfeed.simulator.payloads import Key, issued
from marketfeed.simulator.source import Issued

STRIDE = 256  # records between two entries of the index, at first
INDEX_LIMIT = 8192  # entries: 200 KiB a stream
_LOAD_BATCH = 1024


KeyOf = Callable[[bytes], Key]


class Journal:
    """One stream's file: append to `pending` and flush; read back by id, by time or from the end.

    Ids and times, where there are any, never fall. A journal that finds an earlier file goes on with it; a last line
    that lacks its newline was never sent to anyone and is taken off.
    """

    def __init__(self, path: Path, *, stride: int = STRIDE, index_limit: int = INDEX_LIMIT) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._first_stride, self._index_limit = stride, index_limit
        self.pending: list[Issued] = []
        self._load()

    @property
    def count(self) -> int:
        """How many payloads were issued."""
        return self._count + len(self.pending)

    @property
    def ids(self) -> tuple[int | None, int | None]:
        """The first and the last payload's id."""
        self.flush()
        return self._first_id, self._last_id

    def flush(self) -> None:
        """Write what is pending, in whole lines."""
        if not self.pending:
            return
        batch, self.pending = self.pending, []
        self._index(batch)
        lines = memoryview(b"\n".join([*(record.payload for record in batch), b""]))
        while lines:
            lines = lines[os.write(self._file.fileno(), lines) :]

    def drop_after(self, last_id: int, key: KeyOf) -> None:
        """Take off every payload with an id above `last_id`; used before anything was sent."""
        extra = self.from_id(last_id + 1, maxsize, key)
        os.truncate(self._path, self._bytes - sum(len(payload) + 1 for payload in extra))
        self._load()

    def close(self) -> None:
        """Write what is pending and let go of the file."""
        self.flush()
        self._file.close()

    def from_id(self, first_id: int, limit: int, key: KeyOf) -> list[bytes]:
        """Return up to `limit` payloads with ids from `first_id` on."""
        self.flush()
        lines = self._lines(bisect_right(self._ids, first_id) - 1)
        return list(islice(dropwhile(lambda line: key(line).id < first_id, lines), limit))

    def between(self, start_ms: int, end_ms: int, limit: int, key: KeyOf) -> list[bytes]:
        """Return the first payloads, at most `limit`, with times from `start_ms` to `end_ms`, both included."""
        self.flush()
        lines = dropwhile(
            lambda line: key(line).time_ms < start_ms, self._lines(bisect_left(self._times, start_ms) - 1)
        )
        return list(islice(takewhile(lambda line: key(line).time_ms <= end_ms, lines), limit))

    def until(self, end_ms: int, limit: int, key: KeyOf) -> list[bytes]:
        """Return the last payloads, at most `limit`, with times up to `end_ms`."""
        self.flush()
        lines = self._lines(bisect_right(self._times, end_ms) - 2 - limit // self._stride)
        return list(takewhile(lambda line: key(line).time_ms <= end_ms, lines))[-limit:]

    def last(self, limit: int) -> list[bytes]:
        """Return the last payloads, at most `limit`."""
        self.flush()
        first = max(0, self._count - limit)
        return list(islice(self._lines(first // self._stride), first % self._stride, None))

    def _load(self) -> None:
        """Count and index what the file holds already."""
        self._stride = self._first_stride
        self._ids, self._times, self._offsets = array("q"), array("q"), array("q")
        self._count = self._bytes = 0
        self._first_id: int | None = None
        self._last_id: int | None = None
        with self._path.open("rb") as file:
            whole = takewhile(lambda line: line.endswith(b"\n"), file)
            while batch := [issued("", line[:-1]) for line in islice(whole, _LOAD_BATCH)]:
                self._index(batch)
        os.truncate(self._path, self._bytes)

    def _index(self, batch: list[Issued]) -> None:
        """Note where every `_stride`-th record starts, and count the batch."""
        ends = list(accumulate((len(record.payload) + 1 for record in batch), initial=self._bytes))
        place = -self._count % self._stride
        while place < len(batch):
            self._mark(batch[place], ends[place])
            place += self._stride - (self._count + place) % self._stride
        if self._count == 0:
            self._first_id = batch[0].id
        self._last_id = batch[-1].id
        self._count += len(batch)
        self._bytes = ends[-1]

    def _mark(self, record: Issued, offset: int) -> None:
        """Add one entry; a full index is thinned out when an entry of the wider stride comes."""
        self._ids.append(record.id or 0)
        self._times.append(record.time_ms or 0)
        self._offsets.append(offset)
        if len(self._offsets) > self._index_limit:
            self._stride *= 2
            self._ids, self._times, self._offsets = self._ids[::2], self._times[::2], self._offsets[::2]

    def _lines(self, entry: int) -> Iterator[bytes]:
        """Read the written payloads from an entry of the index on; one before the first means the first."""
        if not self._offsets:
            return
        with self._path.open("rb") as file:
            file.seek(self._offsets[max(0, entry)])
            yield from (line[:-1] for line in file)
