"""Keeps an embedded server running: its blocking calls happen in one thread of its own, in their order."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from marketfeed.errors import MarketfeedError
from marketfeed.local.embedded import EmbeddedServer
from marketfeed.local.supervisor import BACKOFF_FIRST_S, BACKOFF_MAX_S, Observer, State, next_attempt
from marketfeed.policies import backoff_s

WATCH_EVERY_S = 0.3

T = TypeVar("T")


class Keeper:
    """One embedded server under watch. `start` it once, `stop` it once."""

    def __init__(self, server: EmbeddedServer, observer: Observer) -> None:
        self.name = server.name
        self.state = State.STARTING
        self._server = server
        self._observer = observer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=server.name)
        self._watcher: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Start the server and watch it from then on; raises what the server's own start raises."""
        await self._call(self._server.start)
        if self._stopping:
            return
        self.state = State.RUNNING
        self._watcher = asyncio.create_task(self._watch(), name=self.name)

    async def stop(self) -> None:
        """End the server in order, also one that is still starting."""
        self._stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
        await self._call(self._server.stop)
        self.state = State.STOPPED

    def kill(self) -> None:
        """End the server at once, from whichever thread."""
        self._server.kill()

    async def _watch(self) -> None:
        attempt, since = -1, time.monotonic()
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if await self._call(self._server.running):
                continue
            attempt = next_attempt(attempt, time.monotonic() - since)
            self.state = State.RESTARTING
            self._observer.trouble(self.name, "it died; starting it again on the same port and data")
            await self._restart(attempt)
            since = time.monotonic()

    async def _restart(self, attempt: int) -> None:
        """Start the server again, after a wait unless this is the first time; a failure is left to the next round."""
        if attempt > 0:
            await asyncio.sleep(backoff_s(attempt, BACKOFF_FIRST_S, BACKOFF_MAX_S, random.random()))  # noqa: S311
        try:
            await self._call(self._server.restart)
        except (MarketfeedError, OSError) as error:
            self._observer.trouble(self.name, str(error))
        else:
            self.state = State.RUNNING

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
