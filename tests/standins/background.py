"""Something that runs in a thread with a loop of its own, for as long as a `with` lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from threading import Thread
from types import TracebackType
from typing import Self

_START_S = 15.0

Wait = Callable[[], Awaitable[object]]
"""Say that all is ready, and wait until the end is wished for."""


class Background:
    """Subclasses say in `work` what runs."""

    def __init__(self) -> None:
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._stop: asyncio.Event | None = None
        self._thread = Thread(target=lambda: asyncio.run(self._run()), name=type(self).__name__, daemon=True)

    async def work(self, wait: Wait) -> None:
        """Set up, `await wait()`, tear down."""
        raise NotImplementedError

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it runs in."""
        return self._loop.result(_START_S)

    def __enter__(self) -> Self:
        """Start; raises what keeps it from that."""
        self._thread.start()
        self._loop.result(_START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, and wait for its end."""
        if self._stop is not None and self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_S)

    async def _run(self) -> None:
        stop = self._stop = asyncio.Event()

        async def wait() -> None:
            self._loop.set_result(asyncio.get_running_loop())
            await stop.wait()

        try:
            await self.work(wait)
        except BaseException as error:
            if self._loop.done():
                raise
            self._loop.set_exception(error)  # whoever starts it is told
