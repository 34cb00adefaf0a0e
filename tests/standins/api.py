"""What every stand-in needs of an API server: requests, mirrors of what is there, and a queue of what to look at.

It shares nothing with the operator's own client, so that one cannot hide the other's mistakes.
"""

from __future__ import annotations

import asyncio
import base64
import heapq
import json
import logging
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml

Object = dict[str, Any]

JSON, MERGE = "application/json", "application/merge-patch+json"
NOT_FOUND, CONFLICT, GONE = 404, 409, 410
_WATCH_S = 240
_PAUSE_S = 0.5  # between two attempts to list what cannot be listed
_RETRY_S = 0.5
TLS_CLOSE_S = 0.1  # aiohttp does not wait for the ends of TLS connections, and its loop is about to be closed

_log = logging.getLogger("standins")


class Key(NamedTuple):
    """An object's name within its kind."""

    namespace: str
    name: str


class ApiError(Exception):
    """The API server refused; `status` is its HTTP code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


def key_of(found: Mapping[str, Any]) -> Key:
    """Return the key of an object."""
    metadata = found["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def timestamp(at: datetime | None = None) -> str:
    """Return a time as Kubernetes writes it."""
    return (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def matches(selector: str, found: Mapping[str, Any]) -> bool:
    """Tell whether a selector, `label=value,label=value` or just an object's name, means this object."""
    labels = found["metadata"].get("labels") or {}
    if "=" not in selector:
        return bool(found["metadata"]["name"] == selector)
    return all(labels.get(name) == value for name, _, value in (part.partition("=") for part in selector.split(",")))


class Api:
    """Plain requests to one API server."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path) -> AsyncIterator[Api]:
        """Reach the cluster that a kubeconfig's current context names, as the user that it names."""
        cluster, user = current_context(kubeconfig)
        headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        connector = aiohttp.TCPConnector(limit=0, ssl=tls_context(cluster, user))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_WATCH_S + 30)
        async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
            yield cls(cluster["server"], session)
        await asyncio.sleep(TLS_CLOSE_S)

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = JSON, **query: str
    ) -> Object:
        """Return the answer's object; raises ApiError."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        async with self._session.request(method, self._url + path, data=data, headers=headers, params=query) as answer:
            return await self._read(answer)

    async def get(self, path: str, **query: str) -> Object:
        return await self.request("GET", path, **query)

    async def create(self, path: str, body: Object) -> Object:
        return await self.request("POST", path, body)

    async def merge(self, path: str, patch: Object) -> Object:
        """Apply a JSON merge patch: lists are replaced, null removes."""
        return await self.request("PATCH", path, patch, content_type=MERGE)

    async def delete(self, path: str, uid: str | None = None, grace_s: int | None = None) -> None:
        """Delete; what is gone already is fine."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            await self.request("DELETE", path, options)
        except ApiError as error:
            if error.status not in (NOT_FOUND, CONFLICT):  # CONFLICT: another object has the name now
                raise

    async def watch(self, path: str, version: str) -> AsyncIterator[tuple[str, Object]]:
        """Yield what happens after a resource version, until the server ends the watch."""
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(_WATCH_S)}
        async with self._session.get(self._url + path, params=query, read_bufsize=2**24) as answer:
            if answer.status >= 400:
                await self._read(answer)
            try:
                async for line in answer.content:
                    event = json.loads(line)
                    yield event["type"], event["object"]
            finally:
                abort(answer)

    @staticmethod
    async def _read(answer: aiohttp.ClientResponse) -> Object:
        content = await answer.read()
        found: Object = json.loads(content) if content.startswith(b"{") else {"message": content.decode()}
        if answer.status >= 400:
            raise ApiError(answer.status, str(found.get("message")))
        return found


