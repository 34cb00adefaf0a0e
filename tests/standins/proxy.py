"""An HTTP proxy on loopback before a real API server, which fails, hangs, drops and goes mute as tests tell it to.

Clients speak plain HTTP with it, and their Authorization header is passed on, so that they keep their own permissions.
`requests` is all that came by. Not so as in reality: every fault is made here, the API server's own state is never bad.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import aiohttp
import yaml
from aiohttp import web

from standins.api import TLS_CLOSE_S, abort, current_context, tls_context
from standins.background import Background, Wait

_HOP = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_FOR_EVER = 10**9

Verb = Literal["get", "list", "watch", "create", "update", "patch", "apply", "delete"]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came by. `at` is monotonic, s; `status` is None when it was left without an answer."""

    at: float
    method: str
    verb: str
    path: str
    agent: str
    token: str
    status: int | None


@dataclass(slots=True)
class Rule:
    """What happens to the next `times` requests that match; a field that is None matches everything."""

    act: Literal["fail", "hang", "drop", "delay"]
    times: int
    verb: str | None = None
    path: str = ""  # regular expression, looked for anywhere in the path
    token: str | None = None
    status: int = 500
    message: str | None = None
    retry_after_s: int | None = None
    seconds: float = 0.0
    executed: bool = False  # the API server does what is asked for, and the client never learns of it

    def takes(self, request: web.BaseRequest) -> bool:
        """Tell whether a request is meant."""
        if self.verb not in (None, verb_of(request)) or re.search(self.path, request.path) is None:
            return False
        return self.token is None or self.token == _token(request)


@dataclass(eq=False, slots=True)
class _Watch:
    path: str
    response: web.StreamResponse
    transport: asyncio.Transport
    mute: bool = False


@dataclass(eq=False, slots=True)
class _State:
    rules: list[Rule] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    watches: list[_Watch] = field(default_factory=list)
    mute_new: str | None = None
    lock: Lock = field(default_factory=Lock)


