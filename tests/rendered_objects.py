"""Objects rendered as the operator would render them, and what a test wants to find in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from documents import changed
from marketfeed_operator.handover import Holdings
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import KAFKA_TOPIC_V1, Manifest, Served
from marketfeed_operator.plan import Plan, plan
from marketfeed_operator.render import Installation, Owner, render
from marketfeed_operator.spec import parse

UID = "6f7c1c52-3c2b-4b0e-9a53-0d9f5d3c8a11"
EVERYTHING = Served(kafka_topic=KAFKA_TOPIC_V1, spark_application=True, spark_suspend=True, pod_monitor=True)
INSTALLATION = Installation(services_image="registry/services:1", analytics_image="registry/analytics:1")


def owner_of(feed: MarketFeed) -> Owner:
    """Return the feed as an owner, with a namespace and a uid where it has none."""
    metadata = feed.metadata
    return Owner(metadata.name, metadata.namespace or "market", metadata.uid or UID)


def planned_holdings(made: Plan) -> dict[str, frozenset[str]]:
    """Return the streams that every shard holds when nothing moves."""
    return made.holdings


def secret_versions(made: Plan) -> dict[str, str | None]:
    """Return a version for every secret that the plan names."""
    uses = [use for shard in made.shards for use in shard.secrets]
    uses += [use for consumer in made.consumers for use in consumer.secrets]  # among them those of the streaming job
    return {use.name: f"uid-{use.name}:7" for use in uses}


def rendered(
    feed: MarketFeed,
    *,
    installation: Installation = INSTALLATION,
    served: Served = EVERYTHING,
    holdings: Holdings | None = None,
    secrets: Mapping[str, str | None] | None = None,
    nudge: str | None = None,
) -> tuple[Manifest, ...]:
    """Return all objects of a feed, in a cluster that serves everything and has every secret."""
    made = plan(feed)
    return render(
        made,
        feed,
        owner_of(feed),
        installation,
        served,
        holdings=planned_holdings(made) if holdings is None else holdings,
        secrets=secret_versions(made) if secrets is None else secrets,
        nudge=nudge,
    )


def feed_with(changes: dict[str, Any]) -> MarketFeed:
    """Return the usual document's feed with these changes."""
    return parse(changed(changes))


def objects_with(changes: dict[str, Any], **options: Any) -> tuple[Manifest, ...]:
    """Return all objects of the usual document with these changes."""
    return rendered(feed_with(changes), **options)


def of_kind(objects: tuple[Manifest, ...], kind: str) -> list[Any]:
    """Return the objects of one kind, in their order."""
    return [item for item in objects if item["kind"] == kind]


def named(objects: tuple[Manifest, ...], kind: str, name: str) -> Any:
    """Return the object of this kind and name."""
    return next(item for item in of_kind(objects, kind) if item["metadata"]["name"] == name)


def pod_templates(objects: tuple[Manifest, ...]) -> Iterator[tuple[str, Any]]:
    """Return every pod template with the place where it stands."""
    for item in objects:
        place = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] == "Deployment":
            yield place, item["spec"]["template"]
        if item["kind"] == "SparkApplication":
            yield f"{place} driver", item["spec"]["driver"]["template"]
            yield f"{place} executor", item["spec"]["executor"]["template"]


def without(served: Served, **missing: Any) -> Served:
    """Return what is served, changed."""
    return replace(served, **missing)