class Mirror:
    """Keeps what is at one path; calls `on_change(old, new)` for each change, None for what was not or is not there."""

    def __init__(self, api: Api, path: str, on_change: Callable[[Object | None, Object | None], None]) -> None:
        self.objects: dict[Key, Object] = {}
        self.synced = asyncio.Event()
        self._api = api
        self._path = path
        self._on_change = on_change

    async def run(self) -> None:
        """List and watch for ever, also before the API is served and after the watch breaks."""
        while True:
            try:
                version = await self._list()
                self.synced.set()
                await self._follow(version)
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                _log.debug("%s: %s", self._path, error)
                if isinstance(error, ApiError) and error.status == NOT_FOUND:
                    self._replace({})
                    self.synced.set()
                await asyncio.sleep(_PAUSE_S)

    async def _list(self) -> str:
        found = await self._api.get(self._path)
        kind = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
        self._replace({key_of(item): {**kind, **item} for item in found["items"]})
        return str(found["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> None:
        while True:
            async for event, found in self._api.watch(self._path, version):
                if event == "ERROR":
                    raise ApiError(int(found.get("code", GONE)), str(found.get("message")))
                version = found["metadata"]["resourceVersion"]
                self._put(key_of(found), None if event == "DELETED" else found)

    def _replace(self, found: dict[Key, Object]) -> None:
        for key in [key for key in self.objects if key not in found]:
            self._put(key, None)
        for key, new in found.items():
            self._put(key, new)

    def _put(self, key: Key, new: Object | None) -> None:
        old = self.objects.pop(key, None)
        if new is not None:
            self.objects[key] = new
        if old is None or new is None or old["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"]:
            self._on_change(old, new)


class WorkQueue:
    """Calls `work(key)` for each key that is due, never twice at once for one; it may return when to call again, s."""

    def __init__(self, work: Callable[[Key], Awaitable[float | None]], workers: int = 16) -> None:
        self._work = work
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._busy: set[Key] = set()
        self._room = asyncio.Semaphore(workers)
        self._wake = asyncio.Event()

    def add(self, key: Key, after_s: float = 0.0) -> None:
        """Have a key looked at, at the latest after so many seconds."""
        due = asyncio.get_running_loop().time() + after_s
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, key))
            self._wake.set()

    async def run(self) -> None:
        """Work for ever; what fails is tried again."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._until_due()
                due, key = heapq.heappop(self._heap)
                if self._due.get(key) != due:
                    continue  # it was asked for earlier since
                if key in self._busy:
                    heapq.heappush(self._heap, (due := due + 0.02, key))
                    self._due[key] = due
                    continue
                del self._due[key]
                self._busy.add(key)
                await self._room.acquire()
                tasks.create_task(self._do(key))

    async def _until_due(self) -> None:
        now = asyncio.get_running_loop().time
        while not self._heap or self._heap[0][0] > now():
            self._wake.clear()
            wait_s = self._heap[0][0] - now() if self._heap else None
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _do(self, key: Key) -> None:
        again_s: float | None = _RETRY_S
        try:
            again_s = await self._work(key)
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
            _log.debug("%s/%s: %s", *key, error)
        except Exception:  # noqa: BLE001 - one bad object must not end the others' care
            _log.exception("%s/%s", *key)
        finally:
            self._busy.discard(key)
            self._room.release()
        if again_s is not None:
            self.add(key, max(0.0, again_s))


def abort(answer: aiohttp.ClientResponse) -> None:
    """Break the connection of an answer that goes on for ever, without a farewell that nobody waits for."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


def current_context(kubeconfig: Path) -> tuple[Object, Object]:
    """Return the cluster and the user of a kubeconfig's current context."""
    config = yaml.safe_load(kubeconfig.read_text())
    context = _named(config["contexts"], config["current-context"])["context"]
    return _named(config["clusters"], context["cluster"])["cluster"], _named(config["users"], context["user"])["user"]


def tls_context(cluster: Object, user: Object) -> ssl.SSLContext | bool:
    """Return how to verify the server and, where the user has a certificate, how to show it."""
    if not cluster["server"].startswith("https:"):
        return True
    authority = _content(cluster, "certificate-authority")
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    certificate, key = _content(user, "client-certificate"), _content(user, "client-key")
    if certificate and key:
        with tempfile.NamedTemporaryFile() as file:  # the ssl module reads certificates from files only
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _named(entries: list[Object], name: str) -> Object:
    return next(entry for entry in entries if entry["name"] == name)


def _content(entry: Object, field: str) -> bytes | None:
    if f"{field}-data" in entry:
        return base64.b64decode(entry[f"{field}-data"])
    return Path(entry[field]).read_bytes() if field in entry else None
