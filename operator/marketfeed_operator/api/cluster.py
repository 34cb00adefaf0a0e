"""The API server as the operator uses it: read, server-side apply, delete, events; paced, retried, guarded, counted.

Every kind takes the same path. What does not live here: what is written (render), whether (diff), and any decision.
"""

from __future__ import annotations

import copy
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from socket import gethostname
from typing import Any, Self

import kopf
import msgspec

from marketfeed import logs
from marketfeed.errors import MarketfeedError
from marketfeed_operator.api import discovery, recorder
from marketfeed_operator.api.errors import ApiError, Gone, NotFound, Unanswered, classify
from marketfeed_operator.api.limits import Bucket
from marketfeed_operator.api.pacing import Pacing
from marketfeed_operator.api.recorder import About, Noted, Recorder
from marketfeed_operator.api.retry import Retries, asked_pause_s, next_wait_s
from marketfeed_operator.api.transport import Request, Transport
from marketfeed_operator.metrics import OperatorMetrics
from marketfeed_operator.objects import (
    EVENT,
    MANAGER,
    SOMETIMES_SERVED,
    SPARK_APPLICATION,
    Kind,
    Manifest,
    Served,
)
from marketfeed_operator.settings import OperatorSettings

_log = logs.logger("cluster")

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PAGE = 500
_MOST_PAGES = 1000
_MOST_RESTARTS = 3
_EVENT_TIMEOUT_S = 5.0
_FIRST_ERROR = 400

Manifests = list[Manifest]

Guard = Callable[[], float]
"""Returns for how many seconds from now this replica may write; raises NotLeader when it may not."""


def unguarded() -> float:
    """Let everything be written: for a command that one person runs, and for the lease itself."""
    return math.inf


@dataclass(frozen=True, slots=True)
class _Call:
    """One call and how it may be treated."""

    verb: str
    kind: str
    request: Request
    write: bool = False
    idempotent: bool = True
    attempts: int | None = None  # as the policy says


class _Page(msgspec.Struct):
    """What every list answers with."""

    class Metadata(msgspec.Struct, rename={"continue_": "continue"}):
        """Where the next page begins."""

        continue_: str = ""

    items: list[dict[str, Any]] | None
    metadata: Metadata


class _Identified(msgspec.Struct):
    """The two fields of an object's metadata that we want of a secret; all others are dropped unread."""

    class Metadata(msgspec.Struct, rename="camel"):
        """Which object, and which version of it."""

        uid: str
        resource_version: str

    metadata: Metadata


