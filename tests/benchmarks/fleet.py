"""The operator with hundreds of feeds, on a real API server: how long until all is there, and what it costs.

What does not live here: the feeds (fleet_feeds), the cluster and its people (fleet_cluster), the bare loop that the
operator is compared with (fleet_sides).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.children import Child, Failed
from benchmarks.figures import Figure, say
from benchmarks.fleet_cluster import Metrics, Operator, Person, of_children, person, prepare, rest, until, writes
from benchmarks.fleet_feeds import children, documents
from controlplane import ControlPlane, Request
from marketfeed_operator.settings import OperatorSettings

FEEDS = 500
LEAST_FEEDS = 8
IDLE_S = 60.0
_START_S = 120.0
_DEADLINE_S = 900.0
_REST_S = 5.0
_FLEET, _BEFORE, _AFTER, _CHURN = "fleet", "before", "after", "churn"
_CHURNS = 3
_LATE_S = 0.2  # a timer that runs so late has met a blocked loop

Documents = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Created:
    """How the feeds were made."""

    seconds: float  # from the first feed that was applied to the last object that it asks for
    cpu_s: float
    writes: Sequence[Request]
    calls: Mapping[str, int]
    wakes_s: Sequence[float]  # how long a symbol that was added meanwhile took to arrive
    reconciles: float
    late: int  # timers that the loop ran more than _LATE_S late
    beats: int
    waited_s: float


def run(folder: Path, feeds: int = FEEDS) -> Iterator[Figure]:
    """Run once; yield the figures as they come."""
    with ControlPlane(folder / "plane") as plane, asyncio.Runner() as runner:
        prepare(plane, (_FLEET, _BEFORE, _AFTER, _CHURN))
        figures = _measure(plane, folder, feeds)
        while (figure := runner.run(_next(figures))) is not None:
            yield figure


async def _next(figures: AsyncIterator[Figure]) -> Figure | None:
    return await anext(figures, None)


async def _measure(plane: ControlPlane, folder: Path, feeds: int) -> AsyncIterator[Figure]:
    fleet = documents(_FLEET, feeds)
    objects = sum(len(children(given)) for given in fleet)
    say(f"operator: {feeds} feeds, {objects} objects; load average {os.getloadavg()[0]:.1f}")
    bare = [await _bare(plane, _BEFORE, feeds // 2)]
    async with person(plane) as someone:
        with Operator.of(plane, folder, writes_per_second=10_000.0, write_burst=10_000) as operator:
            made = await _create(plane, operator, someone, fleet, objects)
            say(f"operator: all there after {made.seconds:.1f} s")
            bare.append(await _bare(plane, _AFTER, feeds - feeds // 2))
            yield _speed(made, bare, feeds, objects)
            for figure in _counts(made, feeds, objects):
                yield figure
            await rest(operator, _REST_S, _DEADLINE_S)
            at_rest = [await someone.adds_a_symbol(fleet[0], symbol, 60.0) for symbol in ("SOLUSDT", "XRPUSDT")]
            yield _latency(made, at_rest)
            await rest(operator, _REST_S, _DEADLINE_S)
            for figure in await _idle(plane, operator):
                yield figure
        yield await _restart(plane, folder, feeds)
        with Operator.of(plane, folder) as operator:
            yield await _churn(operator, someone, max(LEAST_FEEDS, feeds // 10))


async def _bare(plane: ControlPlane, prefix: str, count: int) -> dict[str, Any]:
    """Apply the same objects with a loop that does nothing else; it waits for nobody meanwhile."""
    work = {"kubeconfig": str(plane.kubeconfig), "prefix": prefix, "count": count}
    with Child("fleet_sides", work | {"at_once": OperatorSettings().workers}) as child:
        return await asyncio.to_thread(child.answer, _DEADLINE_S)


async def _create(plane: ControlPlane, operator: Operator, someone: Person, fleet: Documents, objects: int) -> _Created:
    await _leads(operator)
    first, others = fleet[0], fleet[1:]
    await someone.apply([first])
    await rest(operator, 2.0, 60.0)
    before, cpu_s, began = operator.metrics(), operator.cpu_s(), datetime.now(UTC)
    applying = asyncio.create_task(someone.apply(others))
    own = len(children(first))

    async def reached(count: int) -> bool:
        return _applied(operator.metrics(), before) >= count

    wakes_s = [
        await _wake(someone, first, symbol, partial(reached, (objects - own) * quarter // 4))
        for quarter, symbol in enumerate(("ADAUSDT", "DOGEUSDT", "LTCUSDT"), 1)
    ]
    await applying

    await until(partial(reached, objects - own + len(wakes_s)), "all objects", _DEADLINE_S)
    await rest(operator, _REST_S, _DEADLINE_S)
    missing = await someone.missing(fleet, _FLEET)
    if missing:
        raise Failed(f"{len(missing)} objects are not as they should be: {', '.join(missing[:5])}")
    after = operator.metrics()
    done = writes(plane, began)
    return _Created(
        seconds=(max(item.at for item in done if of_children(item)) - began).total_seconds(),
        cpu_s=operator.cpu_s() - cpu_s,
        writes=done,
        calls=after.by("marketfeed_operator_api_calls_total", "verb")
        - before.by("marketfeed_operator_api_calls_total", "verb"),
        wakes_s=wakes_s,
        reconciles=after.sum("marketfeed_operator_reconciles_total"),
        late=_late(after) - _late(before),
        beats=int(
            after.sum("marketfeed_operator_loop_lag_seconds_count")
            - before.sum("marketfeed_operator_loop_lag_seconds_count")
        ),
        waited_s=after.sum("marketfeed_operator_api_wait_seconds_total"),
    )


async def _leads(operator: Operator) -> float:
    """Wait until it leads and its queue is empty; return how long that took, s."""
    began = time.monotonic()

    async def ready() -> bool:
        stats = await asyncio.to_thread(operator.stats)
        return bool(stats["leading"]) and not stats["queue"] and not stats["at_work"]

    await asyncio.to_thread(operator.listening, _START_S)
    await until(ready, "the operator's lead", _START_S)
    return time.monotonic() - began


async def _wake(
    someone: Person, given: Mapping[str, Any], symbol: str, reached: Callable[[], Awaitable[bool]]
) -> float:
    """Add a symbol once enough objects are there; return how long it took to arrive, s."""
    await until(reached, "a part of the objects", _DEADLINE_S)
    return await someone.adds_a_symbol(given, symbol, _DEADLINE_S)


async def _idle(plane: ControlPlane, operator: Operator) -> list[Figure]:
    """Watch it do nothing."""
    operator.memory_mib()
    cpu_s, began, calls = operator.cpu_s(), datetime.now(UTC), operator.metrics()
    await asyncio.sleep(IDLE_S)
    used_s, written = operator.cpu_s() - cpu_s, writes(plane, began)
    name = "marketfeed_operator_api_calls_total"
    reads = operator.metrics().by(name, "verb") - calls.by(name, "verb")
    mib = operator.memory_mib()
    return [
        Figure(
            benchmark="operator",
            ratio="idle_writes",
            value=len(written),
            target=0.0,
            sense="at most",
            details={"over_s": IDLE_S, "calls": dict(reads)},
        ),
        Figure(
            benchmark="operator",
            ratio="idle_cpu_of_a_core",
            value=used_s / IDLE_S,
            target=0.03,
            sense="at most",
            details={"cpu_s": round(used_s, 2), "over_s": IDLE_S},
        ),
        Figure(
            benchmark="operator",
            ratio="memory_of_256_mib",
            value=mib / 256,
            target=1.0,
            sense="at most",
            details={"mib": round(mib, 1)},
        ),
    ]


async def _churn(operator: Operator, someone: Person, count: int) -> Figure:
    """Make and delete feeds again and again: what is gone takes no memory."""
    fleet = [{**given, "spec": {**given["spec"], "deletionPolicy": "Delete"}} for given in documents(_CHURN, count)]
    mib = []
    for _ in range(_CHURNS):
        await someone.apply(fleet)
        await until(partial(someone.has_all, fleet, _CHURN), "the feeds that come and go", _DEADLINE_S)
        await someone.delete(fleet)
        await until(partial(someone.has_none, fleet, _CHURN), "the end of what was deleted", _DEADLINE_S)
        await rest(operator, _REST_S, _DEADLINE_S)
        mib.append(operator.memory_mib())
    return Figure(
        benchmark="operator",
        ratio="memory_after_churn",
        value=mib[-1] / mib[0],
        target=1.05,
        sense="at most",
        details={"mib": [round(each, 1) for each in mib], "feeds": count},
    )


async def _restart(plane: ControlPlane, folder: Path, feeds: int) -> Figure:
    """Start a new process for feeds that are as they should be."""
    began = datetime.now(UTC)
    with Operator.of(plane, folder) as operator:
        seconds = await _leads(operator)
        cpu_s = operator.cpu_s()
        await asyncio.sleep(_REST_S)
        written = writes(plane, began)
        late = _late(operator.metrics())
    return Figure(
        benchmark="operator",
        ratio="restart_writes_of_feeds",
        value=len(written) / feeds,
        target=0.0,
        sense="at most",
        details={
            "seconds_to_all_looked_at": round(seconds, 1),
            "cpu_s": round(cpu_s, 1),
            "loop_blocked": late,
            "writes": dict(Counter(f"{item.verb} {item.resource}" for item in written)),
            "feeds": feeds,
        },
    )


def _speed(made: _Created, bare: Sequence[Mapping[str, Any]], feeds: int, objects: int) -> Figure:
    bare_s, bare_cpu_s = (sum(each[name] for each in bare) for name in ("seconds", "cpu_s"))
    return Figure(
        benchmark="operator",
        ratio="of_limit",
        value=bare_s / made.seconds,
        target=0.5,
        details={
            "feeds": feeds,
            "objects": objects,
            "seconds": round(made.seconds, 1),
            "bare_s": round(bare_s, 1),
            "value_by_cpu": round(bare_cpu_s / made.cpu_s, 3),
            "cpu_s": round(made.cpu_s, 1),
            "bare_cpu_s": round(bare_cpu_s, 1),
            "reconciles_per_feed": round(made.reconciles / feeds, 1),
            "loop_blocked": f"{made.late} of {made.beats}",
            "waited_s": round(made.waited_s, 1),
            "load_average": round(os.getloadavg()[0], 1),
        },
    )


def _counts(made: _Created, feeds: int, objects: int) -> Iterator[Figure]:
    kinds = Counter(_about(item) for item in made.writes)
    yield Figure(
        benchmark="operator",
        ratio="writes_of_objects",
        value=kinds["objects"] / objects,
        target=1.05,
        sense="at most",
        details={f"{kind}_per_feed": round(count / feeds, 2) for kind, count in kinds.items()},
    )
    yield Figure(
        benchmark="operator",
        ratio="calls_of_objects",
        value=sum(made.calls.values()) / objects,
        target=2.5,
        sense="at most",
        details={f"{verb}_per_feed": round(count / feeds, 2) for verb, count in made.calls.items()},
    )


def _about(request: Request) -> str:
    if of_children(request):
        return "objects"
    return "statuses" if request.resource.endswith("/status") else request.resource


def _latency(made: _Created, at_rest: Sequence[float]) -> Figure:
    return Figure(
        benchmark="operator",
        ratio="change_of_creation",
        value=max(made.wakes_s) / made.seconds,
        target=0.05,
        sense="at most",
        details={
            "meanwhile_s": [round(each, 2) for each in made.wakes_s],
            "at_rest_s": [round(each, 2) for each in at_rest],
        },
    )


def _applied(now: Metrics, before: Metrics) -> float:
    name = "marketfeed_operator_children_applied_total"
    return now.sum(name) - before.sum(name)


def _late(metrics: Metrics) -> int:
    name = "marketfeed_operator_loop_lag_seconds"
    return int(metrics.sum(f"{name}_count") - metrics.sum(f"{name}_bucket", le=str(_LATE_S)))
