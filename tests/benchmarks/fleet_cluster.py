"""The cluster of the operator's benchmark: a real control plane without nodes, a person who uses it, and the operator.

No pod runs: nodes and services for hundreds of feeds would cost this machine more than all that is measured.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.children import Failed
from benchmarks.fleet_feeds import SECRET, SYMBOLS, children, namespaces
from benchmarks.fleet_sides import unlimited
from benchmarks.services import LOCAL_HTTP, Service, environment
from controlplane import ControlPlane, Request, crds
from controlplane.install import install, own
from marketfeed_operator import rbac
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.objects import CONFIG_MAP, KINDS, MANAGED_BY, MANAGER, MARKETFEED, Key, key_of
from marketfeed_operator.settings import OperatorSettings

_NAMESPACE = _ACCOUNT = "marketfeed-operator"
USER = f"system:serviceaccount:{_NAMESPACE}:{_ACCOUNT}"
_TEST_MANAGER = "person"
_PATIENCE_S = 86_400.0  # no Spark operator takes the jobs on, which is worth a status after some minutes
_LOOK_S = 0.05
_ASK_S = 0.5


class Operator(Service):
    """One replica, its settings the defaults but for what is said; it never loses patience with streaming jobs."""

    @classmethod
    def of(cls, plane: ControlPlane, folder: Path, **changes: Any) -> Self:
        """Start it under its own account."""
        kubeconfig = plane.service_account_kubeconfig(_NAMESPACE, _ACCOUNT, folder / "operator.kubeconfig")
        settings = OperatorSettings(namespace=_NAMESPACE, http=LOCAL_HTTP, analytics_patience_s=_PATIENCE_S, **changes)
        log = folder / f"operator-{time.monotonic_ns()}.log"
        return cls(["operator", "--kubeconfig", str(kubeconfig)], environment(settings), log)

    def metrics(self) -> Metrics:
        """Return its metrics as they are now."""
        with urlopen(f"{self.listening()['url']}/metrics", timeout=10) as answer:  # noqa: S310 - our own http URL
            return Metrics(answer.read().decode())


class Metrics:
    """What a process's metrics were at one time."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a name that have these labels."""
        return sum(item.value for item in self._samples if item.name == name and labels.items() <= item.labels.items())

    def by(self, name: str, label: str) -> Counter[str]:
        """Return the sums for each value of a label."""
        found: Counter[str] = Counter()
        for item in self._samples:
            if item.name == name:
                found[item.labels[label]] += int(item.value)
        return found


class Person:
    """Somebody with a client of his own, who makes feeds and changes them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def apply(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Apply feeds."""
        for given in documents:
            await self._cluster.apply(given, MARKETFEED, manager=_TEST_MANAGER)

    async def delete(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Delete feeds."""
        for given in documents:
            metadata = given["metadata"]
            await self._cluster.delete(MARKETFEED, metadata["namespace"], metadata["name"])

    async def adds_a_symbol(self, given: Mapping[str, Any], symbol: str, deadline_s: float) -> float:
        """Add a symbol to a feed; return how long it takes until its shard's ConfigMap holds it, s."""
        metadata = given["metadata"]
        place = metadata["namespace"], metadata["name"]
        began = time.monotonic()
        await self._cluster.patch(MARKETFEED, *place, {"spec": {"symbols": [*SYMBOLS, symbol]}})
        while symbol not in await self._streams(place[0], f"{place[1]}-ingestor-0"):
            if time.monotonic() - began > deadline_s:
                raise Failed(f"a symbol that was added had not arrived after {deadline_s:g} s")
            await asyncio.sleep(_LOOK_S)
        return time.monotonic() - began

    async def _streams(self, namespace: str, name: str) -> str:
        found = await self._cluster.get(CONFIG_MAP, namespace, name)
        return "" if found is None else str(found["data"]["streams.json"])

    async def missing(self, documents: Sequence[Mapping[str, Any]], prefix: str) -> list[str]:
        """Return what is not as the feeds ask for: objects that are not there, statuses that are not of now."""
        wanted = _wanted(documents)
        feeds = await self._cluster.list(MARKETFEED, None)
        stale = [str(key_of(feed)) for feed in feeds if not _told(feed)]
        return [*map(str, sorted(wanted - await self._there(wanted, prefix))), *stale]

    async def has_all(self, documents: Sequence[Mapping[str, Any]], prefix: str) -> bool:
        """Tell whether all is there that the feeds ask for."""
        wanted = _wanted(documents)
        return wanted <= await self._there(wanted, prefix)

    async def has_none(self, documents: Sequence[Mapping[str, Any]], prefix: str) -> bool:
        """Tell whether nothing is there that the feeds ask for."""
        return not await self._there(_wanted(documents), prefix)

    async def _there(self, wanted: AbstractSet[Key], prefix: str) -> AbstractSet[Key]:
        """Return the operator's objects of these kinds in namespaces that begin so."""
        kinds = {KINDS[key.group, key.kind] for key in wanted}
        lists = [await self._cluster.list(kind, None, f"{MANAGED_BY}={MANAGER}") for kind in kinds]
        return {key for found in lists for key in map(key_of, found) if key.namespace.startswith(prefix)}


def _wanted(documents: Sequence[Mapping[str, Any]]) -> AbstractSet[Key]:
    return {key_of(manifest) for given in documents for manifest in children(given)}


def _told(feed: Mapping[str, Any]) -> bool:
    return bool((feed.get("status") or {}).get("observedGeneration") == feed["metadata"]["generation"])


@asynccontextmanager
async def person(plane: ControlPlane) -> AsyncIterator[Person]:
    """Return a person until the block ends."""
    cluster = await Cluster.connect(str(plane.kubeconfig), settings=unlimited())
    try:
        yield Person(cluster)
    finally:
        await cluster.close()


def prepare(plane: ControlPlane, prefixes: Iterable[str]) -> None:
    """Install the definitions and the operator's account, and make namespaces with the feeds' Secret."""
    install(plane, [*own(), *crds.third_party()])
    objects: list[Mapping[str, Any]] = [_namespace(_NAMESPACE), *rbac.manifests(_ACCOUNT, _NAMESPACE)]
    for name in (name for prefix in prefixes for name in namespaces(prefix)):
        metadata = {"name": SECRET, "namespace": name}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"dsn": "postgresql://db"}}
        objects += [_namespace(name), secret]
    plane.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def _namespace(name: str) -> Mapping[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def writes(plane: ControlPlane, since: datetime) -> list[Request]:
    """Return what the operator has written, its Lease left out."""
    return [request for request in plane.writes(USER, since) if request.resource != "leases"]


def of_children(request: Request) -> bool:
    """Tell whether a write was of an object that a feed asks for: not of a status, an event or a pod."""
    return not request.resource.endswith("/status") and request.resource not in ("events", "pods")


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float) -> None:
    """Wait until the condition holds; raises Failed saying `what` did not come."""
    end = time.monotonic() + deadline_s
    while not await condition():
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {deadline_s:g} s")
        await asyncio.sleep(_ASK_S)


async def rest(operator: Operator, for_s: float, deadline_s: float) -> None:
    """Wait until the operator has written nothing for a while."""
    seen, since = -1.0, time.monotonic()

    async def quiet() -> bool:
        nonlocal seen, since
        now = await asyncio.to_thread(_written, operator)
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since >= for_s

    await until(quiet, "the operator at rest", deadline_s)


def _written(operator: Operator) -> float:
    verbs = ("apply", "apply_status", "patch", "delete", "event")
    return sum(operator.metrics().sum("marketfeed_operator_api_calls_total", verb=verb) for verb in verbs)
