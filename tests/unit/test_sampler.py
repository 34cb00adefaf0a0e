"""Asking the services: what answers of every sort come to, against real HTTP servers on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from marketfeed_operator import sampler
from marketfeed_operator.metrics import OperatorMetrics
from marketfeed_operator.objects import key_of
from marketfeed_operator.observed import Sample
from marketfeed_operator.sampler import Sampler, address, ask
from marketfeed_operator.store import FeedName, Store

FEED = FeedName("md", "spot")
STATS = {"last_message_age_s": 0.2, "total_messages": 100, "proof": None}


def pod(port: int, name: str = "spot-x", component: str = "consumer", **changes: Any) -> dict[str, Any]:
    """Return a running pod whose service listens on this port of loopback."""
    labels = {"marketfeed.dev/feed": "spot", "app.kubernetes.io/component": component}
    container = {"name": "service", "ports": [{"name": "http", "containerPort": port}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "md", "resourceVersion": "1", "labels": labels},
        "spec": {"containers": [container]},
        "status": {"podIP": "127.0.0.1", "phase": "Running"} | changes,
    }


@dataclass
class Service:
    """A service that a test plays: what it answers to each path, and what it was asked."""

    answers: dict[str, Any]
    status: int = 200
    hangs: bool = False
    asked: list[str] = field(default_factory=list)
    port: int = 0
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.hangs:
            await self._over.wait()
        answer = self.answers.get(request.path)
        if answer is None:
            return web.json_response({"error": "try another"}, status=404)
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return web.Response(body=body, status=self.status, content_type="application/json")


@asynccontextmanager
async def serving(*services: Service) -> AsyncIterator[None]:
    """Run services on free ports of loopback."""
    runners = []
    try:
        for service in services:
            app = web.Application()
            app.router.add_get("/{tail:.*}", service.answer)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            runners.append(runner)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            service.port = runner.addresses[0][1]
        yield
    finally:
        for service in services:
            service._over.set()
        for runner in runners:
            await runner.cleanup()


def healthy(**stats: Any) -> Service:
    """Return a service that is well."""
    return Service({"/health": {"status": "healthy", "stats": STATS | stats}})


def asked(service: Service, before: Sample | None = None, component: str = "consumer") -> Sample:
    """Return what asking this service once comes to."""

    async def run() -> Sample:
        timeout = aiohttp.ClientTimeout(total=0.5)
        async with serving(service), aiohttp.ClientSession(timeout=timeout) as session:
            return await ask(session, pod(service.port, component=component), before)

    return asyncio.run(asyncio.wait_for(run(), 10))


def test_a_service_that_is_well_has_figures_and_no_problem() -> None:
    """A consumer is asked for its health alone, and carries nothing."""
    service = healthy()
    sample = asked(service)
    assert (sample.pod, sample.stats, sample.problem, sample.carried) == ("spot-x", STATS, None, frozenset())
    assert service.asked == ["/health"]


def test_an_ingestor_says_what_it_carries() -> None:
    """Its acknowledged streams are what hand-overs wait for."""
    service = healthy()
    service.answers["/streams"] = {"desired": ["A@trade", "B@trade"], "carried": ["A@trade"]}
    sample = asked(service, component="ingestor")
    assert sample.desired == frozenset({"A@trade", "B@trade"})
    assert sample.carried == frozenset({"A@trade"})
    assert service.asked == ["/streams", "/health"], "its health must not be older than what it carries"


def test_an_unready_service_has_figures_and_its_own_reason() -> None:
    """Status 503 is an answer: its reason is the problem, its figures count."""
    service = healthy()
    service.status = 503
    service.answers["/health"] |= {"status": "unhealthy", "reason": "no frame for 31 s"}
    sample = asked(service)
    assert (sample.stats, sample.problem) == (STATS, "no frame for 31 s")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"<html>proxy</html>", "/health answers no JSON object"),
        (b"[1]", "/health answers no JSON object"),
        (b"", "/health answers no JSON object"),
        (b'{"stats": {"lag_seconds": NaN}}', "/health answers no JSON object"),
        (b"\xff\xfe", "/health answers no JSON object"),
        ({"status": "healthy"}, "/health holds no stats"),
        ({"stats": []}, "/health holds no stats"),
        ({"stats": {"lag_seconds": "long"}}, "/health holds a lag_seconds that is no number"),
        ({"stats": {"total_messages": True}}, "/health holds a total_messages that is no number"),
        ({"stats": {"proof": [1]}}, "/health holds a proof that is no object"),
        ({"stats": {"proof": {"missing": {}}}}, "/health holds a missing that is no number"),
        (None, "/health answers 404"),
    ],
    ids=str,
)
def test_garbage_is_a_problem_that_is_named(answer: Any, sentence: str) -> None:
    """What is no answer of a service of ours says so in the sample; it is never taken for figures."""
    sample = asked(Service({"/health": answer} if answer is not None else {}))
    assert sample.stats is None
    assert sentence in (sample.problem or "")
    assert (sample.problem or "").startswith("does not answer: ")


@pytest.mark.parametrize("carried", ["A@trade", 5, [1], {"A@trade": True}], ids=str)
def test_streams_that_are_no_list_are_never_taken_for_carried(carried: Any) -> None:
    """A stream that is let go because of a wrong answer would be lost."""
    service = healthy()
    service.answers["/streams"] = {"carried": carried}
    sample = asked(service, component="ingestor")
    assert (sample.stats, sample.carried) == (None, frozenset())
    assert "/streams holds carried that is no list of streams" in (sample.problem or "")


def test_a_large_answer_is_read_whole_and_an_endless_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte that comes in many parts is one answer; what is above the bound is a problem."""
    streams = [f"SYMBOL{number}USDT@bookTicker" for number in range(40_000)]
    service = healthy()
    service.answers["/streams"] = {"carried": streams}
    assert asked(service, component="ingestor").carried == frozenset(streams)
    monkeypatch.setattr(sampler, "_LONGEST_ANSWER_BYTES", 100_000)
    assert "/streams answers more than 100000 bytes" in (asked(service, component="ingestor").problem or "")


