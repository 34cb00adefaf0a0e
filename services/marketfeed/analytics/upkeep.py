"""What is done beside the stream at each trigger: windows are compared with the ledger, brokers are looked for."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Protocol

from marketfeed.analytics.patience import Patience
from marketfeed.analytics.results import Results
from marketfeed.analytics.store import Corrected
from marketfeed.analytics.thresholds import Thresholds
from marketfeed.errors import Unavailable
from marketfeed.logs import logger

_ANSWER_S = 3.0

# Windows that the stream has yet to reach are not worth correcting; one that never catches up must not keep them so.
_BEHIND_S = 60.0

_log = logger("analytics")


class Reconciles(Protocol):
    """A store that compares its windows with the ledger; see `MetricsStore.reconcile`."""

    def reconcile(self, thresholds: Thresholds) -> Corrected:
        """Correct windows; say which."""
        ...


class Upkeep:
    """A thread that never ends by an error.

    caught_up: says whether the queries have written all that was there when they looked last.
    """

    def __init__(
        self,
        store: Reconciles,
        stop: Event,
        *,
        every_s: float,
        thresholds: Callable[[], Thresholds],
        caught_up: Callable[[], bool],
        brokers: str,
        results: Results,
    ) -> None:
        self._store = store
        self._stop = stop
        self._every_s = every_s
        self._thresholds = thresholds
        self._caught_up = caught_up
        self._brokers = brokers
        self._results = results
        self._behind_since: float | None = None
        self._thread = Thread(target=self._run, name="upkeep", daemon=True)
        self.patience = Patience(stop, results.failed)
        self.broker_problem: str | None = None
        self.reconciled_at: datetime | None = None

    def start(self) -> None:
        """Start the thread; it ends when `stop` is set."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end, if it was started."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.turn()

    def turn(self) -> None:
        """Do everything once."""
        self.broker_problem = unreachable(self._brokers)
        if not self._due():
            return
        try:
            corrected = self.patience.once(lambda: self._store.reconcile(self._thresholds()))
        except Unavailable:
            return  # counted and logged; the next turn tries again
        except Exception:  # noqa: BLE001 - whatever it is, the stream goes on and the next turn tries again
            self._results.failed()
            _log.error("reconciliation_failed")
        else:
            self._take(corrected)

    def _take(self, corrected: Corrected) -> None:
        self.reconciled_at = datetime.now(UTC)
        windows = {table: count for table, count in corrected.windows.items() if count}
        self._results.corrected(windows, corrected.alerts)
        if windows:
            _log.info("windows_corrected", **windows)

    def _due(self) -> bool:
        """Tell whether to compare now: the stream is where the topics' ends are, or has been behind for long."""
        now = time.monotonic()
        if self._caught_up():
            self._behind_since = None
            return True
        if self._behind_since is None:
            self._behind_since = now
        return now - self._behind_since > _BEHIND_S


def unreachable(brokers: str) -> str | None:
    """Return a sentence when nothing listens at any of these addresses (host:port, comma-separated), else None.

    Whether what listens is a broker that would have us is Spark's to find out.
    """
    if any(_listens(host, port) for host, port in _addresses(brokers)):
        return None
    return f"no Kafka broker answers at {brokers} within {_ANSWER_S:g} s"


def _addresses(brokers: str) -> Iterator[tuple[str, int]]:
    for broker in brokers.split(","):
        host, _, port = broker.strip().rpartition(":")
        if host and port.isdecimal():
            yield host.strip("[]"), int(port)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _ANSWER_S):
            return True
    except OSError:
        return False
