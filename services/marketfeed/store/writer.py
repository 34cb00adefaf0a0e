"""A writer: one thread that stores batches, one after the other, through a sink of its own.

It never gives a batch up: while the sink or the dead-letter topic is away it waits and tries again. A batch is done
when its rows are committed and its dead letters are confirmed; only then may its offsets be committed, which is the
consumer's business.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import TypeVar

from marketfeed.errors import Unavailable
from marketfeed.events import Record
from marketfeed.logs import logger
from marketfeed.metrics import ConsumerMetrics
from marketfeed.policies import backoff_s
from marketfeed.quarantine import Rejected
from marketfeed.settings import ConsumerSettings
from marketfeed.sinks import Sink
from marketfeed.store.batches import Batch, isolate, rejected
from marketfeed.store.dead_letters import DeadLetters
from marketfeed.store.lanes import Lanes

_Result = TypeVar("_Result")

_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0
_LAST_CALL_S = 1.0

_log = logger("writer")


class Writer:
    """Stores batches from the lanes, one after the other, until the lanes are closed."""

    def __init__(
        self,
        name: str,
        *,
        settings: ConsumerSettings,
        lanes: Lanes,
        sink: Sink,
        dead_letters: DeadLetters,
        metrics: ConsumerMetrics,
    ) -> None:
        self._settings = settings
        self._lanes = lanes
        self._sink = sink
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._abandon = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        # Written by this thread alone, for others to show.
        self.rows_new = 0
        self.rows_duplicate = 0
        self.kinds: frozenset[tuple[str, str]] = frozenset()  # exchange and channel of what was stored
        self.letters = 0
        self.errors = 0
        self.lag_s: float | None = None
        self.problem: str | None = None
        self.failure: Exception | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Wait for the end that closed lanes bring; after `timeout_s` leave the rest alone."""
        self._thread.join(timeout_s)
        self._abandon.set()
        self._thread.join(_LAST_CALL_S)  # the thread is a daemon: a call that hangs does not keep the process
        self._sink.close()

    def _run(self) -> None:
        try:
            while (batch := self._lanes.take()) is not None:
                if not self._complete(batch):
                    return
                self._lanes.complete(batch)
        except Exception as failure:  # noqa: BLE001 - carried to the reading thread, which ends the process with it
            self.failure = failure

    def _complete(self, batch: Batch) -> bool:
        """Store a batch and quarantine what cannot be stored; return whether that was achieved before the end."""
        bad = self._until_available("sink", lambda: isolate(batch.records, self._store))
        if bad is None:
            return False
        letters = rejected(batch, bad)
        if letters and self._until_available("dead_letters", lambda: self._quarantine(letters)) is None:
            return False
        if batch.records:
            self.lag_s = time.time() - batch.records[-1].ingestion_time / 1_000_000
            self._metrics.lag_seconds.labels(batch.partition[0]).set(self.lag_s)
        return True

    def _store(self, records: Sequence[Record]) -> None:
        metrics, sink = self._metrics, self._settings.sink
        started = time.monotonic()
        stored = self._sink.store(records)
        metrics.batch_seconds.labels(sink).observe(time.monotonic() - started)
        metrics.batch_rows.labels(sink).observe(len(records))
        for table, rows in stored.new.items():
            metrics.stored.labels(sink, table).inc(rows)
            self.rows_new += rows
        for table, rows in stored.duplicate.items():
            metrics.duplicates.labels(sink, table).inc(rows)
            self.rows_duplicate += rows
        self.kinds |= {(exchange, channel) for exchange, _, channel in stored.streams}

    def _quarantine(self, letters: Sequence[Rejected]) -> Sequence[Rejected]:
        self._dead_letters.send(letters, self._abandon)
        for letter in letters:
            topic = letter.source.topic() or ""
            self._metrics.dead_letters.labels(self._settings.dead_letter_topic, topic, letter.error_type).inc()
        self.letters += len(letters)
        return letters

    def _until_available(self, what: str, work: Callable[[], _Result]) -> _Result | None:
        """Do the work, waiting and trying again for as long as it takes; None when it was abandoned."""
        attempt = 0
        while not self._abandon.is_set():
            try:
                result = work()
            except Unavailable as error:
                self._report(what, error)
                self._abandon.wait(backoff_s(attempt, _BACKOFF_FIRST_S, _BACKOFF_MAX_S, random.random()))  # noqa: S311 - jitter
                attempt += 1
            else:
                if self.problem is not None:
                    _log.info("available_again", what=what, attempts=attempt)
                self.problem = None
                return result
        return None

    def _report(self, what: str, error: Unavailable) -> None:
        """Count a failure, and log it when it says something new."""
        self._metrics.sink_errors.labels(self._settings.sink, what).inc()
        self.errors += 1
        if str(error) != self.problem:
            _log.warning("unavailable", what=what, reason=str(error))
        self.problem = str(error)
