"""The client of the API server against a fake that answers as a real one does only in trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from fake_api import FakeApi, Script, fake_api, hangs_up, keeps_silent, refuses, says
from marketfeed.errors import ConfigurationError
from marketfeed_operator.api.cluster import Cluster, Guard, unguarded
from marketfeed_operator.api.errors import (
    ApiError,
    Conflict,
    Gone,
    Invalid,
    NotFound,
    NotLeader,
    Throttled,
    Unanswered,
)
from marketfeed_operator.api.limits import Bucket
from marketfeed_operator.api.pacing import Pacing
from marketfeed_operator.api.transport import Request, Transport
from marketfeed_operator.metrics import OperatorMetrics
from marketfeed_operator.objects import CONFIG_MAP, MARKETFEED

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "data": {"x": "1"}}


@dataclass
class Slept:
    """A clock that only waits move."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Note:
    """A notice."""

    type: str = "Normal"
    reason: str = "Tried"
    message: str = "It was tried"


class Bench:
    """A client of a fake API server, and the time that it waited."""

    def __init__(self, api: FakeApi, slept: Slept, metrics: OperatorMetrics, cluster: Cluster) -> None:
        self.api, self.slept, self.metrics, self.cluster = api, slept, metrics, cluster

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"marketfeed_operator_{name}", labels) or 0.0


def bench(
    tmp_path: Path,
    script: list[Script],
    scenario: Callable[[Bench], Awaitable[None]],
    *,
    guard: Guard = unguarded,
    timeout_s: float = 5.0,
    bucket: Bucket | None = None,
    **user: str,
) -> None:
    """Run a scenario against a scripted API server."""

    async def run() -> None:
        async with fake_api(*script) as api:
            slept = Slept()
            metrics = OperatorMetrics(CollectorRegistry())
            pacing = Pacing(
                bucket or Bucket.full(1000, 1000, 0.0),
                metrics,
                clock=lambda: slept.now,
                draw=lambda: 0.0,
                sleep=slept.sleep,
            )
            transport = await Transport.connect(api.kubeconfig(tmp_path / "kubeconfig", **user), None)
            cluster = Cluster(
                transport, pacing, request_timeout_s=timeout_s, instance="me", metrics=metrics, guard=guard
            )
            try:
                await scenario(Bench(api, slept, metrics, cluster))
            finally:
                await cluster.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_an_apply_is_strict_forced_and_has_a_deadline(tmp_path: Path) -> None:
    """The request carries manager, force, strict validation, the deadline for the server, and our name."""

    async def scenario(b: Bench) -> None:
        assert await b.cluster.apply(MAP, CONFIG_MAP) == {"done": True}
        asked = b.api.asked[0]
        assert (asked.method, asked.path) == ("PATCH", "/api/v1/namespaces/n/configmaps/a")
        assert asked.query == {
            "fieldManager": "marketfeed-operator",
            "force": "true",
            "fieldValidation": "Strict",
            "timeout": "5000ms",
        }
        assert asked.headers["Content-Type"] == "application/apply-patch+yaml"
        assert asked.headers["User-Agent"].startswith("marketfeed-operator/")
        assert asked.body == MAP
        assert b.counted("api_calls_total", verb="apply", kind="ConfigMap", code="200") == 1

    bench(tmp_path, [says(200, {"done": True})], scenario)


def test_trouble_that_passes_is_not_noticed(tmp_path: Path) -> None:
    """A 500, a closed connection and a 503 in a row: the fourth attempt succeeds, after growing waits."""

    async def scenario(b: Bench) -> None:
        await b.cluster.apply(MAP, CONFIG_MAP)
        assert len(b.api.asked) == 4
        assert b.slept.waits == pytest.approx([0.02, 0.04, 0.08])
        assert b.counted("api_calls_total", verb="apply", kind="ConfigMap", code="0") == 1

    bench(tmp_path, [refuses(500, "InternalError"), hangs_up, refuses(503, "Unavailable"), says(200)], scenario)


def test_trouble_that_stays_is_an_error_in_the_end(tmp_path: Path) -> None:
    """After four attempts the caller learns what the last one said."""

    async def scenario(b: Bench) -> None:
        with pytest.raises(Unanswered, match="etcd is away"):
            await b.cluster.get(CONFIG_MAP, "n", "a")
        assert len(b.api.asked) == 4

    bench(tmp_path, [refuses(500, "InternalError", "etcd is away")], scenario)


