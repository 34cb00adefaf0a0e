"""Reading a cluster for `marketfeed plan --against cluster`. Nothing is written.

What does not live here: what is made of it (comparison).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubernetes.aio import config
from kubernetes.aio.config.config_exception import ConfigException

from marketfeed.errors import ConfigurationError
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.errors import ApiError, Forbidden
from marketfeed_operator.api.transport import absent_kubeconfig
from marketfeed_operator.applied import applied
from marketfeed_operator.comparison import Comparison, compare, defaults_of, desired
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import (
    ALWAYS_SERVED,
    CLAIM_PREFIX,
    MARKETFEED,
    POD_MONITOR,
    SECRET,
    SPARK_APPLICATION,
    UID_LABEL,
    Key,
    Kind,
    Manifest,
    Served,
    key_of,
    kind_of,
)
from marketfeed_operator.observed import Observed
from marketfeed_operator.plan import Plan, plan

_IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_UNKNOWN_UID = "not-created-yet"
_AT_ONCE = 8  # requests


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster, and which namespace of it; None is what the kubeconfig says."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None


def compared(feed: MarketFeed, target: Target) -> Comparison:
    """Return what applying the feed would change in the cluster.

    Raises ConfigurationError for a feed or a kubeconfig that cannot be used, ApiError where the cluster does not answer
    or does not let its objects be read.
    """
    namespace = _namespace(feed, target)
    return asyncio.run(_compared(feed, target, namespace))


def _namespace(feed: MarketFeed, target: Target) -> str:
    """Return the feed's namespace: the one asked for, else the file's, else the kubeconfig's."""
    asked, written = target.namespace, feed.metadata.namespace
    if asked and written and asked != written:
        raise ConfigurationError(f"the feed is of namespace {written}, not {asked}: leave out -n, or change the file")
    return asked or written or _usual_namespace(target)


def _usual_namespace(target: Target) -> str:
    if absent_kubeconfig(target.kubeconfig):
        return _IN_CLUSTER.read_text().strip() if _IN_CLUSTER.is_file() else "default"
    try:
        contexts, active = config.list_kube_config_contexts(target.kubeconfig)
    except (ConfigException, OSError):
        return "default"
    chosen = next((item for item in contexts if item["name"] == target.context), active)
    return str(chosen.get("context", {}).get("namespace") or "default")


async def _compared(feed: MarketFeed, target: Target, namespace: str) -> Comparison:
    cluster = await Cluster.connect(target.kubeconfig, target.context)
    try:
        return await _Reader(cluster, feed, namespace).read()
    except ApiError as error:
        raise type(error)(error.status, error.reason, f"{cluster.host}: {error}", error.retry_after_s) from error
    finally:
        await cluster.close()


class _Reader:
    """One reading of one feed's objects, a few requests at once."""

    def __init__(self, cluster: Cluster, feed: MarketFeed, namespace: str) -> None:
        self._cluster = cluster
        self._feed = feed
        self._namespace = namespace
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def read(self) -> Comparison:
        """Read what is there, then what would be adopted."""
        name = self._feed.metadata.name
        body = await self._cluster.get(MARKETFEED, self._namespace, name)
        self._feed, staying = applied(self._feed, body)
        metadata = {"name": name, "namespace": self._namespace, "uid": _UNKNOWN_UID}
        served = await self._cluster.served()
        children = [] if body is None else await self._children(body, served)
        observed = Observed(body or {"metadata": metadata}, served, {key_of(child): child for child in children})
        made = plan(self._feed, defaults_of(observed))
        versions = await self._versions(made)
        secrets = {secret: version for secret, version, _ in versions}
        observed = dataclasses.replace(observed, secrets=secrets)
        wanted = desired(self._feed, made, observed)
        found = await self._named([key_of(each) for each in wanted if key_of(each) not in observed.children], wanted)
        complete = dataclasses.replace(
            observed, children={**observed.children, **{key_of(each): each for each in found}}
        )
        hidden = [secret for secret, _, readable in versions if not readable]
        return compare(self._feed, wanted, complete, hidden, staying)

    async def _children(self, body: Manifest, served: Served) -> list[Manifest]:
        """Return the feed's objects, and the topics that it claims."""
        uid = body["metadata"]["uid"]
        kinds = [
            *ALWAYS_SERVED,
            *([SPARK_APPLICATION] if served.spark_application else []),
            *([POD_MONITOR] if served.pod_monitor else []),
        ]
        lists = [self._list(kind, self._namespace, f"{UID_LABEL}={uid}") for kind in kinds]
        if (topics := served.kafka_topic) is not None:
            spaces = {self._feed.spec.kafka.topics.namespace, _topic_namespace(body)}
            lists += [self._list(topics, space, f"{CLAIM_PREFIX}{uid}") for space in sorted(spaces)]
        return [found for each in await asyncio.gather(*lists) for found in each]

    async def _list(self, kind: Kind, namespace: str, selector: str) -> Sequence[Manifest]:
        async with self._places:
            return await self._cluster.list(kind, namespace, selector)

    async def _named(self, keys: Iterable[Key], wanted: Sequence[Manifest]) -> list[Manifest]:
        """Return the objects of these keys that are there."""
        kinds = {key_of(manifest): kind_of(manifest) for manifest in wanted}
        found = await asyncio.gather(*(self._get(kinds[key], key) for key in keys))
        return [manifest for manifest in found if manifest is not None]

    async def _get(self, kind: Kind, key: Key) -> Manifest | None:
        async with self._places:
            return await self._cluster.get(kind, key.namespace, key.name)

    async def _versions(self, made: Plan) -> list[tuple[str, str | None, bool]]:
        """Return (secret, version, whether we may know it); a secret's value is never asked for."""
        return list(await asyncio.gather(*map(self._version, made.secret_names)))

    async def _version(self, secret: str) -> tuple[str, str | None, bool]:
        async with self._places:
            try:
                return secret, await self._cluster.version(SECRET, self._namespace, secret), True
            except Forbidden:
                return secret, None, False


def _topic_namespace(body: Manifest) -> str:
    """Return the namespace of the topics that the live feed has, as it may be another than the file's."""
    topics = ((body.get("spec") or {}).get("kafka") or {}).get("topics") or {}
    return str(topics.get("namespace") or "kafka")
