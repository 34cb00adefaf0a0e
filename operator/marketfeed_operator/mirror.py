"""Keeping the store true: the first look at everything, the watches, new and vanished APIs, and a comparison at times.

What does not live here: what a change sets in motion (workers).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from marketfeed.errors import MarketfeedError
from marketfeed.logs import logger
from marketfeed_operator import resync
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.errors import ApiError, NotServed
from marketfeed_operator.health import Progress
from marketfeed_operator.objects import (
    ALWAYS_SERVED,
    MANAGED_BY,
    MANAGER,
    MARKETFEED,
    POD,
    POD_MONITOR,
    SPARK_APPLICATION,
    Kind,
    Manifest,
    Served,
)
from marketfeed_operator.settings import OperatorSettings
from marketfeed_operator.store import Change, Store
from marketfeed_operator.watch import Watched, Watcher, What

_APIS_EVERY_S = 30.0
_LISTS_MEET_S = 1.0  # lists that come one after the other are followed by one comparison
_ASK_FIRST_S, _ASK_MAX_S = 0.5, 10.0
_OURS = f"{MANAGED_BY}={MANAGER}"
_NOT_INSTALLED = f"{MARKETFEED.plural}.{MARKETFEED.group} is not installed: kubectl apply --server-side -f crds/"

_log = logger("mirror")
_T = TypeVar("_T")

Watches = Mapping[tuple[str, ...], Sequence[Watched]]
"""What is watched in which namespaces; no namespace means all of them."""


class Mirror:
    """Fills the store and says what changes: `changed` of one object, `renewed` of everything that may have."""

    def __init__(
        self,
        settings: OperatorSettings,
        cluster: Cluster,
        store: Store,
        progress: Progress,
        *,
        changed: Callable[[Change], None],
        renewed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._store = store
        self._progress = progress
        self._changed = changed
        self._renewed = renewed
        self._watchers: list[Watcher] = []
        self._seen_at: dict[str, float] = {}
        self._relisted = asyncio.Event()
        self._serves_feeds = True

    async def run(self) -> None:
        """Follow the cluster for ever. Raises MarketfeedError when a watch ended by itself."""
        watching = await self._first_look()
        while not watching:
            await asyncio.sleep(_ASK_FIRST_S)
            watching = await self._first_look()
        self._progress.in_sync()
        _log.info("synced", feeds=len(self._store.feeds()), served=str(self._store.served))
        compared = time.monotonic()
        while True:
            await self._watch_ended(min(_APIS_EVERY_S, self._settings.resync_s) if watching else _LISTS_MEET_S)
            watching = watching and not self._vanished()
            if self._relisted.is_set():
                # A watch that begins anew tells what is there, and not what has gone meanwhile.
                await asyncio.sleep(_LISTS_MEET_S)
                self._relisted.clear()
                await self._compare(judge=False)
            watching = await self._look_at_apis(watching=watching)
            if time.monotonic() - compared >= self._settings.resync_s:
                await self._compare(judge=True)
                compared = time.monotonic()

    async def _first_look(self) -> bool:
        """Watch what is served, once feeds are; False when a kind vanished meanwhile."""
        await self._installed()
        self._store.served = await self._answer(self._cluster.served)
        return await self._watch()

    async def stop(self) -> None:
        """End the watches."""
        watchers, self._watchers = self._watchers, []
        await asyncio.gather(*(watcher.stop() for watcher in watchers))

    def ages_s(self) -> dict[str, float]:
        """Return how long ago each kind's watch told of a change, s."""
        now = time.monotonic()
        return {kind: now - at for kind, at in self._seen_at.items()}

    async def _installed(self) -> None:
        """Wait until the MarketFeed API is there; without it there is nothing to watch."""
        while not await self._answer(partial(self._cluster.serves, MARKETFEED)):
            if self._progress.waits_for != _NOT_INSTALLED:
                _log.warning("waiting", reason=_NOT_INSTALLED)
            self._progress.waits_for = _NOT_INSTALLED
            await asyncio.sleep(_ASK_FIRST_S)

    async def _answer(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask until the API server answers. Raises NotServed: to ask again for what has vanished would be of no use."""
        delay_s = _ASK_FIRST_S
        while True:
            try:
                return await ask()
            except NotServed:
                raise
            except ApiError as error:
                _log.warning("waiting", reason=str(error))
                self._progress.waits_for = str(error)
            await asyncio.sleep(delay_s)
            delay_s = min(_ASK_MAX_S, 2 * delay_s)

    async def _watch(self) -> bool:
        """Take the present state of everything, and watch it from then on; False when a kind vanished meanwhile."""
        await self.stop()
        watches = self._watches()
        try:
            for namespaces, watched in watches.items():
                await self._answer(partial(resync.fill, self._cluster, self._store, watched, namespaces))
        except NotServed as error:
            _log.warning("vanished", reason=str(error))
            return False
        self._watchers = [
            Watcher(watched, namespaces, self._cluster.connection, self._seen, self._settings.request_timeout_s)
            for namespaces, watched in watches.items()
        ]
        self._renewed()
        return True

    def _watches(self) -> Watches:
        served, here = self._store.served, self._settings.namespaces
        near = [Watched(MARKETFEED)] if self._serves_feeds else []
        near += [Watched(kind, _OURS) for kind in (*ALWAYS_SERVED, POD)]
        near += [Watched(SPARK_APPLICATION, _OURS)] if served.spark_application else []
        near += [Watched(POD_MONITOR, _OURS)] if served.pod_monitor else []
        topics = [Watched(served.kafka_topic, _OURS)] if served.kafka_topic is not None else []
        there = tuple(dict.fromkeys((*here, *self._settings.topic_namespaces)))
        if not here or there == here:
            return {here: [*near, *topics]}
        return {here: near, there: topics} if topics else {here: near}

    async def _watch_ended(self, within_s: float) -> None:
        """Wait, until a watch has begun anew or ended at the longest."""
        relisted = asyncio.create_task(self._relisted.wait())
        ends: list[asyncio.Future[Any]] = [relisted, *(watcher.ended for watcher in self._watchers)]
        try:
            await asyncio.wait(ends, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            relisted.cancel()

    def _vanished(self) -> bool:
        """Tell whether a watch ended because its kind is not served any more; raise when one ended otherwise."""
        ended = [watcher.ended for watcher in self._watchers if watcher.ended.done()]
        for end in ended:
            error = end.exception()
            if getattr(error, "status", None) != HTTPStatus.NOT_FOUND:
                end.result()
                raise MarketfeedError("a watch ended by itself")
        return bool(ended)

    def _seen(self, kind: Kind, what: What, manifest: Manifest) -> None:
        """Take what a watch saw."""
        self._seen_at[kind.kind] = time.monotonic()
        if what == "listed":
            self._relisted.set()
        manifest = {**manifest, "apiVersion": kind.api_version, "kind": kind.kind}
        change = self._store.drop(manifest) if what == "gone" else self._store.put(manifest)
        if change is not None:
            self._changed(change)

    async def _look_at_apis(self, *, watching: bool) -> bool:
        """Find out about APIs that were installed or removed, and watch accordingly; return whether all is watched."""
        try:
            served: Served = await self._cluster.served()
            feeds = await self._cluster.serves(MARKETFEED)
        except ApiError as error:
            _log.warning("not_discovered", reason=str(error))
            return watching
        if watching and (served, feeds) == (self._store.served, self._serves_feeds):
            return True
        _log.info("apis_changed", served=str(served), feeds=feeds)
        if not feeds and self._serves_feeds:
            _log.warning("waiting", reason=_NOT_INSTALLED)
        self._store.served, self._serves_feeds = served, feeds
        return await self._watch()

    async def _compare(self, *, judge: bool) -> None:
        """Compare every kind with the API server's list, and let everything be looked at.

        `judge`: a watch that has missed something counts as one that misses things.
        """
        for namespaces, kinds in self._watches().items():
            for watched in kinds:
                try:
                    missed = await resync.compare(self._cluster, self._store, watched, namespaces)
                except ApiError as error:
                    _log.warning("not_compared", kind=watched.kind.kind, reason=str(error))
                    continue
                if judge:
                    self._progress.compared(watched.kind.kind, len(missed))
                for change in missed:
                    _log.warning("missed", object=str(change.key))
                    self._changed(change)
        self._renewed()
