"""The consumer's running proof: a thread that asks the ledger now and then what of the last hour is missing.

It is beside the work: it has a connection of its own, and whatever goes wrong here leaves the figures of before. What
the figures mean is decided in `proof`; the whole proof, from the tables themselves, is `marketfeed verify`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from threading import Event, Thread

from marketfeed import sql
from marketfeed.database import Pool
from marketfeed.ledger import Entry
from marketfeed.logs import logger
from marketfeed.metrics import ConsumerMetrics
from marketfeed.proof import WINDOW_S, Stretch, Tally, tally
from marketfeed.settings import ConsumerSettings

_STATEMENT_TIMEOUT_S = 5.0
_LAST_CALL_S = 1.0

_log = logger("prover")

Kind = tuple[str, str]
"""An exchange and one of its channels."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What the last check found: ids of `window_s` seconds of event time, looked at at `checked_at`, s since 1970."""

    checked_at: int
    tally: Tally

    def as_stats(self) -> dict[str, int]:
        """Return the object of `/stats`."""
        return {"window_s": WINDOW_S, "checked_at": self.checked_at, **asdict(self.tally)}


class Prover:
    """Checks every `proof_every_s` the exchanges and channels that `kinds` tells; none, and nothing is checked yet.

    The ledger does not know feeds: every symbol of those channels counts that the database holds, also one that another
    feed of the same venue stores there. Every replica of a consumer therefore reports the same.
    """

    def __init__(
        self, settings: ConsumerSettings, kinds: Callable[[], Collection[Kind]], metrics: ConsumerMetrics
    ) -> None:
        self._settings = settings
        self._kinds = kinds
        self._metrics = metrics
        self._pool = Pool(settings.dsn, "marketfeed-prover", 1, statement_timeout_s=_STATEMENT_TIMEOUT_S)
        self._over = Event()
        self._thread = Thread(target=self._run, name="prover", daemon=True)
        self._problem: str | None = None
        # Written by this thread alone, for others to show.
        self.figures: Figures | None = None
        self.errors = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a question that is under way is not waited for longer than a moment."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_CALL_S)  # a daemon: a call that hangs does not keep the process
        self._pool.close()

    def _run(self) -> None:
        while not self._over.wait(self._settings.proof_every_s):
            kinds = self._kinds()
            if kinds:
                self._check(kinds)

    def _check(self, kinds: Collection[Kind]) -> None:
        """Ask and remember; a failure is counted, and logged when it says something new."""
        now = time.time()
        stretch = Stretch.settled(int(now * 1_000_000))
        try:
            found = tally(self._ask(kinds, stretch), stretch)
        except Exception as error:  # noqa: BLE001 - the figures of before must not cost the consumer its life
            self.errors += 1
            self._metrics.sink_errors.labels(self._settings.sink, "proof").inc()
            if str(error) != self._problem and not self._over.is_set():
                _log.warning("proof_failed", reason=str(error))
            self._problem = str(error)
        else:
            self._problem = None
            self.figures = Figures(int(now), found)
            self._metrics.proof(self._settings.sink, found, now)

    def _ask(self, kinds: Collection[Kind], stretch: Stretch) -> list[Entry]:
        """Read the ledger around the stretch; raises what the database says."""
        values = {
            "exchange": [exchange for exchange, _ in kinds],
            "channel": [channel for _, channel in kinds],
            "read_from_s": stretch.read_from // 1_000_000,
            "margin_s": stretch.margin // 1_000_000,
            "since_s": stretch.since // 1_000_000,
            "until_s": stretch.until // 1_000_000,
        }
        with self._pool.connection() as connection, connection, connection.cursor() as cursor:
            cursor.execute(sql.read("proof_ledger.sql"), values)
            return [Entry(*row) for row in cursor.fetchall()]
