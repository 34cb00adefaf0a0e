"""The election on a real API server: replicas are processes, and die, hang and are cut off as processes do."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from controlplane import ControlPlane
from helpers import wait_until
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.errors import LostLeadership, NotLeader
from marketfeed_operator.api.leader import Leadership
from marketfeed_operator.objects import CONFIG_MAP, LEASE

LEASE_S = 3.0
LOST = 3


class Replica:
    """One process of the election."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path, lease_s: float) -> None:
        self.name = f"replica-{secrets.token_hex(4)}"
        self.said = folder / self.name
        program, arguments = str(Path(__file__).with_name("replica.py")), (str(kubeconfig), namespace, self.name)
        with self.said.open("w") as out:
            self.process = subprocess.Popen([sys.executable, program, *arguments, str(lease_s)], stdout=out)

    def steps(self) -> list[dict[str, Any]]:
        """Return what it has said so far."""
        return [json.loads(line) for line in self.said.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def count(self, step: str) -> int:
        return sum(entry["step"] == step for entry in self.steps())

    def writes(self) -> list[float]:
        """Return when it wrote."""
        return [entry["at"] for entry in self.steps() if entry["step"] == "wrote"]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


Start = Callable[..., Replica]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts a replica; all end with the test."""
    with ExitStack() as stack:

        def begin(plane: ControlPlane, namespace: str, lease_s: float = LEASE_S) -> Replica:
            replica = Replica(plane.kubeconfig, namespace, tmp_path, lease_s)
            stack.callback(replica.end)
            return replica

        yield begin


def _pair(start: Start, plane: ControlPlane, namespace: str, lease_s: float = LEASE_S) -> tuple[Replica, Replica]:
    """Start two replicas; return the one that leads and the one that waits, which has tried to write in vain."""
    leading = start(plane, namespace, lease_s)
    wait_until(leading.writes, 30, "the first replica's first write")
    waiting = start(plane, namespace, lease_s)
    wait_until(lambda: waiting.count("refused") > 5, 30, "the second replica's attempts")
    assert waiting.writes() == []
    return leading, waiting


def _version(plane: ControlPlane, namespace: str, name: str) -> str:
    return plane.kubectl("get", "configmap", name, f"--namespace={namespace}", "-o=jsonpath={..resourceVersion}").stdout


def test_a_killed_leader_is_replaced_within_15_seconds(
    control_plane: ControlPlane, namespace: str, start: Start
) -> None:
    """After kill -9, with the default lease of 10 s, the other one writes when that has ended, and not before."""
    leading, waiting = _pair(start, control_plane, namespace, 10.0)
    killed = time.monotonic()
    leading.signal(signal.SIGKILL)
    wait_until(waiting.writes, 20, "the other replica's first write")
    assert 10 * 2 / 3 - 1 < waiting.writes()[0] - killed < 15
    assert max(leading.writes()) < min(waiting.writes())


def test_a_paused_leader_does_not_write_when_it_goes_on(
    control_plane: ControlPlane, namespace: str, start: Start
) -> None:
    """SIGSTOP until the other one leads, then SIGCONT: it is refused by its guard, changes nothing more, and ends."""
    leading, waiting = _pair(start, control_plane, namespace)
    leading.signal(signal.SIGSTOP)
    wait_until(waiting.writes, LEASE_S + 5, "the other replica's first write")
    version, writes = _version(control_plane, namespace, leading.name), len(leading.writes())
    leading.signal(signal.SIGCONT)
    assert leading.process.wait(LEASE_S + 5) == LOST
    # One answer may have been on its way when it was stopped; the write itself was before that.
    assert len(leading.writes()) <= writes + 1
    assert _version(control_plane, namespace, leading.name) == version
    after = leading.steps()[-1]
    assert after["held"] is False
    written = len(waiting.writes())
    wait_until(lambda: len(waiting.writes()) > written, 5, "the new leader's next write")


def test_a_short_pause_costs_nothing(control_plane: ControlPlane, namespace: str, start: Start) -> None:
    """A leader that was stopped for less than it holds the lease goes on leading, and nobody else wrote."""
    leading, waiting = _pair(start, control_plane, namespace, 10.0)
    leading.signal(signal.SIGSTOP)
    refused = waiting.count("refused")
    wait_until(lambda: waiting.count("refused") > refused + 20, 10, "the other one's attempts")
    written = len(leading.writes())
    leading.signal(signal.SIGCONT)
    wait_until(lambda: len(leading.writes()) > written + 5, 5, "the leader's next writes")
    assert waiting.writes() == []


def test_a_leader_that_ends_cleanly_is_replaced_at_once(
    control_plane: ControlPlane, namespace: str, start: Start
) -> None:
    """After SIGTERM nobody waits for the lease's 10 s: the other one writes within 3 s."""
    leading, waiting = _pair(start, control_plane, namespace, 10.0)
    asked = time.monotonic()
    leading.signal(signal.SIGTERM)
    assert leading.process.wait(5) == 0
    wait_until(waiting.writes, 8, "the other replica's first write")
    assert waiting.writes()[0] - asked < 3
    assert max(leading.writes()) < min(waiting.writes())


def test_without_an_api_server_nobody_leads_and_then_one_does(own_control_plane: ControlPlane, start: Start) -> None:
    """An outage longer than the lease: the leader ends, the other one does not think it leads; afterwards it does."""
    leading, waiting = _pair(start, own_control_plane, "default")
    own_control_plane.kill_apiserver()
    down = time.monotonic()
    assert leading.process.wait(LEASE_S + 5) == LOST
    assert max(leading.writes()) < down + LEASE_S
    refused = waiting.count("refused")
    wait_until(lambda: waiting.count("refused") > refused + 10, 10, "the other one's attempts")
    assert waiting.writes() == []
    assert not any(entry["held"] for entry in waiting.steps())
    own_control_plane.start_apiserver()
    wait_until(waiting.writes, LEASE_S + 15, "the other replica's first write")


def test_of_many_replicas_one_writes(control_plane: ControlPlane, namespace: str, start: Start) -> None:
    """Of four that start together, exactly one writes."""
    replicas = [start(control_plane, namespace) for _ in range(4)]
    wait_until(lambda: all(len(replica.steps()) > 30 for replica in replicas), 60, "30 steps of each")
    assert sum(bool(replica.writes()) for replica in replicas) == 1


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("Waited 10 s in vain")


def _with_cluster(plane: ControlPlane, scenario: Callable[[Cluster], Any]) -> None:
    async def run() -> None:
        cluster = await Cluster.connect(str(plane.kubeconfig))
        try:
            await scenario(cluster)
        finally:
            await cluster.close()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_lease_that_somebody_else_wrote_is_lost(control_plane: ControlPlane, namespace: str) -> None:
    """A Lease that is given to another by hand is not fought for: it counts as lost when it cannot be renewed."""

    async def scenario(cluster: Cluster) -> None:
        leadership = Leadership(cluster, namespace, identity="me", lease_s=2.0)
        running = asyncio.create_task(leadership.run())
        await leadership.elected.wait()
        spec = {"holderIdentity": "another", "leaseDurationSeconds": 60}
        await cluster.patch(LEASE, namespace, "marketfeed-operator", {"spec": spec})
        with pytest.raises(LostLeadership):
            await running
        assert not leadership.held()
        assert leadership.holder == "another"
        with pytest.raises(NotLeader):
            await cluster.guarded_by(leadership.guard).delete(CONFIG_MAP, namespace, "x")
        await leadership.release()
        found = await cluster.get(LEASE, namespace, "marketfeed-operator")
        assert found is not None
        assert found["spec"]["holderIdentity"] == "another"

    _with_cluster(control_plane, scenario)


def test_a_lease_that_is_deleted_goes_to_its_holder(control_plane: ControlPlane, namespace: str) -> None:
    """Deleted by hand, it comes back with the same holder: one who waits gives that one its time."""

    async def scenario(cluster: Cluster) -> None:
        first = Leadership(cluster, namespace, identity="first", lease_s=3.0)
        second = Leadership(cluster, namespace, identity="second", lease_s=3.0)
        tasks = [asyncio.create_task(first.run())]
        await first.elected.wait()
        tasks.append(asyncio.create_task(second.run()))
        await _until(lambda: second.holder == first.identity)
        await _until(lambda: first.remaining_s() < 2.0)
        await cluster.delete(LEASE, namespace, "marketfeed-operator")
        await _until(lambda: first.remaining_s() > 2.3)  # it has been renewed, or made anew
        found = await cluster.get(LEASE, namespace, "marketfeed-operator")
        assert found is not None
        assert found["spec"]["holderIdentity"] == first.identity
        assert first.held()
        assert not second.held()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    _with_cluster(control_plane, scenario)


def test_a_namespace_that_is_missing_is_said_and_waited_for(control_plane: ControlPlane) -> None:
    """Without the Lease's namespace nobody is elected, and the reason is there to be shown."""

    async def scenario(cluster: Cluster) -> None:
        leadership = Leadership(cluster, "nowhere", identity="me", lease_s=2.0)
        running = asyncio.create_task(leadership.run())
        await _until(lambda: leadership.problem is not None)
        assert "nowhere" in str(leadership.problem)
        assert not leadership.elected.is_set()
        running.cancel()
        await asyncio.wait([running])
        await leadership.release()

    _with_cluster(control_plane, scenario)
