"""`marketfeed analytics`: topics into windows of metrics, flags and alerts, by Spark, in one database.

This is the process: it prepares the database, starts Spark and its queries, the HTTP server and the upkeep, and says
how it is. Spark itself is imported when it runs: what the job is set by can be read without it.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any

import click
from prometheus_client import CollectorRegistry

from marketfeed.analytics.kafka_options import kafka_options
from marketfeed.analytics.patience import Patience, Stopping
from marketfeed.analytics.results import Results
from marketfeed.analytics.store import MetricsStore, Written
from marketfeed.analytics.thresholds import Thresholds
from marketfeed.analytics.thresholds_file import ThresholdsFile
from marketfeed.analytics.upkeep import Upkeep
from marketfeed.analytics.watch import Watch
from marketfeed.errors import ConfigurationError, MarketfeedError
from marketfeed.logs import configure, logger
from marketfeed.metrics import AnalyticsMetrics, ServiceMetrics
from marketfeed.migrate import migrate
from marketfeed.server import Pulse, Reason, Server
from marketfeed.service_command import ServiceCommand
from marketfeed.settings import AnalyticsSettings

_LOOK_S = 0.5
_DRAIN_S = 15.0
_STARTED_AFTER_S = 300.0

_WRITES: Mapping[str, Callable[[MetricsStore, Sequence[Any], int, Thresholds], Written]] = {
    "trade_metrics": MetricsStore.write_trades,
    "spread_metrics": MetricsStore.write_spreads,
}

_log = logger("analytics")


class AnalyticsService:
    """One streaming job: Spark with its queries, an HTTP server, and the upkeep.

    take_signals: called once Spark runs, which takes SIGINT for itself.
    """

    def __init__(
        self, settings: AnalyticsSettings, stop: Event, queries: ModuleType, take_signals: Callable[[], None]
    ) -> None:
        """Prepare the job; `queries` is the module of this name, which not every installation can import."""
        self._settings = settings
        self._stop = stop
        self._queries = queries
        self._take_signals = take_signals
        self._registry = CollectorRegistry()
        metrics = AnalyticsMetrics(self._registry)
        self._results = Results(metrics)
        self._watch = Watch(metrics, settings.trigger_ms)
        self._thresholds = ThresholdsFile(settings.thresholds_file)
        self._broker = kafka_options(settings.kafka, _authority(settings))
        self._patience = {table: Patience(stop, self._results.failed) for table in _tables(settings)}
        self._store = MetricsStore.of(settings)
        self._upkeep = Upkeep(
            self._store,
            stop,
            every_s=settings.trigger_ms / 1000,
            thresholds=self._thresholds.current,
            caught_up=lambda: self._watch.caught_up() is not None,
            brokers=settings.kafka.bootstrap_servers,
            results=self._results,
        )
        self._began = time.monotonic()
        self._streaming = False
        self._fatal: MarketfeedError | None = None

    def run(self) -> None:
        """Run until `stop` is set, then end between two batches. Raises MarketfeedError for what is fatal."""
        pulse = Pulse(self._live, self._ready, self._stats)
        ServiceMetrics(self._registry, "analytics", pulse.unready, (self._settings.kafka.ca_file,))
        server = Server(self._settings.http, pulse, self._registry)
        _log.info("listening", url=server.url, feed=self._settings.feed, sink=self._settings.sink)
        try:
            if self._prepare():
                self._stream()
        finally:
            self._store.close()
            server.close()

    def _prepare(self) -> bool:
        """Bring the schema up to date, waiting for the database as long as it takes; False when stopped before."""
        patience = next(iter(self._patience.values()))
        try:
            outcome = patience.until_done(lambda: migrate(self._settings.dsn))
        except Stopping:
            return False
        _log.info("migrated", dialect=outcome.dialect, applied=outcome.applied)
        self._began = time.monotonic()
        return not self._stop.is_set()

    def _stream(self) -> None:
        """Run Spark and its queries until `stop` is set, or one fails."""
        spark = self._queries.session(self._settings, os.environ)
        self._take_signals()
        running: list[Any] = []
        try:
            deliver = {table: partial(self._deliver, table) for table in self._patience}
            running = self._queries.start(spark, self._settings, self._broker, deliver, self._watch)
            self._streaming = True
            _log.info("streaming", queries=[query.name for query in running], spark=spark.version)
            self._upkeep.start()
            while not self._stop.wait(_LOOK_S):
                self._raise_failure(running)
        finally:
            self._stop.set()
            self._queries.stop(spark, running, _DRAIN_S)
            self._upkeep.join(_DRAIN_S)

    def _deliver(self, table: str, windows: Callable[[], list[Any]], batch_id: int) -> None:
        """Write one batch, waiting for the database; called by Spark on a thread per query."""
        if self._stop.is_set():
            raise Stopping
        rows = windows()
        if not rows:
            return
        write = partial(_WRITES[table], self._store, rows, batch_id)
        try:
            written = self._patience[table].until_done(lambda: write(self._thresholds.current()))
        except Stopping:
            raise
        except MarketfeedError as error:
            self._fatal = error  # Spark would wrap it, and its exit code would be lost
            raise
        except Exception as error:
            _log.error("batch_not_written", query=table, batch=batch_id)
            self._fatal = MarketfeedError(f"a batch of {table} cannot be written: {type(error).__name__}, see the log")
            raise
        self._results.written(table, written.windows, written.alerts)

    def _raise_failure(self, running: Sequence[Any]) -> None:
        """Raise what ended a query, if one has ended."""
        for query in running:
            if not query.isActive and not self._stop.is_set():
                reason = self._queries.failure(query)
                raise self._fatal or MarketfeedError(
                    f"the query {query.name} has ended: {reason or 'nobody knows why'}"
                )

    def _live(self) -> Reason:
        """Return why the job hangs; a database or a broker that is away does not count."""
        if self._away():
            return None
        age_s = time.monotonic() - self._began
        if not self._streaming and age_s > _STARTED_AFTER_S:
            return f"Spark has not started for {age_s:.0f} s"
        return self._watch.dead()

    def _ready(self) -> Reason:
        away = self._away()
        if not self._streaming:
            return f"starting: {away or 'Spark'}"
        pending = self._watch.pending()
        return away or (None if pending is None else f"starting: {pending}")

    def _away(self) -> Reason:
        """Return which dependency is away."""
        waiting = (patience.problem for patience in (*self._patience.values(), self._upkeep.patience))
        return next((problem for problem in waiting if problem is not None), self._upkeep.broker_problem)

    def _stats(self) -> Mapping[str, Any]:
        at = self._upkeep.reconciled_at
        return {
            "feed": self._settings.feed,
            "sink": self._settings.sink,
            "queries": self._watch.stats(),
            **self._results.stats(),
            "reconciled_at": None if at is None else at.isoformat(timespec="milliseconds"),
            "thresholds_problem": self._thresholds.problem,
        }


def _tables(settings: AnalyticsSettings) -> list[str]:
    """Return the tables that are filled; raises ConfigurationError when no topic is set."""
    if not settings.topics:
        names = [AnalyticsSettings.variable(name) for name in ("trade_topic", "quote_topic")]
        raise ConfigurationError(f"{' and '.join(names)} are both unset: set one, or both")
    return list(settings.topics)


def _authority(settings: AnalyticsSettings) -> str | None:
    """Return the PEM text of the brokers' certificate authority."""
    path = settings.kafka.ca_file
    if path is None:
        return None
    try:
        return Path(path).read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{settings.kafka.variable('ca_file')}: {path} cannot be read: {error}") from None


