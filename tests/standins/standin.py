"""What all stand-ins have in common: they start and stop like processes, and tests command them from other threads."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

from standins.api import Api, Key, Mirror, WorkQueue

_Method = TypeVar("_Method", bound=Callable[..., Any])
_ANSWER_S = 10.0


class StandIn:
    """A reconciler over the real API server. `start` and `stop` are its process's: what it kept in memory is lost."""

    def __init__(self, api: Api) -> None:
        """Belong to the loop that runs now, without starting."""
        self.api = api
        self.loop = asyncio.get_running_loop()
        self.queue = WorkQueue(self.reconcile)
        self._task: asyncio.Task[None] | None = None

    def mirrors(self) -> list[Mirror]:
        """Return new mirrors of what is to be watched."""
        raise NotImplementedError

    async def reconcile(self, key: Key) -> float | None:
        """Look at one object; return when to look again, s."""
        raise NotImplementedError

    async def aside(self) -> None:
        """Do what has nothing to do with one object, for ever."""

    async def run(self) -> None:
        """Work until cancelled."""
        self.queue = WorkQueue(self.reconcile)
        mirrors = self.mirrors()
        async with asyncio.TaskGroup() as tasks:
            for mirror in mirrors:
                tasks.create_task(mirror.run())
            for mirror in mirrors:
                await mirror.synced.wait()
            tasks.create_task(self.queue.run())
            tasks.create_task(self.aside())

    async def close(self) -> None:
        """Stop, and wait until it has stopped."""
        if (task := self._task) is not None:
            self._task = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def start_here(self) -> None:
        if self._task is None:
            self._task = self.loop.create_task(self.run())

    def start(self) -> None:
        """Start its process, from any thread."""
        asyncio.run_coroutine_threadsafe(self.start_here(), self.loop).result(_ANSWER_S)

    def stop(self) -> None:
        """End its process, from any thread: nothing happens until `start`."""
        asyncio.run_coroutine_threadsafe(self.close(), self.loop).result(_ANSWER_S)


def control(method: _Method) -> _Method:
    """Let a method be called from any thread: it runs in the stand-in's loop."""

    @functools.wraps(method)
    def call(self: StandIn, *args: Any, **kwargs: Any) -> Any:
        if _current_loop() is self.loop:
            return method(self, *args, **kwargs)
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(method(self, *args, **kwargs))
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
                done.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return done.result(_ANSWER_S)

    return cast("_Method", call)


def _current_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