@pytest.mark.parametrize(("status", "expected"), [(409, Conflict), (422, Invalid), (400, Invalid)])
def test_a_refusal_is_not_repeated(tmp_path: Path, status: int, expected: type[ApiError]) -> None:
    """One request, one error, no wait."""

    async def scenario(b: Bench) -> None:
        with pytest.raises(expected):
            await b.cluster.apply(MAP, CONFIG_MAP)
        assert len(b.api.asked) == 1
        assert b.slept.waits == []

    bench(tmp_path, [refuses(status, "")], scenario)


def test_when_one_is_told_to_wait_all_wait(tmp_path: Path) -> None:
    """A Retry-After holds back the call that got it and every other one, of whatever kind, until it is over."""

    async def scenario(b: Bench) -> None:
        await b.cluster.apply(MAP, CONFIG_MAP)
        assert b.slept.waits == pytest.approx([7.02])
        b.slept.now = 1.0
        await b.cluster.get(MARKETFEED, "n", "other")
        assert b.slept.waits[1:] == pytest.approx([6.0])

    bench(tmp_path, [refuses(429, "TooManyRequests", headers={"Retry-After": "7"}), says(200)], scenario)


def test_endless_throttling_is_an_error(tmp_path: Path) -> None:
    """A server that always throttles is asked four times, not for ever, and an hour is not waited for."""

    async def scenario(b: Bench) -> None:
        with pytest.raises(Throttled):
            await b.cluster.list(CONFIG_MAP, "n")
        assert len(b.api.asked) == 4
        assert max(b.slept.waits) < 31

    bench(tmp_path, [refuses(429, "TooManyRequests", headers={"Retry-After": "3600"})], scenario)


def test_writes_keep_their_rate_and_reads_pass(tmp_path: Path) -> None:
    """Beyond the burst each write waits for its token; reads take none."""

    async def scenario(b: Bench) -> None:
        for _ in range(4):
            await b.cluster.apply(MAP, CONFIG_MAP)
            await b.cluster.get(CONFIG_MAP, "n", "a")
        assert b.slept.waits == pytest.approx([0.5, 0.5])
        assert b.counted("api_wait_seconds_total", why="rate") == pytest.approx(1.0)

    bench(tmp_path, [says(200)], scenario, bucket=Bucket.full(2.0, 2, 0.0))


def test_silence_ends_with_the_timeout(tmp_path: Path) -> None:
    """A server that takes the request and never answers is given up in time; the error says how long."""

    async def scenario(b: Bench) -> None:
        started = asyncio.get_running_loop().time()
        with pytest.raises(Unanswered, match=r"no answer within 0\.1"):
            await b.cluster.get(CONFIG_MAP, "n", "a")
        assert asyncio.get_running_loop().time() - started < 3

    bench(tmp_path, [keeps_silent(lambda: asyncio.sleep(30))], scenario, timeout_s=0.1)


def test_an_unreachable_server_is_an_error_of_ours(tmp_path: Path) -> None:
    """No connection is Unanswered, never aiohttp's own error, and names no credential."""
    nowhere = FakeApi("http://127.0.0.1:1", []).kubeconfig(tmp_path / "kubeconfig", token="hush")

    async def scenario() -> None:
        cluster = await Cluster.connect(nowhere)
        with pytest.raises(Unanswered, match="cannot be reached") as caught:
            await cluster.attempt("get", CONFIG_MAP, Request("GET", "/api/v1/configmaps", {}), 1.0)
        assert "hush" not in str(caught.value)
        await cluster.close()

    asyncio.run(asyncio.wait_for(scenario(), 10))


class Lease:
    """A guard that lasts as long as a test says."""

    def __init__(self, *left_s: float) -> None:
        self.left_s = list(left_s)

    def __call__(self) -> float:
        left = self.left_s.pop(0) if len(self.left_s) > 1 else self.left_s[0]
        if left <= 0:
            raise NotLeader
        return left


def test_without_the_lease_every_write_is_refused_and_reads_are_not(tmp_path: Path) -> None:
    """No apply, status, patch or deletion leaves the process; an event is dropped without an error."""

    async def scenario(b: Bench) -> None:
        c = b.cluster
        for write in (
            lambda: c.apply(MAP, CONFIG_MAP),
            lambda: c.apply_status(MARKETFEED, "n", "f", {}),
            lambda: c.patch(CONFIG_MAP, "n", "a", {}),
            lambda: c.delete(CONFIG_MAP, "n", "a"),
        ):
            with pytest.raises(NotLeader):
                await write()
        await c.event(MARKETFEED, "n", "f", "uid", Note())
        assert b.api.asked == []
        assert b.counted("events_dropped_total") == 1
        await c.get(CONFIG_MAP, "n", "a")
        assert len(b.api.asked) == 1

    bench(tmp_path, [says(200)], scenario, guard=Lease(0))


