"""The services of a run, ingestor shards and consumers: brought into line with a workload, and drained in order.

An edit never restarts a service whose settings stay the same: a shard's streams live in a file that it watches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from marketfeed.local.child import Command, marketfeed
from marketfeed.local.files import write_streams
from marketfeed.local.handover import Handover, handover
from marketfeed.local.stats import fetch
from marketfeed.local.supervisor import Observer, Service
from marketfeed.local.workload import Addresses, Workload, consumer_settings, shard_settings
from marketfeed.settings import ConsumerSettings, IngestorSettings

HANDOVER_NOTICE_S = 30.0
QUIET_S = 0.6  # services take stock four times a second: a count that stands still this long is final
QUIET_TIMEOUT_S = 10.0
KILL_AFTER_S = 5.0  # beyond what a service was given to drain


@dataclass(frozen=True, slots=True)
class Running:
    """A service and the settings that its process was started with."""

    service: Service
    settings: IngestorSettings | ConsumerSettings

    async def stop(self) -> bool:
        """Drain and end it; return whether it did both."""
        return await self.service.stop(self.settings.drain_timeout_s + KILL_AFTER_S)


class Fleet:
    """All services of one run. `folder` holds their stream files, and their logs in `logs`, which is there already."""

    def __init__(self, folder: Path, observer: Observer, say: Callable[[str], None]) -> None:
        self.addresses = Addresses()  # whose services are started with it: set it before the first `apply`
        self.shards: dict[str, Running] = {}
        self.consumers: dict[str, Running] = {}
        self._streams = folder / "streams"
        self._logs = folder / "logs"
        self._observer = observer
        self._say = say
        self._assignment: dict[str, frozenset[str]] = {}
        self._handover: Handover | None = None
        self._since: float | None = None  # when the hand-over began; None once a person was told that it takes long
        self._streams.mkdir(exist_ok=True)

    @property
    def services(self) -> list[Service]:
        """Every service, shards first."""
        return [running.service for running in (*self.shards.values(), *self.consumers.values())]

    @property
    def consumer_settings(self) -> list[ConsumerSettings]:
        """What the consumers were started with."""
        return [item.settings for item in self.consumers.values() if isinstance(item.settings, ConsumerSettings)]

    async def apply(self, workload: Workload) -> None:
        """Bring the services into line with the workload; `settle` finishes what must wait for a shard."""
        await self._apply_consumers(workload)
        self._handover = handover(self._assignment, {shard.name: shard.streams for shard in workload.shards})
        self._since = time.monotonic()
        self._write(self._handover.first)
        await self._apply_shards(workload)
        await self.settle()

    async def settle(self) -> None:
        """Let streams go that other shards hold by now, and stop shards without any; called again until it is done."""
        if self._handover is None:
            return
        waiting = [name for name in sorted(self._handover.awaited) if not await self._holds(name)]
        if waiting:
            self._notice(waiting)
            return
        steps, self._handover = self._handover, None
        self._write(steps.final)
        await self._stop(self.shards, steps.emptied)
        for name in steps.emptied:
            del self._assignment[name]

    async def quiet(self) -> None:
        """Wait until the shards receive nothing any more, at most `QUIET_TIMEOUT_S`."""
        before = -1
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_TIMEOUT_S):
                while (received := await self._received()) != before:
                    before = received
                    await asyncio.sleep(QUIET_S)

    async def drain_shards(self) -> list[str]:
        """Stop all shards, letting each deliver what it has; return the names of those that did not end in order."""
        return await self._stop(self.shards, list(self.shards))

    async def stop_consumers(self) -> list[str]:
        """Stop all consumers; return the names of those that did not end in order."""
        return await self._stop(self.consumers, list(self.consumers))

    def kill(self) -> None:
        """Kill every process at once."""
        for service in self.services:
            service.kill()

    async def _apply_consumers(self, workload: Workload) -> None:
        wanted = {consumer.name: consumer_settings(consumer, self.addresses) for consumer in workload.consumers}
        await self._replace(self.consumers, wanted, "consume")
        await self._stop(self.consumers, self.consumers.keys() - wanted.keys())

    async def _apply_shards(self, workload: Workload) -> None:
        wanted = {
            shard.name: shard_settings(shard, self.addresses, self._streams_file(shard.name))
            for shard in workload.shards
        }
        await self._replace(self.shards, wanted, "ingest")

    async def _replace(
        self,
        running: dict[str, Running],
        wanted: Mapping[str, IngestorSettings | ConsumerSettings],
        subcommand: str,
    ) -> None:
        """Start what is new, and start again what has new settings."""
        changed = [name for name in wanted.keys() & running.keys() if running[name].settings != wanted[name]]
        for name in changed:
            self._say(f"{name} starts again: its settings changed")
        await self._stop(running, changed)
        for name in sorted(wanted.keys() - running.keys()):
            service = Service(name, _command(subcommand, wanted[name]), self._logs, self._observer)
            running[name] = Running(service, wanted[name])
            service.start()

    async def _stop(self, running: dict[str, Running], names: Iterable[str]) -> list[str]:
        """Stop the named ones side by side and forget them; return those that did not end in order."""
        stopping = [name for name in names if name in running]
        clean = await asyncio.gather(*(running[name].stop() for name in stopping))
        for name in stopping:
            del running[name]
        return [name for name, good in zip(stopping, clean, strict=True) if not good]

    async def _received(self) -> int:
        """Return how many messages the shards have received so far."""
        urls = [running.service.url for running in self.shards.values()]
        answers = await asyncio.gather(*(fetch(url) for url in urls if url is not None))
        return sum(answer.get("total_messages") or 0 for answer in answers)

    async def _holds(self, name: str) -> bool:
        """Tell whether the shard has subscribed to all that the hand-over gives it."""
        if self._handover is None or name not in self.shards:
            return False
        url = self.shards[name].service.url
        counts = (await fetch(url)).get("streams") or {} if url else {}
        return counts.get("desired") == counts.get("subscribed") == len(self._handover.first[name])

    def _notice(self, waiting: Sequence[str]) -> None:
        """Tell once of a hand-over that takes long."""
        if self._since is not None and time.monotonic() - self._since > HANDOVER_NOTICE_S:
            self._since = None
            names = ", ".join(waiting)
            self._say(f"{names} has not subscribed its new streams yet; the shards that hold them keep them until then")

    def _write(self, assignment: Mapping[str, frozenset[str]]) -> None:
        for name, streams in assignment.items():
            if self._assignment.get(name) != streams:
                write_streams(self._streams_file(name), streams)
                self._assignment[name] = streams

    def _streams_file(self, shard: str) -> Path:
        return self._streams / f"{shard}.json"


def _command(subcommand: str, settings: IngestorSettings | ConsumerSettings) -> Callable[[], Command]:
    env = settings.to_env()
    if isinstance(settings, ConsumerSettings):
        env[ConsumerSettings.variable("dsn")] = str(settings.dsn)
    return lambda: marketfeed(subcommand, env=env)
