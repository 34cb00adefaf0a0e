"""The services of a run, ingestor shards and consumers: brought into line with a workload, and drained in order.

An edit never restarts a service whose settings stay the same: a shard's streams live in a file that it watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from marketfeed.local.child import Command, marketfeed
from marketfeed.local.files import write_streams
from marketfeed.local.handover import Handover, handover
from marketfeed.local.stats import fetch
from marketfeed.local.supervisor import Observer, Service
from marketfeed.local.workload import Addresses, Workload, consumer_settings, shard_settings
from marketfeed.settings import ConsumerSettings, IngestorSettings

HANDOVER_POLL_S = 0.2
HANDOVER_NOTICE_S = 30.0
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
    """All services of one run. `folder` gets their stream files and logs."""

    def __init__(self, folder: Path, addresses: Addresses, observer: Observer, say: Callable[[str], None]) -> None:
        self.shards: dict[str, Running] = {}
        self.consumers: dict[str, Running] = {}
        self._streams = folder / "streams"
        self._logs = folder / "logs"
        self._addresses = addresses
        self._observer = observer
        self._say = say
        self._assignment: dict[str, frozenset[str]] = {}
        self._streams.mkdir(exist_ok=True)
        self._logs.mkdir(exist_ok=True)

    @property
    def services(self) -> list[Service]:
        """Every service, shards first."""
        return [running.service for running in (*self.shards.values(), *self.consumers.values())]

    @property
    def consumer_settings(self) -> list[ConsumerSettings]:
        """What the consumers were started with."""
        return [item.settings for item in self.consumers.values() if isinstance(item.settings, ConsumerSettings)]

    async def apply(self, workload: Workload) -> None:
        """Bring the services into line with the workload. Cancelled, it leaves streams held twice, never not at all."""
        await self._apply_consumers(workload)
        steps = handover(self._assignment, {shard.name: shard.streams for shard in workload.shards})
        self._write(steps.first)
        await self._apply_shards(workload)
        await self._subscribed(steps)
        self._write(steps.final)
        await self._stop(self.shards, steps.emptied)
        for name in steps.emptied:
            del self._assignment[name]

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
        wanted = {consumer.name: consumer_settings(consumer, self._addresses) for consumer in workload.consumers}
        await self._replace(self.consumers, wanted, "consume")
        await self._stop(self.consumers, self.consumers.keys() - wanted.keys())

    async def _apply_shards(self, workload: Workload) -> None:
        wanted = {
            shard.name: shard_settings(shard, self._addresses, self._streams_file(shard.name))
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

    async def _subscribed(self, steps: Handover) -> None:
        """Wait until the awaited shards hold what they take over; as long as it takes, for nothing may be lost."""
        waiting = asyncio.gather(*(self._holds(name, len(steps.first[name])) for name in steps.awaited))
        try:
            await asyncio.wait_for(asyncio.shield(waiting), HANDOVER_NOTICE_S)
        except TimeoutError:
            names = ", ".join(sorted(steps.awaited))
            self._say(f"{names} has not subscribed its new streams yet; the shards that hold them keep them until then")
            await waiting
        finally:
            waiting.cancel()

    async def _holds(self, name: str, streams: int) -> None:
        """Wait until the shard says that it has subscribed to this many streams, and to all that it should."""
        while True:
            url = self.shards[name].service.url
            counts = (await fetch(url)).get("streams", {}) if url else {}
            if counts.get("desired") == counts.get("subscribed") == streams:
                return
            await asyncio.sleep(HANDOVER_POLL_S)

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
