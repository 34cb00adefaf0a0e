"""The venue's clock: takes steps from the source when they are due and hands what they issue to the hub."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic, time

from marketfeed.logs import logger
from marketfeed.simulator.hub import Hub
from marketfeed.simulator.source import Source

log = logger("simulator")

TICK_S = 0.005  # what is due within a tick is written together: a little latency for much less CPU
CHUNK = 400  # payloads between two looks at the sockets


class Phase(StrEnum):
    """Where the day stands."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the source's time runs. `speed` None: flat out, bounded by the slowest client."""

    speed: float | None = 1.0
    wait_for_streams: int = 0
    records: int | None = None  # end the day after so many payloads


class Engine:
    """Runs one source at one pace."""

    def __init__(self, source: Source, hub: Hub, pace: Pace) -> None:
        self._source, self._hub, self._pace = source, hub, pace
        self._left = float("inf") if pace.records is None else pace.records
        self._halted = False
        self.phase = Phase.WAITING
        self.issued = 0

    def halt(self) -> None:
        """End the day before the next step: whoever is subscribed has been sent everything that was issued."""
        self._halted = True

    async def run(self) -> None:
        """Wait for the clients that were asked for, play the source to its end, say that it is over."""
        while len(self._hub.subscribed) < self._pace.wait_for_streams and not self._halted:  # noqa: ASYNC110 - the hub knows no event loop
            await asyncio.sleep(TICK_S)
        self._source.begin(int(time() * 1000))
        self.phase = Phase.RUNNING
        log.info("started", streams=len(self._source.streams), speed=self._pace.speed or "max")
        if self._pace.speed is None:
            await self._flat_out()
        else:
            await self._paced(self._pace.speed)
        self.phase = Phase.FINISHED
        log.info("finished", issued=self.issued)

    async def _paced(self, speed: float) -> None:
        began = monotonic()
        while (due := self._due()) is not None:
            now = (monotonic() - began) * 1000 * speed
            if self._issue_until(now):
                await asyncio.sleep(0)  # behind: catch up, but let the sockets breathe
            else:
                await asyncio.sleep(max(TICK_S, (due - now) / 1000 / speed))

    async def _flat_out(self) -> None:
        while self._due() is not None:
            if self._hub.ready():
                self._issue_until(float("inf"))
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(TICK_S / 5)

    def _due(self) -> float | None:
        return self._source.due() if self._left > 0 and not self._halted else None

    def _issue_until(self, now: float) -> bool:
        """Issue what is due, at most a chunk of it; return whether more is due."""
        budget = CHUNK
        while budget > 0 and (due := self._due()) is not None and due <= now:
            step = self._source.step()
            for issued in step:
                self._hub.publish(issued)
            budget -= len(step)
            self._left -= len(step)
            self.issued += len(step)
        self._hub.flush()
        return budget <= 0
