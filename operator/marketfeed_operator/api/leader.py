"""Holding the Lease that lets one replica write: take it, renew it, know at any moment whether it is held.

What does not live here: the rules (lease) and what a leader does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

from marketfeed import logs
from marketfeed_operator.api import lease
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.errors import ApiError, Conflict, LostLeadership, NotFound, NotLeader
from marketfeed_operator.api.transport import Request
from marketfeed_operator.metrics import OperatorMetrics
from marketfeed_operator.objects import LEASE, Manifest

_log = logs.logger("leader")

LEASE_NAME = "marketfeed-operator"
HELD_FOR = 0.8
"""Part of the lease's duration that its holder counts on: the rest is for clocks that run differently."""
_RENEWALS = 3  # in one duration
_LOOKS = 5  # of one who waits, in one duration, and at least one a second
_LOOK_EVERY_S = 1.0


def now_s() -> float:
    """Return a clock that also counts while the process is stopped or the machine sleeps, s."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Leadership:
    """One replica's part in the election. `run` takes and keeps the lease; `guard` is for a Cluster's writes.

    `identity` gets a random end: a replica that comes back under its old name is another one.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str = LEASE_NAME,
        *,
        identity: str,
        lease_s: float = 10.0,
        clock: Callable[[], float] = now_s,
        metrics: OperatorMetrics | None = None,
    ) -> None:
        self._cluster = cluster
        self._namespace, self._name = namespace, name
        self.identity = f"{identity}_{secrets.token_hex(4)}"
        self._lease_s = lease_s
        self._clock = clock
        self._view: lease.View | None = None
        self._current = False  # whether `_view` is what the API server holds, as far as we know
        self._missing = False
        self._until_s = 0.0
        self.elected = asyncio.Event()
        self.problem: str | None = None  # why the lease could not be read or written the last time
        if metrics is not None:
            metrics.leader.set_function(lambda: float(self.held()))

    # Asking

    def remaining_s(self) -> float:
        """Return for how long the lease is held without renewal, s; 0 when it is not."""
        return max(0.0, self._until_s - self._clock())

    def held(self) -> bool:
        """Tell whether this replica holds the lease now."""
        return self.remaining_s() > 0

    def guard(self) -> float:
        """Return how long a write may take from now, s. Raises NotLeader when there must be none."""
        left_s = self.remaining_s()
        if not left_s:
            raise NotLeader
        return left_s

    @property
    def holder(self) -> str | None:
        """Return who held the lease when it was seen last; None if nobody did."""
        return (self._view.holder or None) if self._view else None

    # Holding

    async def run(self) -> None:
        """Wait for the lease, set `elected`, keep the lease until cancelled.

        Raises LostLeadership when it could not be renewed in time; nothing may be written from then on.
        """
        await self._acquire()
        _log.info("elected", identity=self.identity)
        self.elected.set()
        try:
            while True:
                await asyncio.sleep(self._lease_s / _RENEWALS)
                await self._renew()
        finally:
            self.elected.clear()

    async def release(self) -> None:
        """Give the lease up, so that another replica takes it soon. To be called when `run` and all writes have ended.

        An API server that does not answer makes the others wait for the lease's end.
        """
        self._until_s = 0.0
        with contextlib.suppress(ApiError):
            for _ in range(2):  # a renewal that was broken off may have changed the lease unseen
                if not self._current:
                    await self._look()
                if self._view is None or self._missing or self._view.holder != self.identity:
                    return
                with contextlib.suppress(Conflict):
                    await self._write(lease.released(self._view, datetime.now(UTC)))
                    _log.info("released", identity=self.identity)

    async def _acquire(self) -> None:
        look_s = min(self._lease_s / _LOOKS, _LOOK_EVERY_S)
        told: str | None = None
        while not await self._tried():
            wait_s = self._wait_s()
            if wait_s and self.holder not in (None, told):
                told = self.holder
                _log.info("standing_by", identity=self.identity, holder=told)
            # Woken when the lease is up, not at the next look; a lost race or an error is no reason to hurry.
            await asyncio.sleep(min(look_s, wait_s) if wait_s else look_s)

    async def _renew(self) -> None:
        while not await self._tried():
            if not self.held():
                self._until_s = 0.0
                _log.warning("leadership_lost", identity=self.identity, holder=self.holder, reason=self.problem)
                raise LostLeadership(f"the lease could not be renewed in time: {self.problem or 'another has it'}")
            await asyncio.sleep(min(self.remaining_s(), self._lease_s / _LOOKS / 2))

    async def _tried(self) -> bool:
        """Try once to write ourselves into the lease; tell whether it is ours."""
        try:
            took = await self._take()
        except Conflict:
            return False  # somebody was quicker; the next attempt looks who
        except ApiError as error:
            if self.problem is None:
                _log.warning("lease_unreachable", lease=f"{self._namespace}/{self._name}", reason=str(error))
            self.problem = str(error)
            return False
        self.problem = None
        return took

    async def _take(self) -> bool:
        if not self._current:
            await self._look()
        if self._wait_s():
            self._current = False
            return False
        known = None if self._missing else self._view
        wanted = lease.taken(
            known,
            namespace=self._namespace,
            name=self._name,
            identity=self.identity,
            lease_s=self._lease_s,
            at=datetime.now(UTC),
        )
        sent_s = self._clock()  # nobody can take it sooner than its duration after this moment
        await self._write(wanted)
        self._until_s = sent_s + self._lease_s * HELD_FOR
        return True

    def _wait_s(self) -> float:
        return lease.wait_s(self._view, self.identity, self._clock())

    async def _look(self) -> None:
        """Read the lease. One that was deleted still binds those who saw it: its holder may not know yet."""
        try:
            found = await self._send("GET", self._name)
        except NotFound:
            self._missing = True
        else:
            self._missing = False
            self._view = lease.see(self._view, found, self._clock())

    async def _write(self, wanted: Manifest) -> None:
        """Create or replace the lease, if nobody has changed it since it was seen. Raises Conflict if somebody has."""
        self._current = False  # also if this is broken off: it may have been executed
        if wanted["metadata"].get("resourceVersion"):
            written = await self._send("PUT", self._name, wanted)
        else:
            written = await self._send("POST", None, wanted)
        self._view = lease.see(self._view, written, self._clock())
        self._current, self._missing = True, False

    async def _send(self, method: str, name: str | None, body: Manifest | None = None) -> Manifest:
        # A hung attempt must leave time for another one before the lease ends.
        timeout_s = min(self._lease_s / 4, self.remaining_s() or math.inf)
        request = Request(method, LEASE.path(self._namespace, name), {}, body)
        return await self._cluster.attempt("lease", LEASE, request, timeout_s)
