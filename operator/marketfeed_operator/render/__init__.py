"""From a plan to Kubernetes objects: everything that a feed needs in a cluster, as values.

What does not live here: which of them must be written (diff), what a change of them would do (changes), and doing it.
"""

from __future__ import annotations

from collections.abc import Mapping

from marketfeed_operator.handover import Holdings
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import Manifest, Served
from marketfeed_operator.plan import Plan
from marketfeed_operator.render.access import accounts, driver_role
from marketfeed_operator.render.analytics import spark_applications, thresholds
from marketfeed_operator.render.consumers import consumer_deployment
from marketfeed_operator.render.context import Context, Installation, Owner
from marketfeed_operator.render.exposure import disruption_budgets, pod_monitors, services
from marketfeed_operator.render.ingestors import ingestor, shards_to_run, streams_map
from marketfeed_operator.render.topics import kafka_topics

__all__ = ["Installation", "Owner", "render"]


def render(
    plan: Plan,
    feed: MarketFeed,
    owner: Owner,
    installation: Installation,
    served: Served,
    *,
    holdings: Holdings,
    secrets: Mapping[str, str | None],
    nudge: str | None = None,
) -> tuple[Manifest, ...]:
    """Return the feed's objects in the order in which they are to be written: what is needed before what needs it.

    holdings: the streams of each shard that is to run, planned or leaving; a planned shard that is missing is not run.
    secrets: the version of each secret that the feed names; None, or missing, for one that is not there.
    nudge: value of the driver's annotation that makes the streaming job start again.
    """
    context = Context(plan, feed, owner, installation, served, secrets)
    shards = shards_to_run(context, holdings)
    job = plan.analytics if served.spark_application else None
    return (
        *accounts(context, analytics=job is not None),
        *(driver_role(owner) if job is not None else ()),
        *(streams_map(context, shard, holdings[shard.name]) for shard in shards),
        *((thresholds(context, job),) if job is not None else ()),
        *kafka_topics(context),
        *services(context),
        *(ingestor(context, shard) for shard in shards),
        *(consumer_deployment(context, consumer) for consumer in plan.consumers),
        *disruption_budgets(context),
        *spark_applications(context, nudge),
        *pod_monitors(context),
    )
