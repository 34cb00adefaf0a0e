"""Runs the stand-ins in a thread with a loop of its own, for as long as a `with` lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from standins.api import Api
from standins.kubelet import Kubelet
from standins.standin import StandIn
from standins.topic_operator import TopicOperator

_START_S = 15.0


class Standins:
    """`with Standins(kubeconfig) as standins`: nodes and topic operator, running.

    Settings are attributes of the stand-ins, to be set at any time: `standins.kubelet.sync_s = 1.0`.
    """

    kubelet: Kubelet
    topics: TopicOperator

    def __init__(self, kubeconfig: Path, *, topic_namespace: str = "kafka", start: Iterable[str] | None = None) -> None:
        """Take who begins to work at once, of kubelet and topics; all when None."""
        self._kubeconfig = kubeconfig
        self._topic_namespace = topic_namespace
        self._wanted = None if start is None else set(start)
        self._ready: Future[Callable[[], object]] = Future()
        self._thread = Thread(target=lambda: asyncio.run(self._run()), name="standins", daemon=True)

    def __enter__(self) -> Self:
        """Start; raises what keeps them from it."""
        self._thread.start()
        self._ready.result(_START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them all."""
        self._ready.result()()
        self._thread.join(_START_S)

    def _all(self) -> dict[str, StandIn]:
        return {"kubelet": self.kubelet, "topics": self.topics}

    async def _run(self) -> None:
        try:
            async with Api.connect(self._kubeconfig) as api:
                self.kubelet = Kubelet(api)
                self.topics = TopicOperator(api, namespace=self._topic_namespace)
                for name, standin in self._all().items():
                    if self._wanted is None or name in self._wanted:
                        await standin.start_here()
                await self._until_stopped()
                await asyncio.gather(*(standin.close() for standin in self._all().values()))
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise

    async def _until_stopped(self) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set_result(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
