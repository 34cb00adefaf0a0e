"""Versions of the secrets that feeds name: what tells that a secret changed, or is missing, without reading it.

Secrets are asked for by name and as metadata only, so that the operator needs neither to list them nor to hold a value.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from marketfeed.logs import logger
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.errors import ApiError
from marketfeed_operator.objects import SECRET
from marketfeed_operator.store import FeedName, Store

_EVERY_S = 15.0
_LEAST_PAUSE_S = 0.1  # with more than 150 secrets a round takes longer, and the API server is not asked more often

_log = logger("secrets")


class SecretVersions:
    """Keeps the store's versions of all secrets that feeds name, and says when one changes."""

    def __init__(self, cluster: Cluster, store: Store, changed: Callable[[FeedName], None]) -> None:
        self._cluster = cluster
        self._store = store
        self._changed = changed
        self._users: dict[tuple[str, str], set[FeedName]] = {}

    async def need(self, feed: FeedName, names: Iterable[str]) -> None:
        """Make sure that the store has the versions of the feed's secrets; raises ApiError."""
        wanted = {(feed.namespace, name) for name in names}
        for place, users in list(self._users.items()):
            if feed in users and place not in wanted:
                self._leave(place, feed)
        for place in sorted(wanted):
            self._users.setdefault(place, set()).add(feed)
            if place not in self._store.secrets:
                version = await self._cluster.version(SECRET, *place)
                if place in self._users:  # else nobody would keep it true
                    self._store.secrets[place] = version

    def forget(self, feed: FeedName) -> None:
        """Ask no longer for a feed that is gone."""
        for place, users in list(self._users.items()):
            if feed in users:
                self._leave(place, feed)

    def _leave(self, place: tuple[str, str], feed: FeedName) -> None:
        self._users[place].discard(feed)
        if not self._users[place]:
            del self._users[place]
            self._store.secrets.pop(place, None)

    async def run(self) -> None:
        """Ask again for ever, spread over the time between two rounds."""
        while True:
            places = list(self._users)
            pause_s = max(_LEAST_PAUSE_S, _EVERY_S / (len(places) + 1))
            for place in places:
                await self._look(place)
                await asyncio.sleep(pause_s)
            await asyncio.sleep(pause_s)

    async def _look(self, place: tuple[str, str]) -> None:
        try:
            version = await self._cluster.version(SECRET, *place)
        except ApiError as error:
            _log.warning("not_read", namespace=place[0], name=place[1], reason=str(error))
            return
        if place in self._users and version != self._store.secrets.get(place):
            self._store.secrets[place] = version
            for feed in self._users[place]:
                self._changed(feed)
