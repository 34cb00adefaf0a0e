"""Everything that runs for one feed on this machine: broker, database, simulated venue, services; and their end.

What does not live here: when to start and stop, which run.py decides, and what is shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from marketfeed import topics
from marketfeed.analytics.store import MetricsStore
from marketfeed.errors import ConfigurationError, MarketfeedError, Unavailable
from marketfeed.kafka import group_lag, topic_ends
from marketfeed.local import endpoints
from marketfeed.local.advice import advice
from marketfeed.local.analysis import Analysis
from marketfeed.local.child import Entry
from marketfeed.local.endpoints import Endpoints
from marketfeed.local.fleet import Fleet
from marketfeed.local.kafka import EmbeddedKafka
from marketfeed.local.keeper import Keeper
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.local.runs import POSTGRES
from marketfeed.local.screen import Screen
from marketfeed.local.table import ServerView
from marketfeed.local.venue import NAME as VENUE
from marketfeed.local.venue import Market, SimulatedVenue
from marketfeed.local.workload import Addresses, Workload, single_broker
from marketfeed.migrate import migrate
from marketfeed.settings import Secret

SLOW_AFTER_S = 10.0
LAG_POLL_S = 0.2
SIMULATOR_GRACE_S = 5.0


class Machine:
    """One feed's processes. `start` once, `apply` for each edit, then `drain` and `stop`.

    `failed` gets an exception when something happened that nothing can go on after.
    """

    def __init__(self, workload: Workload, market: Market | None, folder: Path, screen: Screen) -> None:
        """Prepare to run in `folder`; without a `market`, the venue stays as planned: the real one."""
        (folder / "logs").mkdir(mode=0o700, exist_ok=True)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._workload = workload
        self._folder = folder
        self._screen = screen
        self._endpoints = Endpoints()
        self._advised: set[str] = set()
        self._kafka = EmbeddedKafka(folder / "kafka") if workload.kafka else None
        self._postgres = EmbeddedPostgres(folder / POSTGRES) if workload.kafka else None
        self._kafka_keeper = Keeper(self._kafka, self) if self._kafka else None
        self._postgres_keeper = Keeper(self._postgres, self) if self._postgres else None
        self._venue = SimulatedVenue(market, workload.symbols, len(workload.streams), folder, self) if market else None
        self.fleet = Fleet(folder, self, screen.say)
        self.analysis = Analysis(folder, self, screen.say)

    @property
    def dsn(self) -> Secret | None:
        """The database's connection string; None where the feed has no database."""
        return self._postgres.dsn if self._postgres else None

    async def start(self) -> None:
        """Start everything, as much side by side as can be; returns when all but analytics listen."""
        await _all_or_none(self._start_kafka(), self._start_postgres(), self._start_venue())
        self.fleet.addresses = self._addresses()
        await self.fleet.apply(self._workload)
        await self._telling("the services", asyncio.gather(*(service.listening() for service in self.fleet.services)))
        await self.analysis.apply(self._workload.analytics, self.fleet.addresses)  # last: its start takes both cores

    async def apply(self, workload: Workload) -> None:
        """Take an edited feed over. Raises ConfigurationError for what only a new start can do."""
        if workload.kafka != self._workload.kafka:
            raise ConfigurationError("spec.kafka.enabled changed: stop this run and start it anew for that")
        await self._ensure_topics(workload)
        if self._venue is not None:
            await self._venue.follow(workload.symbols, len(workload.streams))
        await self.fleet.apply(workload)
        await self.analysis.apply(workload.analytics, self.fleet.addresses)
        self._workload = workload
        self._publish()

    async def settle(self) -> None:
        """Finish what an edit began, as far as can be by now; see Fleet.settle."""
        before = self.fleet.services
        await self.fleet.settle()
        if self.fleet.services != before:
            self._publish()

    async def drain_shards(self) -> list[str]:
        """Stop the ingestors when all that they received is delivered; return who could not do so.

        A simulated market halts first, and its last payloads are waited for: what it issued and what is stored can
        then be compared to the last row. The real venue goes on, as it does.
        """
        if self._venue is not None:
            with suppress(Unavailable):  # it may have died just now; then it issues nothing either
                await self._venue.halt()
            await self.fleet.quiet()
        return await self.fleet.drain_shards()

    async def stored(self, patience_s: float) -> int:
        """Wait until the consumers have stored all there is; return how many records are left when nothing moves.

        Patience ends when the lag has not fallen for `patience_s`.
        """
        best, since = await self._lag(), time.monotonic()
        while best and time.monotonic() - since < patience_s:
            await asyncio.sleep(LAG_POLL_S)
            lag = await self._lag()
            if lag < best:
                best, since = lag, time.monotonic()
        return best

    async def stop_consumers(self) -> list[str]:
        """Stop the consumers in order; return who could not do so."""
        return await self.fleet.stop_consumers()

    async def analysed(self, patience_s: float) -> str | None:
        """Wait until analytics have processed all there is and compared it with the ledger once more.

        Returns what is left to do when nothing has moved for `patience_s`, None when nothing is.
        """
        settings = self.analysis.settings
        if settings is None or self._kafka is None:
            return None
        try:
            ends = await asyncio.to_thread(topic_ends, self._kafka.settings, list(settings.topics.values()))
        except Unavailable as error:
            return str(error)
        return await self.analysis.finished(ends, patience_s)

    async def settle_metrics(self) -> int:
        """Compare every window with the ledger, the newest too; return how many had to be computed anew.

        For a run's end: nobody stores or computes any more, so that whatever differs stays so. Raises Unavailable.
        """
        wanted = self._workload.analytics
        if wanted is None or self._postgres is None:
            return 0
        with closing(MetricsStore.of(replace(wanted.settings, dsn=self._postgres.dsn))) as store:
            corrected = await asyncio.to_thread(partial(store.reconcile, wanted.thresholds, whole=True))
        return sum(corrected.windows.values())

    async def stop_analysis(self) -> list[str]:
        """Stop analytics in order; return its name when it could not do so."""
        service = self.analysis.service
        in_order = await self.analysis.stop()
        return [] if in_order or service is None else [service.name]

    async def stop(self) -> None:
        """Stop what is left, services first and servers last."""
        await self.analysis.stop()
        await self.fleet.drain_shards()
        await self.fleet.stop_consumers()
        if self._venue is not None:
            await self._venue.service.stop(SIMULATOR_GRACE_S)
        await asyncio.gather(*(keeper.stop() for keeper in (self._kafka_keeper, self._postgres_keeper) if keeper))
        (self._folder / endpoints.NAME).unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill everything at once."""
        self.fleet.kill()
        self.analysis.kill()
        if self._venue is not None:
            self._venue.service.kill()
        for keeper in (self._kafka_keeper, self._postgres_keeper):
            if keeper is not None:
                keeper.kill()

    def discard(self) -> None:
        """Remove the data that may lie outside of the folder."""
        if self._postgres is not None:
            self._postgres.remove()

    def servers(self) -> tuple[ServerView, ...]:
        """Return how the servers are."""
        views = []
        if self._venue is not None:
            where = self._venue.address.websocket if self._venue.address else ""
            views.append(ServerView(VENUE, self._venue.service.state, where))
        if self._kafka_keeper is not None:
            views.append(ServerView("Kafka", self._kafka_keeper.state, self._endpoints.kafka or ""))
        if self._postgres_keeper is not None:
            address = (self._endpoints.postgres or "").rpartition("@")[2]  # without user and password
            views.append(ServerView("PostgreSQL", self._postgres_keeper.state, address))
        return tuple(views)

    def listening(self, name: str, entry: Entry) -> None:
        """Note where a service answers."""
        if name == VENUE and self._venue is not None:
            self._endpoints = replace(self._endpoints, simulator=self._venue.listening(entry))
        self._publish()

    def trouble(self, name: str, text: str) -> None:
        """Show in one line what went wrong, and once what to do about it; the rest is in the logs."""
        self._screen.warn(f"{name}: {text.splitlines()[0].rstrip(':')}" if text else name)
        help_ = advice(text)
        if help_ is not None and help_ not in self._advised:
            self._advised.add(help_)
            self._screen.warn(help_)

    def gave_up(self, name: str, error: MarketfeedError) -> None:
        """Let the run end with this error."""
        if name == VENUE and not isinstance(error, ConfigurationError):
            error = type(error)(f"{error}. A replay cannot be taken up in its middle: start the run again")
        if not self.failed.done():
            self.failed.set_exception(error)

    async def _start_kafka(self) -> None:
        if self._kafka is None or self._kafka_keeper is None:
            return
        await self._telling("Kafka", self._kafka_keeper.start())
        self._endpoints = replace(self._endpoints, kafka=self._kafka.bootstrap)
        await self._ensure_topics(self._workload)

    async def _start_postgres(self) -> None:
        if self._postgres is None or self._postgres_keeper is None:
            return
        await self._telling("PostgreSQL", self._postgres_keeper.start())
        self._endpoints = replace(self._endpoints, postgres=str(self._postgres.dsn))
        await asyncio.to_thread(migrate, self._postgres.dsn)

    async def _start_venue(self) -> None:
        if self._venue is None:
            return
        self._venue.service.start()
        await self._telling("the simulated venue", self._venue.service.listening())

    async def _ensure_topics(self, workload: Workload) -> None:
        if self._kafka is not None:
            wanted = [single_broker(topic) for topic in workload.topics]
            await asyncio.to_thread(topics.ensure, self._kafka.settings, wanted)

    async def _lag(self) -> int:
        """Return how many records are not stored yet, and at least one while the broker does not say."""
        if self._kafka is None:
            return 0
        kafka = self._kafka.settings
        try:
            lags = [
                await asyncio.to_thread(group_lag, kafka, settings.group, settings.topics)
                for settings in self.fleet.consumer_settings
            ]
        except Unavailable:
            return 1
        return sum(lags)

    def _addresses(self) -> Addresses:
        venue = self._venue.address if self._venue else None
        return Addresses(
            kafka=self._kafka.bootstrap if self._kafka else None,
            dsn=self._postgres.dsn if self._postgres else None,
            websocket=venue.websocket if venue else None,
            rest=venue.rest if venue else None,
        )

    def _publish(self) -> None:
        """Bring the endpoints file up to date; what runs does not depend on it."""
        running = [*self.fleet.services, *([self.analysis.service] if self.analysis.service else [])]
        services = {service.name: service.url for service in running if service.url is not None}
        self._endpoints = replace(self._endpoints, services=services)
        try:
            self._endpoints.write(self._folder)
        except OSError as error:
            self.trouble(endpoints.NAME, str(error))

    async def _telling(self, what: str, work: Awaitable[object]) -> None:
        """Wait for the work; tell a person who waits long what for, and how long it took."""
        started = time.monotonic()
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=SLOW_AFTER_S)
            if not done:
                self._screen.say(f"Still waiting for {what}; the first start and a busy machine take longer")
            await task
        finally:
            task.cancel()
        self._screen.say(f"{what[0].upper()}{what[1:]} ready after {time.monotonic() - started:.1f} s")


async def _all_or_none(*works: Coroutine[Any, Any, None]) -> None:
    """Wait for all of them; when one fails, cancel the others and raise what it raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