class Cluster:
    """One API server. Every method raises ApiError's subclasses, and a writing one NotLeader.

    `guarded_by` gives a view of the same connection whose writes need the lease.
    """

    def __init__(
        self,
        transport: Transport,
        pacing: Pacing,
        *,
        request_timeout_s: float,
        instance: str,
        metrics: OperatorMetrics | None = None,
        guard: Guard = unguarded,
        retries: Retries = Retries(),  # noqa: B008 - frozen
    ) -> None:
        self._transport = transport
        self._pacing = pacing
        self._timeout_s = request_timeout_s
        self._instance = instance
        self._metrics = metrics
        self._guard = guard
        self._retries = retries
        self._recorder = Recorder()

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | None = None,
        context: str | None = None,
        *,
        settings: OperatorSettings | None = None,
        metrics: OperatorMetrics | None = None,
        guard: Guard = unguarded,
    ) -> Self:
        """Return a cluster by `kubeconfig`, else by the pod's service account, else by the default kubeconfig.

        Nothing is sent yet. Raises ConfigurationError where there is no usable configuration.
        """
        chosen = settings or OperatorSettings()
        bucket = Bucket.full(chosen.writes_per_second, chosen.write_burst, time.monotonic())
        return cls(
            await Transport.connect(kubeconfig, context),
            Pacing(bucket, metrics),
            request_timeout_s=chosen.request_timeout_s,
            instance=chosen.identity or gethostname(),
            metrics=metrics,
            guard=guard,
        )

    def guarded_by(self, guard: Guard) -> Self:
        """Return this cluster with another guard; connection, limits and metrics are shared."""
        other = copy.copy(self)
        other._guard = guard  # noqa: SLF001 - our own copy
        return other

    @property
    def host(self) -> str:
        """Return the API server's URL."""
        return self._transport.host

    def connection(self) -> kopf.ConnectionInfo:
        """Return how kopf reaches this API server, its credentials as they are now; for any thread."""
        return self._transport.connection()

    async def close(self) -> None:
        """Close all connections, those of every view included."""
        await self._transport.close()

    # Reading

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """Return an object, or None where there is none or its kind is not served."""
        try:
            return _object(await self._read("get", kind, kind.path(namespace, name)))
        except NotFound:
            return None

    async def list(self, kind: Kind, namespace: str | None, selector: str = "") -> Manifests:
        """Return all objects of a namespace (None: of all namespaces) that the label selector fits.

        A list that changes too much while it is read in pages is begun again.
        """
        for _ in range(_MOST_RESTARTS):
            try:
                return await self._pages(kind, namespace, selector)
            except Gone:
                _log.info("list_restarted", kind=kind.kind)
        return await self._pages(kind, namespace, selector)

    async def version(self, kind: Kind, namespace: str | None, name: str) -> str | None:
        """Return `uid:resourceVersion` of an object, or None; nothing but its metadata is sent or kept."""
        try:
            body = await self._read("version", kind, kind.path(namespace, name), accept=METADATA_ONLY)
        except NotFound:
            return None
        found = msgspec.json.decode(body, type=_Identified).metadata
        return f"{found.uid}:{found.resource_version}"

    async def serves(self, kind: Kind) -> bool:
        """Tell whether the API server knows a kind outside the core API in this version."""
        try:
            return discovery.lists(await self._read("discover", kind, f"/apis/{kind.api_version}"), kind)
        except NotFound:
            return False

    async def served(self) -> Served:
        """Return which optional APIs are there now."""
        found = [kind for kind in SOMETIMES_SERVED if await self.serves(kind)]
        suspend = SPARK_APPLICATION in found and await self._has_field(SPARK_APPLICATION, "suspend")
        return discovery.served(found, spark_suspend=suspend)

    # Writing

    async def apply(self, manifest: Manifest, kind: Kind, *, manager: str = MANAGER, force: bool = True) -> Manifest:
        """Make the fields of `manifest` so (server-side apply); return the whole object as it is now.

        Raises Invalid for an unknown field, Conflict where another manager owns a field and `force` is false.
        """
        metadata = manifest["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"])
        return await self._apply("apply", kind, path, manifest, manager=manager, force=force)

    async def apply_status(self, kind: Kind, namespace: str, name: str, status: Mapping[str, Any]) -> Manifest:
        """Make `status`, which is not empty, all that we say of an object's status; NotFound where there is none."""
        metadata = {"name": name, "namespace": namespace}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "status": status}
        path = kind.path(namespace, name, "status")
        return await self._apply("apply_status", kind, path, body, manager=MANAGER, force=True)

    async def patch(self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]) -> Manifest:
        """Change an object by a JSON merge patch; raises NotFound where there is none."""
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        request = Request("PATCH", kind.path(namespace, name), query, patch, MERGE)
        return _object(await self._call(_Call("patch", kind.kind, request, write=True)))

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """Delete an object, and in the background what it owns; fine if there is none.

        Raises Conflict if it is not the one with `uid`, or has changed since it had `resource_version`.
        """
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        wanted = {"uid": uid, "resourceVersion": resource_version}
        body = options | {"preconditions": {field: value for field, value in wanted.items() if value}}
        request = Request("DELETE", kind.path(namespace, name), {}, body)
        try:
            await self._call(_Call("delete", kind.kind, request, write=True))
        except NotFound:
            return

    async def event(self, kind: Kind, namespace: str, name: str, uid: str, notice: Noted) -> None:
        """Tell people what happened to an object. A repetition within 10 minutes counts the first event up.

        Never fails: an event that cannot be written is counted and logged.
        """
        about = About(kind, namespace, name, uid)
        # Names rise with time: `kubectl describe` shows these events in the order of their names.
        new_name = f"{name[:200]}.{time.time_ns():016x}{secrets.token_hex(2)}"
        series = self._recorder.happened(about, notice, datetime.now(UTC), new_name)
        try:
            await self._record(about, notice, series)
        except MarketfeedError as error:
            self._recorder.forget(about, notice)
            if self._metrics is not None:
                self._metrics.events_dropped.inc()
            _log.warning("event_dropped", about=f"{namespace}/{name}", reason=notice.reason, error=str(error))

    # One attempt

    async def attempt(self, verb: str, kind: Kind, request: Request, timeout_s: float) -> Manifest:
        """Send one request now: no guard, no pause, no second attempt. For the lease, which cannot wait."""
        return _object(await self._send(_Call(verb, kind.kind, request), timeout_s))

    # Inside

    async def _read(self, verb: str, kind: Kind, path: str, accept: str = "application/json") -> bytes:
        return await self._call(_Call(verb, kind.kind, Request("GET", path, {}, accept=accept)))

    async def _pages(self, kind: Kind, namespace: str | None, selector: str) -> Manifests:
        found: Manifests = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        for _ in range(_MOST_PAGES):
            body = await self._call(_Call("list", kind.kind, Request("GET", kind.path(namespace), query)))
            page = msgspec.json.decode(body, type=_Page)
            # Items of built-in kinds come without their own kind.
            found += ({"apiVersion": kind.api_version, "kind": kind.kind} | item for item in page.items or ())
            if not page.metadata.continue_:
                return found
            query["continue"] = page.metadata.continue_
        raise Gone(0, "Endless", f"the list of {kind.plural} has no end")

    async def _has_field(self, kind: Kind, name: str) -> bool:
        """Tell whether the kind has `spec.<name>`: by OpenAPI, which everybody may read, unlike the CRD."""
        path = f"/openapi/v3/apis/{kind.api_version}"
        try:
            return discovery.has_field(await self._read("discover", kind, path), kind, name)
        except NotFound:
            return False

    async def _apply(
        self, verb: str, kind: Kind, path: str, body: Mapping[str, Any], *, manager: str, force: bool
    ) -> Manifest:
        query = {"fieldManager": manager, "fieldValidation": "Strict", "force": str(force).lower()}
        request = Request("PATCH", path, query, body, APPLY)
        return _object(await self._call(_Call(verb, kind.kind, request, write=True)))

    async def _record(self, about: About, notice: Noted, series: recorder.Series) -> None:
        if series.count > 1:
            path = EVENT.path(about.namespace, series.event)
            request = Request("PATCH", path, {}, recorder.continued(series), MERGE)
        else:
            new = recorder.manifest(about, notice, series, self._instance)
            request = Request("POST", EVENT.path(about.namespace), {}, new)
        await self._call(_Call("event", EVENT.kind, request, write=True, idempotent=False, attempts=1))

    async def _call(self, call: _Call) -> bytes:
        """Return the answer's body; wait and try again as the policy says."""
        attempts = call.attempts or self._retries.attempts
        for attempt in range(attempts):
            self._allowed_s(call)  # no waiting in line for what would be refused
            await self._pacing.turn(write=call.write)
            try:
                return await self._send(call, self._allowed_s(call))
            except ApiError as error:
                wait_s = self._wait_after(error, attempt, call)
                if wait_s is None or attempt + 1 == attempts:
                    raise
                _log.debug("retrying", verb=call.verb, kind=call.kind, wait_s=wait_s, error=str(error))
            await self._pacing.wait("retry", wait_s)
        raise AssertionError(attempts)

    def _allowed_s(self, call: _Call) -> float:
        """Return how long the call may take: a write must have ended when the lease ends."""
        return min(self._timeout_s, self._guard()) if call.write else self._timeout_s

    def _wait_after(self, error: ApiError, attempt: int, call: _Call) -> float | None:
        asked_s = asked_pause_s(error, self._retries)
        if asked_s is not None:
            self._pacing.told_to_wait(asked_s)
        draw = self._pacing.draw()
        return next_wait_s(error, attempt, self._retries, idempotent=call.idempotent, draw=draw)

    async def _send(self, call: _Call, timeout_s: float) -> bytes:
        started = time.monotonic()
        code = 0
        try:
            answer = await self._transport.send(_with_deadline(call, timeout_s), timeout_s)
            code = answer.status
        finally:
            self._count(call, code, time.monotonic() - started)
        if answer.status >= _FIRST_ERROR:
            raise classify(answer.status, answer.body, answer.headers)
        return answer.body

    def _count(self, call: _Call, code: int, took_s: float) -> None:
        if self._metrics is not None:
            self._metrics.api_calls.labels(call.verb, call.kind, str(code)).inc()
            self._metrics.api_seconds.labels(call.verb).observe(took_s)


def _with_deadline(call: _Call, timeout_s: float) -> Request:
    """Return the request with its deadline: the API server too gives up a write by then."""
    if call.request.method == "GET":
        return call.request
    query = {**call.request.query, "timeout": f"{max(1, int(timeout_s * 1000))}ms"}
    return replace(call.request, query=query)


def _object(body: bytes) -> Manifest:
    try:
        found: Manifest = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Unanswered(0, "NotJson", "the API server's answer is no JSON object") from error
    return found