def test_silence_and_a_closed_port_are_problems() -> None:
    """Neither takes longer than the timeout."""
    silent = healthy()
    silent.hangs = True
    assert asked(silent).problem == "does not answer: TimeoutError"

    async def closed() -> Sample:
        async with aiohttp.ClientSession() as session:
            return await ask(session, pod(1), None)

    assert "does not answer: Cannot connect" in (asyncio.run(closed()).problem or "")


@pytest.mark.parametrize(
    ("before", "messages"),
    [
        ({"total_messages": 40}, 60),
        ({"total_messages": 101}, None),
        ({}, None),
        (None, None),
    ],
    ids=["more", "fewer: started anew", "none", "silent"],
)
def test_a_rate_is_made_of_the_totals_of_two_looks(before: Mapping[str, Any] | None, messages: int | None) -> None:
    """60 messages in the time between two looks; nothing where the two cannot be compared."""
    sample = asked(healthy(), Sample(pod="spot-x", at=0.0, stats=before))
    assert sample.stats is not None
    assert sample.stats.get("messages_per_second") == (messages / sample.at if messages else None)


def test_a_rate_that_the_service_gives_is_taken() -> None:
    """It knows better than two looks."""
    sample = asked(healthy(messages_per_second=7.5), Sample(pod="x", at=0.0, stats={"total_messages": 1}))
    assert sample.stats is not None
    assert sample.stats["messages_per_second"] == 7.5


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "http://127.0.0.1:80"),
        ({"podIP": "fd00::1"}, "http://[fd00::1]:80"),
        ({"podIP": None}, None),
        ({"phase": "Pending"}, None),
        ({"phase": "Succeeded"}, None),
    ],
    ids=str,
)
def test_only_a_running_pod_has_an_address(changes: dict[str, Any], url: str | None) -> None:
    """Addresses of both families; none before the pod runs nor after."""
    assert address(pod(80, **changes)) == url


def test_a_pod_on_its_way_out_and_one_without_the_port_have_no_address() -> None:
    """Nobody asks them."""
    leaving = pod(80)
    leaving["metadata"]["deletionTimestamp"] = "2026-11-21T15:00:00Z"
    other = pod(80)
    other["spec"]["containers"][0]["ports"][0]["name"] = "metrics"
    assert address(leaving) is None
    assert address(other) is None


class Bench:
    """A sampler, the store that it fills, and whom it told of."""

    def __init__(self, every_s: float = 1000.0) -> None:
        self.store = Store()
        self.noted: list[FeedName] = []
        self.metrics = OperatorMetrics(CollectorRegistry())
        self.sampler = Sampler(self.store, self.metrics, every_s, self.noted.append)

    async def round(self, session: aiohttp.ClientSession, now: float) -> None:
        """Do what is done each second."""
        await self.sampler._round(session, now)

    def counted(self, result: str) -> float:
        """Return how many looks ended so."""
        return self.metrics.registry.get_sample_value("marketfeed_operator_samples_total", {"result": result}) or 0.0


