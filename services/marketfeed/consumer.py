"""`marketfeed consume`: topics into a sink, at least once from Kafka and exactly once in the table.

This is the process: it prepares the database, starts the writers, the reading thread's work (`intake`) and the HTTP
server, and says how it is.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import click
from prometheus_client import CollectorRegistry

from marketfeed.database import Pool
from marketfeed.errors import Unavailable
from marketfeed.logs import configure, logger
from marketfeed.metrics import ConsumerMetrics, ServiceMetrics
from marketfeed.migrate import migrate
from marketfeed.policies import backoff_s
from marketfeed.server import Pulse, Reason, Server
from marketfeed.service_command import ServiceCommand
from marketfeed.settings import ConsumerSettings
from marketfeed.sinks.postgres import PostgresSink
from marketfeed.store.dead_letters import DeadLetters
from marketfeed.store.intake import Intake
from marketfeed.store.lanes import Lanes
from marketfeed.store.prover import Kind, Prover
from marketfeed.store.writer import Writer

_STATEMENT_TIMEOUT_S = 30.0
_STUCK_AFTER_S = 60.0
_BACKOFF_FIRST_S = 0.2
_BACKOFF_MAX_S = 5.0

# A writer returns from the database many times per batch, and each time the interpreter's default makes it wait up to
# 5 ms for the reading thread: with small batches, longer than the database takes.
_SWITCH_INTERVAL_S = 0.0002

_log = logger("consumer")


class ConsumerService:
    """One consumer: an HTTP server, writers, and the thread that reads."""

    def __init__(self, settings: ConsumerSettings, stop: Event) -> None:
        self._settings = settings
        self._stop = stop
        self._registry = CollectorRegistry()
        metrics = ConsumerMetrics(self._registry)
        lanes = Lanes()
        letters = DeadLetters(settings)
        self._pool = Pool(
            settings.dsn, "marketfeed-consume", settings.writers, statement_timeout_s=_STATEMENT_TIMEOUT_S
        )
        self._writers = [
            Writer(
                f"writer-{index}",
                settings=settings,
                lanes=lanes,
                sink=PostgresSink(self._pool),
                dead_letters=letters,
                metrics=metrics,
            )
            for index in range(settings.writers)
        ]
        self._intake = Intake(settings, lanes, self._writers, metrics)
        self._prover = Prover(settings, self._kinds, metrics)
        self._database_problem: str | None = "the database was not asked yet"

    def run(self) -> None:
        """Run until `stop` is set, then store and commit what was read. Raises MarketfeedError for what is fatal."""
        pulse = Pulse(self._live, self._ready, self._stats)
        ServiceMetrics(self._registry, "consumer", pulse.unready, (self._settings.kafka.ca_file,))
        server = Server(self._settings.http, pulse, self._registry)
        _log.info("listening", url=server.url, feed=self._settings.feed, sink=self._settings.sink)
        try:
            if self._prepare():
                for writer in self._writers:
                    writer.start()
                self._prover.start()
                self._intake.run(self._stop)
        finally:
            self._prover.stop()
            self._pool.close()
            server.close()

    def _prepare(self) -> bool:
        """Bring the schema up to date, waiting for the database as long as it takes; False when stopped before."""
        attempt = 0
        while not self._stop.is_set():
            self._intake.state.beat = time.monotonic()
            try:
                outcome = migrate(self._settings.dsn)
            except Unavailable as error:
                if str(error) != self._database_problem:
                    _log.warning("waiting_for_database", reason=str(error))
                self._database_problem = str(error)
                draw = random.random()  # noqa: S311 - jitter, not cryptography
                self._stop.wait(backoff_s(attempt, _BACKOFF_FIRST_S, _BACKOFF_MAX_S, draw))
                attempt += 1
            else:
                self._database_problem = None
                _log.info("migrated", dialect=outcome.dialect, applied=outcome.applied)
                return True
        return False

    def _live(self) -> Reason:
        """Return why the loop hangs; a database or a broker that is away does not count."""
        silent_s = time.monotonic() - self._intake.state.beat
        return f"the loop has not turned for {silent_s:.0f} s" if silent_s > _STUCK_AFTER_S else None

    def _ready(self) -> Reason:
        state = self._intake.state
        if state.starting is not None:
            return f"starting: {self._database_problem or state.broker_problem or state.starting}"
        problems = (writer.problem for writer in self._writers if writer.problem is not None)
        return next(problems, state.broker_problem)

    def _kinds(self) -> frozenset[Kind]:
        return frozenset[Kind]().union(*(writer.kinds for writer in self._writers))

    def _stats(self) -> Mapping[str, Any]:
        state, writers = self._intake.state, self._writers
        lags = [writer.lag_s for writer in writers if writer.lag_s is not None]
        committed = state.committed_at
        figures = self._prover.figures
        return {
            "feed": self._settings.feed,
            "sink": self._settings.sink,
            "rows_stored": sum(writer.rows_new for writer in writers),
            "rows_per_second": round(state.rows_per_second, 1),
            "rows_duplicate": sum(writer.rows_duplicate for writer in writers),
            "dead_letters": sum(writer.letters for writer in writers),
            "error_count": state.errors + self._prover.errors + sum(writer.errors for writer in writers),
            "lag_records": state.lag_records,
            "lag_seconds": round(max(lags), 3) if lags else None,
            "last_commit_age_s": None if committed is None else round(time.monotonic() - committed, 3),
            "assigned_partitions": len(self._intake.offsets.assigned),
            "proof": None if figures is None else figures.as_stats(),
        }


@click.command("consume", cls=ServiceCommand, settings=ConsumerSettings, short_help="Store records in one sink.")
def command() -> None:
    """Store the records of a feed's topics in its sink, until SIGTERM.

    Settings come from the environment. Exits 0 after a drain, 2 when the configuration is wrong, 1 for anything else.
    """
    configure()
    settings = ConsumerSettings.from_env(os.environ, lambda path: Path(path).read_text("utf-8"))
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ConsumerService(settings, stop).run()