class FaultProxy(Background):
    """`with FaultProxy(kubeconfig) as proxy`: `proxy.url` leads to that cluster until a rule says otherwise."""

    url: str

    def __init__(self, kubeconfig: Path) -> None:
        """Stand before the cluster of a kubeconfig's current context; of its user nothing is used."""
        super().__init__()
        self._cluster, _ = current_context(kubeconfig)
        self._state = _State()
        self._session: aiohttp.ClientSession | None = None

    def kubeconfig(self, path: Path, token: str) -> Path:
        """Write a kubeconfig for a user who comes through here; return its path."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            "users": [{"name": "proxy", "user": {"token": token}}],
        }
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path

    # -- rules -------------------------------------------------------------------------------------------------------

    def fail(
        self,
        status: int,
        *,
        times: int = 1,
        verb: Verb | None = None,
        path: str = "",
        token: str | None = None,
        retry_after_s: int | None = None,
        message: str | None = None,
        executed: bool = False,
    ) -> None:
        """Answer the next `times` matching requests with an error, `executed` or not before."""
        rule = Rule("fail", times, verb, path, token, status, message, retry_after_s, executed=executed)
        self._add(rule)

    def hang(
        self,
        *,
        times: int = 1,
        verb: Verb | None = None,
        path: str = "",
        token: str | None = None,
        executed: bool = False,
    ) -> None:
        """Never answer the next `times` matching requests: the client must give up by itself."""
        self._add(Rule("hang", times, verb, path, token, executed=executed))

    def drop(self, *, times: int = 1, verb: Verb | None = None, path: str = "", token: str | None = None) -> None:
        """Have them executed, and break the connection in the middle of the answer; a watch at its first event."""
        self._add(Rule("drop", times, verb, path, token, executed=True))

    def delay(
        self,
        seconds: float,
        *,
        times: int = _FOR_EVER,
        verb: Verb | None = None,
        path: str = "",
        token: str | None = None,
    ) -> None:
        """Let them wait before they are passed on."""
        self._add(Rule("delay", times, verb, path, token, seconds=seconds))

    def clear(self) -> None:
        """Forget all rules: from now on everything is passed on."""
        with self._state.lock:
            self._state.rules.clear()
            self._state.mute_new = None

    @property
    def unspent(self) -> int:
        """How many rules still wait for requests: a test whose fault never struck has shown nothing."""
        with self._state.lock:
            return len(self._state.rules)

    def cut_watches(self, path: str = "") -> int:
        """Break the open watches whose path matches; return how many."""
        return self._each_watch(path, _cut)

    def mute_watches(self, path: str = "", *, new: bool = False) -> int:
        """Let open watches stay open and say nothing more, for good; `new`: those to come too, until `clear`."""
        if new:
            with self._state.lock:
                self._state.mute_new = path
        return self._each_watch(path, _mute)

    def expire_watches(self, path: str = "") -> int:
        """Say in the open watches that their resource version is too old, and end them, as the API server does."""
        return self._each_watch(path, _expire)

    # -- what came by ------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[Seen, ...]:
        """All requests so far, in the order of their ends; a watch when it begins."""
        with self._state.lock:
            return tuple(self._state.seen)

    @property
    def open_watches(self) -> tuple[str, ...]:
        """Paths of the watches that are open now."""
        return tuple(watch.path for watch in self._state.watches)

    def seen(self, *, verb: Verb | None = None, path: str = "", token: str | None = None) -> tuple[Seen, ...]:
        """Return the requests that match."""
        return tuple(
            each
            for each in self.requests
            if verb in (None, each.verb) and re.search(path, each.path) and token in (None, each.token)
        )

    @contextmanager
    def recording(self) -> Iterator[list[Seen]]:
        """Gather the requests of a `with` block; the list is filled at its end."""
        found: list[Seen] = []
        start = len(self.requests)
        yield found
        found.extend(self.requests[start:])

    # -- the proxy ---------------------------------------------------------------------------------------------------

    async def work(self, wait: Wait) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        connector = aiohttp.TCPConnector(limit=0, ssl=tls_context(self._cluster, {}))
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._session:
            runner = web.ServerRunner(
                web.Server(self._handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.1
            )
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            await wait()
            await self._act("", _cut)
            await runner.cleanup()
        await asyncio.sleep(TLS_CLOSE_S)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        rule = self._rule(request)
        if rule is not None and rule.act == "delay":
            await asyncio.sleep(rule.seconds)
        if rule is None or rule.act in ("delay", "drop"):
            return await self._pass_on(request, drop=rule is not None and rule.act == "drop")
        if rule.executed:
            async with self._ask(request, await request.read()) as answer:
                await answer.read()
        if rule.act == "hang":
            self._note(request, None)
            await asyncio.Event().wait()  # until the client leaves
        self._note(request, rule.status)
        headers = {} if rule.retry_after_s is None else {"Retry-After": str(rule.retry_after_s)}
        return web.json_response(_status(rule.status, rule.message), status=rule.status, headers=headers)

    async def _pass_on(self, request: web.BaseRequest, *, drop: bool) -> web.StreamResponse:
        try:
            async with self._ask(request, await request.read()) as answer:
                if verb_of(request) == "watch" and answer.status == 200:
                    return await self._relay(request, answer, drop=drop)
                content = await answer.read()
                self._note(request, None if drop else answer.status)
                headers = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
                if drop:
                    return await _break_off(request, content, headers)
                return web.Response(status=answer.status, headers=headers, body=content)
        except aiohttp.ClientConnectionError:
            self._note(request, None)  # the API server is away: so is the proxy
            _transport(request).abort()
            return web.Response(status=502)

    def _ask(self, request: web.BaseRequest, body: bytes) -> Any:
        if self._session is None:
            raise RuntimeError("The proxy has not begun")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = f"{self._cluster['server']}{request.raw_path}"
        return self._session.request(request.method, url, headers=headers, data=body or None, read_bufsize=2**24)

    async def _relay(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, *, drop: bool
    ) -> web.StreamResponse:
        """Pass a watch on, event by event, until the API server, the client or a test ends it."""
        self._note(request, 200)
        response = web.StreamResponse(headers={"Content-Type": answer.headers["Content-Type"]})
        await response.prepare(request)
        watch = _Watch(request.path, response, _transport(request))
        with self._state.lock:
            watch.mute = self._state.mute_new is not None and re.search(self._state.mute_new, request.path) is not None
            self._state.watches.append(watch)
        try:
            async for line in answer.content:
                if drop:
                    await response.write(line[: len(line) // 2])
                    watch.transport.abort()
                    break
                if not watch.mute:
                    await response.write(line)
            if watch.mute:
                await asyncio.Event().wait()  # its end is not told either
        except (aiohttp.ClientError, ConnectionError):
            watch.transport.abort()
        finally:
            abort(answer)
            self._state.watches.remove(watch)
        return response

    def _each_watch(self, path: str, act: Callable[[_Watch], Awaitable[None]]) -> int:
        """Do something with the open watches whose path matches; return how many they were."""
        return asyncio.run_coroutine_threadsafe(self._act(path, act), self.loop).result(10)

    async def _act(self, path: str, act: Callable[[_Watch], Awaitable[None]]) -> int:
        chosen = [watch for watch in self._state.watches if re.search(path, watch.path)]
        for watch in chosen:
            await act(watch)
        return len(chosen)

    def _add(self, rule: Rule) -> None:
        with self._state.lock:
            self._state.rules.append(rule)

    def _rule(self, request: web.BaseRequest) -> Rule | None:
        """Take one use of the first rule that means this request."""
        with self._state.lock:
            rule = next((rule for rule in self._state.rules if rule.takes(request)), None)
            if rule is not None:
                rule.times -= 1
                if rule.times <= 0:
                    self._state.rules.remove(rule)
            return rule

    def _note(self, request: web.BaseRequest, status: int | None) -> None:
        agent = request.headers.get("User-Agent", "")
        seen = Seen(time.monotonic(), request.method, verb_of(request), request.path, agent, _token(request), status)
        with self._state.lock:
            self._state.seen.append(seen)


def verb_of(request: web.BaseRequest) -> str:
    """Return the API verb of a request, as rules of RBAC have it; `apply` for a server-side apply."""
    if request.method == "GET":
        if request.query.get("watch") in ("1", "true"):
            return "watch"
        return "get" if _names_one(request.path) else "list"
    if request.method == "PATCH":
        return "apply" if "apply-patch" in request.headers.get("Content-Type", "") else "patch"
    return {"POST": "create", "PUT": "update", "DELETE": "delete"}.get(request.method, request.method.lower())


def _names_one(path: str) -> bool:
    """Tell whether a path names one object, and not a collection of them."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    return len(rest) != 1


def _token(request: web.BaseRequest) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _transport(request: web.BaseRequest) -> asyncio.Transport:
    if not isinstance(request.transport, asyncio.Transport):
        raise ConnectionResetError("The client has gone")
    return request.transport


def _status(code: int, message: str | None) -> dict[str, Any]:
    reason = _REASONS.get(code, "Unknown")
    text = message or f"made to fail: {reason}"
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": text, "reason": reason, "code": code}


async def _break_off(request: web.BaseRequest, content: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """Send the first half of an answer."""
    response = web.StreamResponse(headers={**headers, "Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    _transport(request).close()
    return response


async def _cut(watch: _Watch) -> None:
    watch.transport.abort()


async def _mute(watch: _Watch) -> None:
    watch.mute = True


async def _expire(watch: _Watch) -> None:
    event = {"type": "ERROR", "object": _status(410, "too old resource version: 1 (2)")}
    await watch.response.write(json.dumps(event).encode() + b"\n")
    watch.transport.close()
