"""Holding the lease against a fake API server that is slow or silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fake_api import FakeApi, Script, fake_api, keeps_silent, refuses
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.errors import LostLeadership, NotLeader
from marketfeed_operator.api.leader import HELD_FOR, Leadership, now_s


class FakeLease:
    """The Lease as the fake keeps it: what was written last, under a version that counts up."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.versions = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and self.stored is None:
            return await refuses(404, "NotFound")(request)
        if request.method != "GET":
            wanted = await request.json()
            known = self.stored["metadata"]["resourceVersion"] if self.stored else None
            if wanted["metadata"].get("resourceVersion") != known:
                return await refuses(409, "Conflict")(request)
            self.versions += 1
            wanted["metadata"]["resourceVersion"] = str(self.versions)
            self.stored = wanted
        return web.json_response(self.stored)


Scenario = Callable[[FakeApi, Leadership], Awaitable[None]]


def _run(
    tmp_path: Path,
    script: list[Script],
    scenario: Scenario,
    *,
    lease_s: float,
    clock: Callable[[], float] = now_s,
) -> None:
    async def run() -> None:
        async with fake_api(*script) as api:
            cluster = await Cluster.connect(api.kubeconfig(tmp_path / "kubeconfig"))
            leadership = Leadership(cluster, "here", identity="me", lease_s=lease_s, clock=clock)
            try:
                await scenario(api, leadership)
            finally:
                await cluster.close()

    asyncio.run(asyncio.wait_for(run(), 30))


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def test_the_lease_counts_from_before_it_was_asked_for(tmp_path: Path) -> None:
    """An answer that took 3 s on its way leaves that much less: others count from when the server wrote it."""
    lease, now = FakeLease(), [100.0]

    async def slow(request: web.Request) -> web.StreamResponse:
        now[0] += 3.0
        return await lease(request)

    async def scenario(_: FakeApi, leadership: Leadership) -> None:
        running = asyncio.create_task(leadership.run())
        await leadership.elected.wait()
        assert leadership.remaining_s() == pytest.approx(10 * HELD_FOR - 3)
        assert leadership.guard() == leadership.remaining_s()
        now[0] += 10 * HELD_FOR - 3
        assert not leadership.held()
        with pytest.raises(NotLeader):
            leadership.guard()
        await _ended(running)

    _run(tmp_path, [lease, slow], scenario, lease_s=10.0, clock=lambda: now[0])


def test_a_renewal_that_hangs_leaves_time_for_another(tmp_path: Path) -> None:
    """The first renewal gets no answer; the lease is looked at and renewed before it ends."""
    lease = FakeLease()
    hangs = keeps_silent(lambda: asyncio.sleep(30))

    async def scenario(api: FakeApi, leadership: Leadership) -> None:
        running = asyncio.create_task(leadership.run())
        await leadership.elected.wait()
        while lease.versions < 3:
            assert leadership.held()
            await asyncio.sleep(0.01)
        assert [asked.method for asked in api.asked][:5] == ["GET", "POST", "PUT", "GET", "PUT"]
        await _ended(running)

    _run(tmp_path, [lease, lease, hangs, lease], scenario, lease_s=2.0)


def test_a_lease_that_cannot_be_renewed_is_lost_when_it_ends(tmp_path: Path) -> None:
    """With a server that answers 503 the run ends with the reason, soon after the lease has ended and not before."""
    lease = FakeLease()

    async def scenario(_: FakeApi, leadership: Leadership) -> None:
        running = asyncio.create_task(leadership.run())
        await leadership.elected.wait()
        elected_at = asyncio.get_running_loop().time()
        with pytest.raises(LostLeadership, match="etcd is away"):
            await running
        assert 1.0 * HELD_FOR - 0.1 < asyncio.get_running_loop().time() - elected_at < 3
        assert not leadership.held()
        assert not leadership.elected.is_set()

    _run(tmp_path, [lease, lease, refuses(503, "Unavailable", "etcd is away")], scenario, lease_s=1.0)


def test_a_release_finds_out_what_a_broken_off_renewal_did(tmp_path: Path) -> None:
    """A renewal that was written and whose answer was lost does not keep the lease from being given up."""
    lease = FakeLease()
    written = asyncio.Event()

    async def answer_is_lost(request: web.Request) -> web.StreamResponse:
        await lease(request)
        written.set()
        await asyncio.sleep(30)
        return web.Response()

    async def scenario(_: FakeApi, leadership: Leadership) -> None:
        running = asyncio.create_task(leadership.run())
        await leadership.elected.wait()
        await written.wait()
        await _ended(running)
        await leadership.release()
        assert lease.stored is not None
        assert lease.stored["spec"]["holderIdentity"] is None
        assert not leadership.held()

    _run(tmp_path, [lease, lease, answer_is_lost, lease], scenario, lease_s=2.0)


def test_two_replicas_of_one_name_are_two(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A replica that is started anew under its old name waits like any other, and says once for whom."""
    caplog.set_level("INFO")
    lease = FakeLease()

    async def scenario(_api: FakeApi, leadership: Leadership) -> None:
        running = asyncio.create_task(leadership.run())
        await leadership.elected.wait()
        again = Leadership(leadership._cluster, "here", identity="me", lease_s=10.0)
        waiting = asyncio.create_task(again.run())
        for _ in range(1000):
            if again.holder is not None:
                break
            await asyncio.sleep(0.01)
        assert again.holder == leadership.identity != again.identity
        assert not again.held()
        assert [record.message for record in caplog.records].count("standing_by") == 1
        await _ended(running)
        await _ended(waiting)

    _run(tmp_path, [lease], scenario, lease_s=10.0)
