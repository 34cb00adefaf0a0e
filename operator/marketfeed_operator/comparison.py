"""What applying a feed would change in a cluster, as a value: from the feed and what is there, with no client.

What does not live here: reading the cluster (against), and how a comparison is shown (describe).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketfeed.settings import KafkaSettings
from marketfeed_operator.changes import Difference, approval_hash, classify
from marketfeed_operator.handover import current_holdings
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import (
    APPROVE,
    COMPONENT,
    COMPONENT_CONSUMER,
    COMPONENT_INGESTOR,
    DEPLOYMENT,
    NUDGE,
    PAUSED,
    SECRETS,
    SPARK_APPLICATION,
    Manifest,
    annotations_of,
    key_of,
    labels_of,
)
from marketfeed_operator.observed import Observed
from marketfeed_operator.plan import Connections, Defaults, Plan, plan
from marketfeed_operator.render import Installation, Owner, render


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every change, and what it costs at the venue."""

    feed: str
    namespace: str
    differences: tuple[Difference, ...]
    connections: Connections
    shards_now: int
    shards_between: int  # while streams are handed over: those of now and those to come
    approval: str | None  # the hash that approves what is destructive
    approved: bool
    notes: tuple[str, ...]


def defaults_of(observed: Observed) -> Defaults:
    """Return the installation's defaults as far as the running processes show them."""
    kafka = (observed.feed.get("spec") or {}).get("kafka") or {}
    variable = KafkaSettings.variable("bootstrap_servers")
    found = [
        item["value"]
        for _, container in _containers(observed)
        for item in container.get("env") or ()
        if item.get("name") == variable and item.get("value")
    ]
    return Defaults(bootstrap_servers=found[0]) if found and not kafka.get("bootstrapServers") else Defaults()


def desired(feed: MarketFeed, made: Plan, observed: Observed) -> tuple[Manifest, ...]:
    """Return the objects that the feed asks for once all streams are handed over, in this cluster.

    Images and how they are fetched are those of the running processes: they are the installation's, not the feed's.
    """
    metadata = observed.feed["metadata"]
    return render(
        made,
        feed,
        Owner(str(metadata["name"]), str(metadata["namespace"]), str(metadata["uid"])),
        _installation(observed),
        observed.served,
        holdings=made.holdings,
        secrets=observed.secrets,
        nudge=_nudge(observed),
    )


def compare(
    feed: MarketFeed,
    wanted: Sequence[Manifest],
    observed: Observed,
    unreadable: Iterable[str] = (),
    staying: Iterable[str] = (),
) -> Comparison:
    """Return what applying the feed would change.

    unreadable: secrets whose version nobody would tell us. staying: what of the live feed is kept (applied).
    """
    made = plan(feed, defaults_of(observed))
    hidden = sorted(unreadable)
    if hidden:
        wanted = [_with_live_marks(manifest, observed.children.get(key_of(manifest))) for manifest in wanted]
    metadata = observed.feed["metadata"]
    uid = str(metadata["uid"])
    differences = classify(wanted, observed, uid, feed.spec.deletion_policy)
    before = current_holdings(observed, uid)
    approval = approval_hash(differences)
    given = {feed.metadata.annotations.get(APPROVE), annotations_of(observed.feed).get(APPROVE)}
    return Comparison(
        feed=str(metadata["name"]),
        namespace=str(metadata["namespace"]),
        differences=differences,
        connections=made.connections,
        shards_now=len(before),
        shards_between=len(before.keys() | {shard.name for shard in made.shards}),
        approval=approval,
        approved=approval is not None and approval in given,
        notes=(*_notes(observed, hidden), *staying, *made.warnings),
    )


def _notes(observed: Observed, hidden: Sequence[str]) -> Iterator[str]:
    if annotations_of(observed.feed).get(PAUSED) == "true":
        yield f"the feed is paused: nothing of this is done while its annotation {PAUSED} is true"
    if "deletionTimestamp" in observed.feed["metadata"]:
        yield "the feed is being deleted: apply it again once it is gone"
    if hidden:
        yield f"the version of {', '.join(hidden)} may not be read: whether a secret changed is not compared"
    if observed.served.kafka_topic is None:
        yield "KafkaTopic is not served by this cluster: topics are not compared"


def _containers(observed: Observed) -> Iterator[tuple[Manifest, Mapping[str, Any]]]:
    """Yield (Deployment, container) for every running process of the feed's own."""
    for manifest in observed.children.values():
        component = labels_of(manifest).get(COMPONENT)
        if manifest["kind"] == DEPLOYMENT.kind and component in (COMPONENT_INGESTOR, COMPONENT_CONSUMER):
            for container in manifest["spec"]["template"]["spec"]["containers"]:
                if container["name"] == component:
                    yield manifest, container


def _installation(observed: Observed) -> Installation:
    """Return the installation as most of the running processes have it; the usual one where nothing runs."""
    usual, running = Installation(), list(_containers(observed))
    job = _job(observed) or {}
    if not running and not job:
        return usual
    pods = [manifest["spec"]["template"]["spec"] for manifest, _ in running] or [job]
    containers = [container for _, container in running] or [job]
    pulls = [tuple(_secret_name(item) for item in pod.get("imagePullSecrets") or ()) for pod in pods]
    return Installation(
        services_image=_most([container.get("image") for _, container in running], usual.services_image),
        analytics_image=_most([job.get("image")], usual.analytics_image),
        image_pull_policy=_most([item.get("imagePullPolicy") for item in containers], usual.image_pull_policy),
        image_pull_secrets=Counter(pulls).most_common(1)[0][0],
    )


def _most(found: Iterable[Any], usual: str) -> str:
    counted = Counter(item for item in found if isinstance(item, str))
    return counted.most_common(1)[0][0] if counted else usual


def _secret_name(item: Any) -> str:
    """Return the name that a pod writes as `{name: x}` and a SparkApplication as `x`."""
    return str(item["name"] if isinstance(item, Mapping) else item)


def _job(observed: Observed) -> Mapping[str, Any] | None:
    """Return the spec of the feed's streaming job."""
    jobs = [manifest for manifest in observed.children.values() if manifest["kind"] == SPARK_APPLICATION.kind]
    found: Mapping[str, Any] | None = jobs[0].get("spec") if jobs else None
    return found


def _nudge(observed: Observed) -> str | None:
    driver = (_job(observed) or {}).get("driver") or {}
    value: str | None = (driver.get("annotations") or {}).get(NUDGE)
    return value


def _with_live_marks(wanted: Any, live: Any) -> Any:
    """Return the object with the live versions of its secrets, where it has some."""
    if not isinstance(wanted, Mapping) or not isinstance(live, Mapping):
        return wanted
    return {
        name: live.get(name, value) if name == SECRETS else _with_live_marks(value, live.get(name))
        for name, value in wanted.items()
    }