def rounds(
    bench: Bench,
    scenario: Callable[[Callable[[float], Awaitable[None]]], Awaitable[None]],
    *services: Service,
    timeout_s: float = 1.0,
) -> None:
    """Run a scenario that calls for rounds at given times, on pods of these services."""

    async def run() -> None:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with serving(*services), aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            for number, service in enumerate(services):
                bench.store.put(pod(service.port, f"spot-{number}"))
            await scenario(lambda now: bench.round(session, now))

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_pod_is_asked_at_first_sight_in_turn_and_out_of_turn() -> None:
    """At once, then every so often; each time that its feed is in a hurry, once."""
    bench, service = Bench(every_s=10.0), healthy()

    async def scenario(tick: Callable[[float], Awaitable[None]]) -> None:
        counts = []
        for now in (0.0, 1.0, 9.0, 10.0, 11.0):
            await tick(now)
            counts.append(len(service.asked))
        assert counts == [1, 1, 1, 2, 2]
        bench.sampler.hurry(FEED)
        bench.sampler.hurry(FeedName("md", "other"))
        await tick(12.0)
        await tick(13.0)
        assert len(service.asked) == 3
        assert bench.counted("ok") == 3

    rounds(bench, scenario, service)


def test_one_that_is_not_ready_is_asked_again_soon() -> None:
    """A new pod is not ready at first sight: that it has become so is known after 3 s, not after a whole round."""
    bench, service = Bench(every_s=15.0), healthy()
    service.status = 503
    service.answers["/health"] |= {"status": "unhealthy", "reason": "9 of 9 streams are not acknowledged"}

    async def scenario(tick: Callable[[float], Awaitable[None]]) -> None:
        await tick(0.0)
        await tick(2.0)
        assert len(service.asked) == 1
        service.status, service.answers["/health"] = 200, {"status": "healthy", "stats": STATS}
        for now in (3.0, 6.0, 17.0):
            await tick(now)
        assert len(service.asked) == 2
        await tick(18.0)
        assert len(service.asked) == 3

    rounds(bench, scenario, service)


def test_only_what_matters_is_told() -> None:
    """The first sample, a doubled rate, a problem, a stream more: told. The same again, and a little more: not."""
    bench, service = Bench(every_s=0.0), healthy(messages_per_second=1000)

    async def scenario(tick: Callable[[float], Awaitable[None]]) -> None:
        told = []
        changes: list[dict[str, Any]] = [
            {},
            {},
            {"messages_per_second": 1010},
            {"messages_per_second": 2100},
            {"proof": {"missing": 3, "expected": 10}},
            {"proof": {"missing": 3, "expected": 20}},
        ]
        for now, stats in enumerate(changes):
            service.answers["/health"]["stats"] |= stats
            before = len(bench.noted)
            await tick(float(now))
            told.append(len(bench.noted) > before)
        service.answers["/health"]["reason"] = "no frame for 31 s"
        await tick(9.0)
        assert told == [True, False, False, True, True, False]
        assert len(bench.noted) == 4
        assert bench.store.samples["md", "spot-0"].problem == "no frame for 31 s"

    rounds(bench, scenario, service)


def test_a_pod_that_goes_while_it_is_asked_leaves_no_sample() -> None:
    """Its answer is of nobody."""
    bench, service = Bench(), healthy()
    service.hangs = True

    async def scenario(tick: Callable[[float], Awaitable[None]]) -> None:
        asking = asyncio.ensure_future(tick(0.0))
        async with asyncio.timeout(5):
            while not service.asked:  # noqa: ASYNC110 - the server is in this loop too
                await asyncio.sleep(0.01)
        (gone,) = bench.store.of_kind("Pod")
        bench.store.drop(gone)
        service._over.set()
        await asking
        assert bench.store.samples == {}
        assert bench.noted == []
        await tick(1.0)
        assert bench.sampler._due == {}
        assert bench.store.get(key_of(gone)) is None

    rounds(bench, scenario, service, timeout_s=10.0)


def test_many_silent_pods_do_not_make_a_sound_one_look_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is gone takes none of the time that a pod on another one has for its answer."""
    monkeypatch.setattr(sampler, "_AT_ONCE", 2)
    bench = Bench()
    services = [healthy() for _ in range(7)]
    for service in services[:-1]:
        service.hangs = True

    async def scenario(tick: Callable[[float], Awaitable[None]]) -> None:
        await tick(0.0)
        assert bench.counted("failed") == 6
        assert bench.store.samples["md", "spot-6"].problem is None

    rounds(bench, scenario, *services, timeout_s=0.3)


def test_it_looks_by_itself_until_it_is_ended() -> None:
    """The running sampler asks without anybody's call, and ends when it is cancelled."""
    bench, service = Bench(), healthy()

    async def run() -> None:
        async with serving(service):
            bench.store.put(pod(service.port))
            looking = asyncio.create_task(bench.sampler.run())
            async with asyncio.timeout(10):
                while not bench.noted:  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(0.01)
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        assert bench.noted == [FEED]

    asyncio.run(run())
