"""A fake of an API server's HTTP side: it answers what a test told it to, and keeps what it was asked.

For faults that a real one makes only under load. What objects do is tested on the real one (tests/operator).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(slots=True)
class FakeApi:
    """Answers the scripted responses in turn, the last one for ever."""

    url: str
    script: list[Script]
    asked: list[Asked] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Note the request and give the next answer."""
        text = await request.text()
        body = json.loads(text) if text else None
        self.asked.append(Asked(request.method, request.path, dict(request.query), dict(request.headers), body))
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await step(request)

    def kubeconfig(self, path: Path, **user: str) -> str:
        """Write to `path` how to reach this server, and return it."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": user}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        }
        path.write_text(json.dumps(document))
        return str(path)


def says(status: int, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> Script:
    """Return an answer of JSON."""

    async def step(_: web.Request) -> web.StreamResponse:
        return web.json_response(dict(body or {}), status=status, headers=headers)

    return step


def refuses(status: int, reason: str, message: str = "no", headers: Mapping[str, str] | None = None) -> Script:
    """Return an answer as an API server refuses: a Status object."""
    body = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}
    return says(status, body, headers)


async def hangs_up(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def keeps_silent(until: Callable[[], Awaitable[None]]) -> Script:
    """Return an answer that does not come before `until()` returns."""

    async def step(_: web.Request) -> web.StreamResponse:
        await until()
        return web.json_response({})

    return step


@asynccontextmanager
async def fake_api(*script: Script) -> AsyncIterator[FakeApi]:
    """Serve `script` on a free port of loopback."""
    api = FakeApi("", list(script))
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", api.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield api
    finally:
        await runner.cleanup()
