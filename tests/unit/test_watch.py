"""kopf's part, against a fake API server: what is handed on, and how a watcher ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import kopf
import pytest
from aiohttp import web

from fake_api import fake_api
from marketfeed_operator import watch
from marketfeed_operator.objects import CONFIG_MAP, Kind, Manifest
from marketfeed_operator.watch import Watched, Watcher, What

SELECTOR = "app.kubernetes.io/managed-by=marketfeed-operator"


@dataclass
class FakeServer:
    """A fake of the parts of an API server that kopf asks: discovery, lists and watches."""

    listed: list[dict[str, Any]] = field(default_factory=list)
    events: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    refuses: int | None = None
    queries: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.queries.append((request.path, dict(request.query)))
        if self.refuses is not None and request.path.endswith("/configmaps"):
            status = {"kind": "Status", "code": self.refuses, "status": "Failure", "message": "no"}
            return web.json_response(status, status=self.refuses)
        if request.path.endswith("/configmaps"):
            return await self._watch(request) if "watch" in request.query else web.json_response(self._list())
        return web.json_response(_discovered(request.path))

    def _list(self) -> dict[str, Any]:
        return {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "5"}, "items": self.listed}

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while not self.over.is_set():
            event = asyncio.ensure_future(self.events.get())
            over = asyncio.ensure_future(self.over.wait())
            await asyncio.wait([event, over], return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            if event.done():
                await response.write(json.dumps(event.result()).encode() + b"\n")
            event.cancel()
        return response


def _discovered(path: str) -> dict[str, Any]:
    verbs = ["get", "list", "watch", "patch"]
    resources = [
        {
            "name": f"{kind.lower()}s",
            "kind": kind,
            "singularName": kind.lower(),
            "namespaced": namespaced,
            "verbs": verbs,
        }
        for kind, namespaced in (("ConfigMap", True), ("Namespace", False))  # kopf wants to know of the latter
    ]
    found: dict[str, dict[str, Any]] = {
        "/api": {"versions": ["v1"]},
        "/apis": {"groups": []},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources},
    }
    return found.get(path, {"resources": []})


class Seen:
    """What a watcher handed on, and whether on the operator's loop."""

    def __init__(self) -> None:
        self.all: list[tuple[Kind, What, str]] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()

    def __call__(self, kind: Kind, what: What, manifest: Manifest) -> None:
        self.all.append((kind, what, manifest["metadata"]["name"]))
        self.loops.add(asyncio.get_running_loop())


def run(scenario: Callable[[FakeServer, Callable[..., Watcher], Seen], Awaitable[None]]) -> None:
    """Run a scenario with a fake server, a way to watch it and what was seen; every watcher is stopped."""

    async def whole() -> None:
        server, seen, watchers = FakeServer(), Seen(), list[Watcher]()
        async with fake_api(server.answer) as api:

            def watcher(*watched: Watched, login: Callable[[], kopf.ConnectionInfo] | None = None) -> Watcher:
                chosen = watched or (Watched(CONFIG_MAP, SELECTOR),)
                reach = login or (lambda: kopf.ConnectionInfo(server=api.url, token="t"))
                watchers.append(Watcher(chosen, ["md"], reach, seen, 5.0))
                return watchers[-1]

            try:
                await scenario(server, watcher, seen)
            finally:
                server.over.set()
                await asyncio.gather(*(one.stop() for one in watchers))

    asyncio.run(asyncio.wait_for(whole(), 30))


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - it happens in another thread
            await asyncio.sleep(0.02)


def streams(name: str, version: int = 1) -> dict[str, Any]:
    """Return a ConfigMap."""
    metadata = {"name": name, "namespace": "md", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def test_what_is_there_and_what_happens_is_handed_on() -> None:
    """Listed, changed, gone: each on the operator's own loop; only objects with the label are asked for."""

    async def scenario(server: FakeServer, watcher: Callable[..., Watcher], seen: Seen) -> None:
        server.listed.append(streams("a"))
        watcher()
        await until(lambda: seen.all)
        server.events.put_nowait({"type": "MODIFIED", "object": streams("a", 6)})
        await until(lambda: len(seen.all) == 2)
        server.events.put_nowait({"type": "DELETED", "object": streams("a", 7)})
        await until(lambda: len(seen.all) == 3)
        assert seen.all == [(CONFIG_MAP, "listed", "a"), (CONFIG_MAP, "changed", "a"), (CONFIG_MAP, "gone", "a")]
        assert seen.loops == {asyncio.get_running_loop()}
        asked = [query for path, query in server.queries if path == "/api/v1/namespaces/md/configmaps"]
        assert {query.get("labelSelector") for query in asked} == {SELECTOR}

    run(scenario)


def test_stopping_ends_the_thread_and_is_no_failure() -> None:
    """The thread is gone, twice is as once, and `ended` holds no error."""

    async def scenario(server: FakeServer, watcher: Callable[..., Watcher], seen: Seen) -> None:
        server.listed.append(streams("a"))
        made = watcher()
        await until(lambda: seen.all)
        await made.stop()
        assert not made._thread.is_alive()
        await made.stop()
        await asyncio.wait([made.ended], timeout=5)
        assert made.ended.exception() is None

    run(scenario)


def test_a_kopf_that_may_not_log_in_says_so() -> None:
    """The error comes out of `ended`, where the process learns of it: kopf itself would wait for ever."""

    async def scenario(_: FakeServer, watcher: Callable[..., Watcher], seen: Seen) -> None:
        def login() -> kopf.ConnectionInfo:
            raise kopf.PermanentError("no credentials")

        made = watcher(login=login)
        await asyncio.wait([made.ended], timeout=15)
        assert str(made.ended.exception()) == "no credentials"
        assert seen.all == []

    run(scenario)


def test_a_watch_that_only_fails_ends_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """After all its attempts; never by silence."""
    monkeypatch.setattr(watch, "_ERROR_BACKOFFS_S", (0.01, 0.01))

    async def scenario(server: FakeServer, watcher: Callable[..., Watcher], _: Seen) -> None:
        server.refuses = 500
        made = watcher()
        await asyncio.wait([made.ended], timeout=15)
        assert "no" in str(made.ended.exception())

    run(scenario)
