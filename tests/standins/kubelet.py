"""Plays the nodes: binds pods, runs them in name only, answers for their services, and takes deleted ones away.

True to life: the words of a kubelet's statuses, missing Secrets and ConfigMaps, when a changed ConfigMap arrives in a
running pod (after `sync_s`, or at once when the pod's own annotations or labels change), pods that ended stay ended.
Not so: there is one node of endless size, no image is pulled, no probe is sent (readiness follows the service),
restarts are not counted, no events are written.
Each pod listens on a loopback address of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from standins.api import CONFLICT, NOT_FOUND, Api, ApiError, Key, Mirror, Object, key_of, matches, timestamp
from standins.pods import Cause, Facts, Failure, missing, status, unschedulable
from standins.services import Service
from standins.standin import StandIn, control

NODE = "stand-in"
_STREAMS_KEY = "streams.json"
_LEASE_S = 10.0
_LABEL = "marketfeed.dev/"

_log = logging.getLogger("standins.kubelet")


@dataclass(slots=True)
class Life:
    """One pod on the node, from its binding to its removal; times are seconds since the epoch."""

    key: Key
    uid: str
    ip: str
    bound_at: float
    service: Service
    server: asyncio.Server | None = None
    started: str | None = None  # when its containers were started
    remount_at: float | None = None
    remove_at: float | None = None
    down: bool = False  # its containers do not run just now


class Kubelet(StandIn):
    """Runs all pods of the cluster. Selectors are `label=value,...` or a pod's name; they mean later pods, too."""

    def __init__(
        self,
        api: Api,
        *,
        start_s: float = 0.2,
        stop_s: float = 0.2,
        sync_s: float = 60.0,
        remount_s: float = 0.1,
        acknowledge_s: float = 0.2,
        rate: float = 100.0,
    ) -> None:
        """Take s from binding to running, from deletion to removal, from a changed ConfigMap or pod to its mount."""
        super().__init__(api)
        self.start_s, self.stop_s, self.sync_s, self.remount_s = start_s, stop_s, sync_s, remount_s
        self.acknowledge_s, self.rate = acknowledge_s, rate
        self._lives: dict[Key, Life] = {}
        self._said: dict[str, Object] = {}  # by the pod's uid: the status that was written last, without times
        self._mounting: dict[Key, set[Key]] = {}  # ConfigMap → pods
        self._failures: dict[str, Failure] = {}
        self._held: set[str] = set()
        self._silent: set[str] = set()
        self._overrides: dict[str, dict[str, Any]] = {}
        self._web = web.Server(self._answer, access_log=None)
        self._by_address: dict[str, Life] = {}
        self._addresses = itertools.count(256)
        self.mirrors()  # empty ones: it may be commanded before it starts

    # -- what tests command ------------------------------------------------------------------------------------------

    @control
    def fail(
        self,
        selector: str,
        cause: Cause,
        message: str | None = None,
        *,
        exit_code: int = 1,
        container: str | None = None,
    ) -> None:
        """Let something be wrong with pods until `heal`; `message` is the last words of the container."""
        self._failures[selector] = Failure(cause, message, exit_code, container)
        self._look_at_all()

    @control
    def heal(self, selector: str) -> None:
        """Take a failure back. Pods that ended stay so."""
        self._failures.pop(selector, None)
        self._look_at_all()

    @control
    def hold(self, selector: str) -> None:
        """Let the venue acknowledge no new streams to these pods, until `release`."""
        self._held.add(selector)

    @control
    def release(self, selector: str) -> None:
        """Let the venue answer again."""
        self._held.discard(selector)
        self._look_at_all()

    @control
    def stats(self, selector: str, **figures: Any) -> None:
        """Have these pods' /stats say so; called without figures: the usual again."""
        self._overrides[selector] = figures

    @control
    def silence(self, selector: str) -> None:
        """Let these pods hang up on every request, until `speak`."""
        self._silent.add(selector)

    @control
    def speak(self, selector: str) -> None:
        """Let them answer again."""
        self._silent.discard(selector)

    @control
    def carried(self, selector: str) -> frozenset[str]:
        """Return the streams that the running ones of these pods carry, together."""
        found = [
            life.service.carried for key, life in self._lives.items() if self._means(selector, key) and life.server
        ]
        return frozenset().union(*found)

    # -- the reconciler ----------------------------------------------------------------------------------------------

    def mirrors(self) -> list[Mirror]:
        self._pods = Mirror(self.api, "/api/v1/pods", self._pod_changed)
        self._secrets = Mirror(self.api, "/api/v1/secrets", self._reference_changed)
        self._config_maps = Mirror(self.api, "/api/v1/configmaps", self._config_map_changed)
        return [self._config_maps, self._secrets, self._pods]

    async def aside(self) -> None:
        """Keep the node alive, or the node controller would evict its pods."""
        while True:
            try:
                await self._keep_node()
            except (ApiError, OSError) as error:
                _log.debug("node: %s", error)
            await asyncio.sleep(_LEASE_S)

    async def close(self) -> None:
        await super().close()
        for key in list(self._lives):
            self._end(key)

    async def reconcile(self, key: Key) -> float | None:
        pod, life = self._pods.objects.get(key), self._lives.get(key)
        if life is not None and (pod is None or pod["metadata"]["uid"] != life.uid):
            self._end(key)
            life = None
        if pod is None:
            return None
        if "deletionTimestamp" in pod["metadata"]:
            return await self._remove(key, pod, life)
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            self._end(key)
            return None
        if "nodeName" not in pod["spec"]:
            await self._schedule(key, pod)
            return None
        return await self._keep(pod, life or self._begin(key, pod))

    async def _schedule(self, key: Key, pod: Object) -> None:
        failure = self._failure(pod)
        if failure is not None and failure.cause == "Unschedulable":
            await self._say(pod, unschedulable(failure))
            return
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": key.name}, "target": target}
        try:
            await self.api.create(f"{_path(key)}/binding", binding)
        except ApiError as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise

    async def _keep(self, pod: Object, life: Life) -> float | None:
        now = time.time()
        if (wait_s := life.bound_at + self.start_s - now) > 0:
            return wait_s
        failure = self._failure(pod)
        if failure is None and life.started is None:
            failure = missing(pod, self._secrets.objects, self._config_maps.objects)
        again_s = None
        if failure is None or failure.cause == "NotReady":
            await self._run(pod, life, now)
            again_s = self._mount(pod, life, now)
        life.down = failure is not None and failure.cause != "NotReady"
        life.service.failing = (failure.message or failure.cause) if failure else None
        facts = Facts(life.ip, life.started or timestamp(), life.service.problem() is None, failure)
        await self._say(pod, status(pod, facts))
        return again_s

    async def _run(self, pod: Object, life: Life, now: float) -> None:
        """Start the containers, and their service."""
        if life.started is not None:
            return
        life.started = timestamp()
        life.service.started_at = now
        port = _port(pod)
        while port is not None and life.server is None:
            try:
                life.server = await self.loop.create_server(self._web, life.ip, port)
            except OSError:  # somebody else's: the next address
                life.ip = self._address()
        self._by_address[life.ip] = life
        life.service.mount(self._mounted(pod), now)

    def _mount(self, pod: Object, life: Life, now: float) -> float | None:
        """Bring the mounted streams up to date, and have them acknowledged; return when to look again, s."""
        service = life.service
        if life.remount_at is not None and life.remount_at <= now:
            life.remount_at = None
            service.mount(self._mounted(pod), now)
        waits = [] if life.remount_at is None else [life.remount_at - now]
        if service.carried != service.desired and not self._is(self._held, pod):
            if service.mounted_at + self.acknowledge_s <= now:
                service.acknowledge(now)
            else:
                waits.append(service.mounted_at + self.acknowledge_s - now)
        return min(waits, default=None)

    async def _remove(self, key: Key, pod: Object, life: Life | None) -> float | None:
        now = time.time()
        if life is not None:
            life.remove_at = life.remove_at or now + self.stop_s
            if life.remove_at > now:
                return life.remove_at - now
        self._end(key)
        await self.api.delete(_path(key), pod["metadata"]["uid"], grace_s=0)
        return None

    async def _say(self, pod: Object, new: Object) -> None:
        """Write the status, if it says anything new."""
        uid = pod["metadata"]["uid"]
        if new == self._said.get(uid):
            return
        since = {c["type"]: (c["status"], c["lastTransitionTime"]) for c in pod["status"].get("conditions", [])}
        conditions = []
        for condition in new["conditions"]:
            before, at = since.get(condition["type"], (None, None))
            changed = at if before == condition["status"] else timestamp()
            conditions.append({**condition, "lastTransitionTime": changed})
        patch = {"metadata": {"uid": uid}, "status": {**new, "conditions": conditions}}
        try:
            await self.api.merge(f"{_path(key_of(pod))}/status", patch)
            self._said[uid] = new
            _log.info("pod %s/%s: %s", *key_of(pod), _summary(new))
        except ApiError as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is None:
            return web.Response()
        life = self._by_address.get(request.transport.get_extra_info("sockname")[0])
        pod = self._pods.objects.get(life.key) if life else None
        if life is None or pod is None or life.down or self._is(self._silent, pod):
            request.transport.abort()
            return web.Response()
        chosen = [figures for selector, figures in self._overrides.items() if matches(selector, pod)]
        life.service.overrides = {name: value for figures in chosen for name, value in figures.items()}
        code, body = life.service.answer(request.path, time.time())
        return web.json_response(body, status=code)

    # -- what changes ------------------------------------------------------------------------------------------------

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        key = key_of(new or old or {})
        life = self._lives.get(key)
        if old and new and life and _own(old) != _own(new):
            life.remount_at = min(life.remount_at or float("inf"), time.time() + self.remount_s)
        if new is None and old is not None:
            self._said.pop(old["metadata"]["uid"], None)
        self.queue.add(key)

    def _config_map_changed(self, old: Object | None, new: Object | None) -> None:
        found = key_of(new or old or {})
        for key in self._mounting.get(found, ()):
            life = self._lives[key]
            life.remount_at = life.remount_at or time.time() + self.sync_s
            self.queue.add(key)
        self._reference_changed(old, new)

    def _reference_changed(self, old: Object | None, new: Object | None) -> None:
        """Look at the pods that may have waited for it."""
        namespace = key_of(new or old or {}).namespace
        for key, life in self._lives.items():
            if key.namespace == namespace and life.started is None:
                self.queue.add(key)

    def _look_at_all(self) -> None:
        for key in self._pods.objects:
            self.queue.add(key)

    # -- pods ---------------------------------------------------------------------------------------------------------

    def _begin(self, key: Key, pod: Object) -> Life:
        life = Life(key, pod["metadata"]["uid"], self._address(), time.time(), _service(pod, self.rate))
        self._lives[key] = life
        for name in _mounted_config_maps(pod):
            self._mounting.setdefault(Key(key.namespace, name), set()).add(key)
        return life

    def _end(self, key: Key) -> None:
        life = self._lives.pop(key, None)
        for pods in self._mounting.values():
            pods.discard(key)
        if life is not None:
            self._by_address.pop(life.ip, None)
            if life.server is not None:
                life.server.close()

    def _address(self) -> str:
        """Return the next address of 127.0.0.0/8; other processes' stand-ins begin elsewhere."""
        number = next(self._addresses)
        return f"127.{16 + os.getpid() % 200}.{number // 250 % 250}.{1 + number % 250}"

    def _mounted(self, pod: Object) -> frozenset[str]:
        """Return the streams of the ConfigMap that the pod mounts, as it is now."""
        for name in _mounted_config_maps(pod):
            found = self._config_maps.objects.get(Key(pod["metadata"]["namespace"], name), {}).get("data") or {}
            if _STREAMS_KEY in found:
                return frozenset(json.loads(found[_STREAMS_KEY])["streams"])
        return frozenset()

    def _failure(self, pod: Object) -> Failure | None:
        return next((failure for selector, failure in self._failures.items() if matches(selector, pod)), None)

    def _means(self, selector: str, key: Key) -> bool:
        pod = self._pods.objects.get(key)
        return pod is not None and matches(selector, pod)

    @staticmethod
    def _is(selectors: set[str], pod: Object) -> bool:
        return any(matches(selector, pod) for selector in selectors)

    async def _keep_node(self) -> None:
        now = datetime.now(UTC)
        await self._ensure("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "stand-in posts ready status"}
        ready |= {"lastHeartbeatTime": timestamp(now), "lastTransitionTime": timestamp(now)}
        await self.api.merge(f"/api/v1/nodes/{NODE}/status", {"status": {"conditions": [ready]}})
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        spec = {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": f"{now:%Y-%m-%dT%H:%M:%S.%fZ}"}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE}, "spec": spec}
        await self._ensure(leases, lease)
        await self.api.merge(f"{leases}/{NODE}", {"spec": spec})

    async def _ensure(self, path: str, body: Object) -> None:
        try:
            await self.api.create(path, body)
        except ApiError as error:
            if error.status != CONFLICT:
                raise


def _summary(said: Object) -> str:
    """Return what a person would want to know of a status."""
    waiting = [
        each["state"]["waiting"]["reason"] for each in said.get("containerStatuses", []) if "waiting" in each["state"]
    ]
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in said["conditions"])
    return ", ".join([said["phase"], *waiting, *(["ready"] if ready else [])])


def _path(key: Key) -> str:
    return f"/api/v1/namespaces/{key.namespace}/pods/{key.name}"


def _own(pod: Object) -> tuple[Any, Any]:
    """Return what of a pod, when it changes, makes a kubelet look at its mounts."""
    return pod["metadata"].get("annotations"), pod["metadata"].get("labels")


def _mounted_config_maps(pod: Object) -> list[str]:
    return [volume["configMap"]["name"] for volume in pod["spec"].get("volumes", []) if "configMap" in volume]


def _port(pod: Object) -> int | None:
    """Return the port that the pod's service listens on: one called http, else the first that is declared."""
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    chosen = next((port for port in ports if port.get("name") == "http"), ports[0] if ports else None)
    return int(chosen["containerPort"]) if chosen else None


def _service(pod: Object, rate: float) -> Service:
    """Return the service that a pod's labels and environment tell of."""
    labels = pod["metadata"].get("labels") or {}
    env = {each["name"]: each.get("value", "") for c in pod["spec"]["containers"] for each in c.get("env", [])}
    return Service(
        role=labels.get("app.kubernetes.io/component", ""),
        feed=env.get("MARKETFEED_FEED") or labels.get(f"{_LABEL}feed", ""),
        name=env.get("MARKETFEED_SHARD") or labels.get(f"{_LABEL}shard") or labels.get(f"{_LABEL}sink", ""),
        exchange=env.get("MARKETFEED_EXCHANGE", ""),
        rate=rate,
        started_at=time.time(),
    )
