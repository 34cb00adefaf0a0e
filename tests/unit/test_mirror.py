"""APIs that come and go under the operator: what is watched then, and when the process ends. kopf is a fake here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from fake_cluster import FakeCluster
from marketfeed.errors import MarketfeedError
from marketfeed_operator import mirror
from marketfeed_operator.api.errors import NotServed
from marketfeed_operator.health import Progress
from marketfeed_operator.metrics import OperatorMetrics
from marketfeed_operator.mirror import Mirror
from marketfeed_operator.objects import MARKETFEED, Kind
from marketfeed_operator.settings import OperatorSettings
from marketfeed_operator.store import Store
from marketfeed_operator.watch import Watched


class KopfError(Exception):
    """What kopf raises: the HTTP status is an attribute."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class FakeWatcher:
    """Watches nothing; a test ends it."""

    made: list[FakeWatcher]

    def __init__(self, watched: Iterable[Watched], *_: Any) -> None:
        self.kinds = {one.kind.kind for one in watched}
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        FakeWatcher.made.append(self)

    async def stop(self) -> None:
        """End it."""


class FakeApis(FakeCluster):
    """A cluster whose MarketFeed API comes and goes."""

    feeds = True

    async def serves(self, kind: Kind) -> bool:
        """Tell whether a kind is served."""
        return self.feeds or kind != MARKETFEED


async def until(reached: Callable[[], object]) -> None:
    """Let the others work until this is so."""
    async with asyncio.timeout(5):
        while not reached():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.001)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeApis:
    """Return the cluster, with a mirror that never pauses for long."""
    FakeWatcher.made = []
    monkeypatch.setattr(mirror, "Watcher", FakeWatcher)
    for name in ("_LISTS_MEET_S", "_ASK_FIRST_S", "_APIS_EVERY_S"):
        monkeypatch.setattr(mirror, name, 0.01)
    return FakeApis()


def followed(cluster: FakeApis, store: Store, renewed: Callable[[], None] = lambda: None) -> asyncio.Task[None]:
    """Start a mirror."""
    progress = Progress(OperatorMetrics(CollectorRegistry()))
    made = Mirror(OperatorSettings(), cluster, store, progress, changed=lambda _: None, renewed=renewed)
    return asyncio.create_task(made.run())


def test_a_watch_that_ends_with_its_api_is_renewed_without_it(cluster: FakeApis) -> None:
    """The definition of MarketFeed is deleted: all else is watched on, and feeds again once it is back."""

    async def scene() -> None:
        task = followed(cluster, Store())
        await until(lambda: FakeWatcher.made)
        cluster.feeds = False
        FakeWatcher.made[0].ended.set_exception(KopfError(404))
        await until(lambda: "MarketFeed" not in FakeWatcher.made[-1].kinds)
        assert "KafkaTopic" in FakeWatcher.made[-1].kinds
        cluster.feeds = True
        await until(lambda: "MarketFeed" in FakeWatcher.made[-1].kinds)
        assert not task.done()
        task.cancel()

    asyncio.run(scene())


def test_a_watch_that_ends_for_a_kind_that_is_there_is_renewed(cluster: FakeApis) -> None:
    """A definition that is deleted and made again at once ends the watch all the same."""

    async def scene() -> None:
        task = followed(cluster, Store())
        await until(lambda: FakeWatcher.made)
        FakeWatcher.made[0].ended.set_exception(KopfError(404))
        await until(lambda: len(FakeWatcher.made) == 2)
        assert not task.done()
        task.cancel()

    asyncio.run(scene())


@pytest.mark.parametrize("error", [KopfError(403), RuntimeError("a bug"), None], ids=["403", "bug", "by itself"])
def test_a_watch_that_ends_otherwise_ends_the_process(cluster: FakeApis, error: Exception | None) -> None:
    """Without a watch the operator would be blind: it says so, and is started anew."""

    async def scene() -> None:
        task = followed(cluster, Store())
        await until(lambda: FakeWatcher.made)
        ended = FakeWatcher.made[0].ended
        ended.set_result(None) if error is None else ended.set_exception(error)
        with pytest.raises(MarketfeedError if error is None else type(error)):
            await asyncio.wait_for(task, 5)

    asyncio.run(scene())


def test_a_kind_that_vanishes_amid_the_first_look_is_not_taken_for_empty(cluster: FakeApis) -> None:
    """Served when asked and gone when listed: nothing is watched or judged until the question is answered anew."""
    renewals = []

    async def scene() -> None:
        cluster.fails["list", "MarketFeed"] = NotServed(404, "NotFound", "not served")
        task = followed(cluster, Store(), lambda: renewals.append(1))
        await until(lambda: cluster.calls.count(("list", "MarketFeed")) > 2)
        assert (FakeWatcher.made, renewals) == ([], [])
        cluster.fails.clear()
        await until(lambda: renewals)
        assert not task.done()
        task.cancel()

    asyncio.run(scene())