def test_the_lease_is_looked_at_again_after_waiting(tmp_path: Path) -> None:
    """A write that waited for its retry finds the lease gone and is not sent again."""

    async def scenario(b: Bench) -> None:
        with pytest.raises(NotLeader):
            await b.cluster.apply(MAP, CONFIG_MAP)
        assert len(b.api.asked) == 1

    bench(tmp_path, [refuses(500, "InternalError")], scenario, guard=Lease(9, 9, 0))


def test_the_lease_is_looked_at_right_before_sending(tmp_path: Path) -> None:
    """A lease that ends while the write waits for its turn keeps it from being sent at all."""

    async def scenario(b: Bench) -> None:
        with pytest.raises(NotLeader):
            await b.cluster.apply(MAP, CONFIG_MAP)
        assert b.api.asked == []

    bench(tmp_path, [says(200)], scenario, guard=Lease(9, 0), bucket=Bucket(1.0, 1, 0.0, 0.0))


def test_no_write_outlives_the_lease(tmp_path: Path) -> None:
    """A write that hangs is given up when the lease ends, by us and, by its deadline, by the server."""

    async def scenario(b: Bench) -> None:
        started = asyncio.get_running_loop().time()
        with pytest.raises(NotLeader):
            await b.cluster.apply(MAP, CONFIG_MAP)
        assert asyncio.get_running_loop().time() - started < 2
        assert b.api.asked[0].query["timeout"] == "300ms"

    bench(tmp_path, [keeps_silent(lambda: asyncio.sleep(30))], scenario, guard=Lease(0.3, 0.3, 0))


def test_a_view_has_its_own_guard(tmp_path: Path) -> None:
    """`guarded_by` leaves the original as it was."""

    async def scenario(b: Bench) -> None:
        with pytest.raises(NotLeader):
            await b.cluster.guarded_by(Lease(0)).apply(MAP, CONFIG_MAP)
        await b.cluster.apply(MAP, CONFIG_MAP)

    bench(tmp_path, [says(200)], scenario)


def _page(names: str, more: str = "") -> Script:
    items = [{"metadata": {"name": name}} for name in names]
    return says(200, {"kind": "ConfigMapList", "metadata": {"continue": more}, "items": items})


def test_a_list_comes_in_pages_and_every_item_knows_its_kind(tmp_path: Path) -> None:
    """All pages are put together; items get the kind that the API server leaves out of them."""

    async def scenario(b: Bench) -> None:
        found = await b.cluster.list(CONFIG_MAP, "n", "app=x")
        assert [item["metadata"]["name"] for item in found] == ["a", "b", "c"]
        assert {(item["apiVersion"], item["kind"]) for item in found} == {("v1", "ConfigMap")}
        assert [asked.query.get("continue") for asked in b.api.asked] == [None, "next"]
        assert {asked.query["labelSelector"] for asked in b.api.asked} == {"app=x"}

    bench(tmp_path, [_page("ab", "next"), _page("c")], scenario)


def test_a_list_that_expired_is_begun_again(tmp_path: Path) -> None:
    """A 410 between two pages costs a new start, and nothing comes twice."""

    async def scenario(b: Bench) -> None:
        found = await b.cluster.list(CONFIG_MAP, None)
        assert [item["metadata"]["name"] for item in found] == ["x", "y"]

    bench(tmp_path, [_page("ab", "next"), refuses(410, "Expired"), _page("x", "next"), _page("y")], scenario)


def test_a_list_that_always_expires_is_an_error(tmp_path: Path) -> None:
    """It is not begun again for ever."""

    async def scenario(b: Bench) -> None:
        with pytest.raises(Gone):
            await b.cluster.list(CONFIG_MAP, None)
        assert len(b.api.asked) == 4

    bench(tmp_path, [refuses(410, "Expired")], scenario)


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    """Reads return None, delete is content, patch and status say NotFound."""

    async def scenario(b: Bench) -> None:
        c = b.cluster
        assert await c.get(CONFIG_MAP, "n", "a") is None
        assert await c.version(CONFIG_MAP, "n", "a") is None
        await c.delete(CONFIG_MAP, "n", "a")
        with pytest.raises(NotFound):
            await c.patch(CONFIG_MAP, "n", "a", {})
        with pytest.raises(NotFound):
            await c.apply_status(MARKETFEED, "n", "a", {})

    bench(tmp_path, [refuses(404, "NotFound")], scenario)