def _spark() -> ModuleType:
    """Return the module that needs Spark; raises ConfigurationError where Spark is not installed."""
    try:
        from marketfeed.analytics import queries  # noqa: PLC0415 - 450 MB that only this command needs
    except ModuleNotFoundError as error:
        if error.name not in ("pyspark", "py4j"):
            raise
        raise ConfigurationError(
            "`marketfeed analytics` needs Spark, which is not installed: install marketfeed[analytics]; "
            "`marketfeed up` fetches Spark by itself"
        ) from None
    return queries


@click.command(
    "analytics", cls=ServiceCommand, settings=AnalyticsSettings, short_help="Keep metrics, flags and alerts by Spark."
)
def command() -> None:
    """Keep windows of metrics, flags and alerts of a feed's topics in its database, until SIGTERM.

    Settings come from the environment. Exits 0 when it was told to end, 2 when the configuration is wrong, 1 when a
    query fails: started again, it goes on from its checkpoint.
    """
    configure()
    logging.getLogger("py4j").setLevel(logging.WARNING)  # it has a line for each call between Python and Java
    settings = AnalyticsSettings.from_env(os.environ, lambda path: Path(path).read_text("utf-8"))
    stop = Event()

    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())

    take_signals()
    AnalyticsService(settings, stop, _spark(), take_signals).run()