def test_a_version_is_asked_for_as_metadata_alone(tmp_path: Path) -> None:
    """The Accept header leaves the API server no other form: the object's content is never sent."""

    async def scenario(b: Bench) -> None:
        assert await b.cluster.version(CONFIG_MAP, "n", "a") == "u-1:42"
        assert b.api.asked[0].headers["Accept"] == "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

    bench(tmp_path, [says(200, {"metadata": {"uid": "u-1", "resourceVersion": "42"}})], scenario)


def test_repeated_events_count_the_first_one_up(tmp_path: Path) -> None:
    """One creation, then patches of its series; when it is gone, a new one is made, whose name sorts after it."""

    async def scenario(b: Bench) -> None:
        for _ in range(4):
            await b.cluster.event(MARKETFEED, "n", "f", "uid", Note())
        assert [asked.method for asked in b.api.asked] == ["POST", "PATCH", "PATCH", "POST"]
        first, second = b.api.asked[0], b.api.asked[1]
        assert first.path == "/apis/events.k8s.io/v1/namespaces/n/events"
        assert first.body["reportingInstance"] == "me"
        assert second.path.endswith(first.body["metadata"]["name"])
        assert second.body["series"]["count"] == 2
        assert b.api.asked[3].body["metadata"]["name"] > first.body["metadata"]["name"]
        assert b.counted("events_dropped_total") == 1

    bench(tmp_path, [says(201), says(200), refuses(404, "NotFound"), says(201)], scenario)


def test_an_event_is_tried_once(tmp_path: Path) -> None:
    """A creation that may have happened is not repeated, and its failure is not the caller's."""

    async def scenario(b: Bench) -> None:
        await b.cluster.event(MARKETFEED, "n", "f", "uid", Note())
        assert len(b.api.asked) == 1
        assert b.counted("events_dropped_total") == 1

    bench(tmp_path, [refuses(503, "Unavailable")], scenario)


def test_a_token_that_changed_in_its_file_is_read_again(tmp_path: Path) -> None:
    """A refused token is read anew and the call goes through, unnoticed by the caller."""
    token = tmp_path / "token"
    token.write_text("first\n")

    async def scenario(b: Bench) -> None:
        await b.cluster.get(CONFIG_MAP, "n", "a")
        token.write_text("second\n")
        await b.cluster.get(CONFIG_MAP, "n", "a")
        sent = [asked.headers["Authorization"] for asked in b.api.asked]
        assert sent == ["Bearer first", "Bearer first", "Bearer second"]
        assert b.cluster.connection().token == "second"

    bench(tmp_path, [says(200), refuses(401, "Unauthorized"), says(200)], scenario, tokenFile=str(token))


def test_a_token_that_stays_refused_is_forbidden(tmp_path: Path) -> None:
    """It is tried twice, and the error does not show it."""

    async def scenario(b: Bench) -> None:
        with pytest.raises(ApiError, match="Unauthorized") as caught:
            await b.cluster.get(CONFIG_MAP, "n", "a")
        assert caught.value.status == 401
        assert len(b.api.asked) == 2
        assert "hush" not in f"{caught.value!r}"

    bench(tmp_path, [refuses(401, "Unauthorized", "Unauthorized: Bearer hush")], scenario, token="hush")


def test_an_answer_that_is_no_object_is_an_error_of_ours(tmp_path: Path) -> None:
    """A list where an object belongs is Unanswered, not a traceback."""

    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>", content_type="text/html")

    async def scenario(b: Bench) -> None:
        with pytest.raises(Unanswered, match="no JSON object"):
            await b.cluster.get(CONFIG_MAP, "n", "a")

    bench(tmp_path, [page], scenario)


@pytest.mark.parametrize("text", ["", "[]", "clusters: 5", "{broken", "contexts: []\ncurrent-context: x"])
def test_a_broken_kubeconfig_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    """Whatever the file holds, the error is a sentence of ours."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="no usable way to the API server"):
        asyncio.run(Cluster.connect(str(path)))


def test_a_pods_service_account_that_is_not_mounted_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod without its token the sentence says what is missing."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ConfigurationError, match="token file does not exist"):
        asyncio.run(Cluster.connect())
