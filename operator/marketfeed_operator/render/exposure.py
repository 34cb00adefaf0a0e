"""How a feed's pods are found and spared: services, disruption budgets, and what Prometheus is to scrape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marketfeed_operator import names
from marketfeed_operator.objects import (
    COMPONENT,
    COMPONENT_CONSUMER,
    COMPONENT_INGESTOR,
    DISRUPTION_BUDGET,
    FEED_LABEL,
    POD_MONITOR,
    SERVICE,
    SHARD_LABEL,
    SINK_LABEL,
    Manifest,
)
from marketfeed_operator.render.consumers import consumer_labels
from marketfeed_operator.render.context import Context
from marketfeed_operator.render.metadata import COMPONENT_FEED, child, labels
from marketfeed_operator.render.pods import HTTP_PORT

_TARGET_LABELS = {"feed": FEED_LABEL, "component": COMPONENT, "shard": SHARD_LABEL, "sink": SINK_LABEL}
_NOT_IN_NAMES = re.compile(r"\W")  # what Prometheus replaces in the names of labels


def services(context: Context) -> tuple[Manifest, ...]:
    """Return a service for the ingestors and one for the consumers, if there are such.

    They have no address of their own: each pod has health and figures of its own, and names find all of them. Pods
    that are not ready are found too, because those are the ones that somebody wants to look at.
    """
    ports = {COMPONENT_INGESTOR: context.plan.shards[0].settings.http.port}
    if context.plan.consumers:
        ports[COMPONENT_CONSUMER] = context.plan.consumers[0].settings.http.port
    return tuple(_service(context, component, port) for component, port in ports.items())


def _service(context: Context, component: str, port: int) -> Manifest:
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": _component_selector(context, component),
        "ports": [{"name": HTTP_PORT, "port": port, "targetPort": HTTP_PORT, "protocol": "TCP"}],
    }
    owner = context.owner
    return child(SERVICE, owner, names.service(owner.name, component), labels(owner, component), spec=spec)


def disruption_budgets(context: Context) -> tuple[Manifest, ...]:
    """Return a budget over all ingestors, and one for each consumer that has several replicas.

    One pod at a time may be evicted. A minimum would hold up a drain for ever, because each shard is a single pod.
    """
    owner, component = context.owner, COMPONENT_INGESTOR
    selector = _component_selector(context, component)
    ingestors = _budget(context, names.service(owner.name, component), labels(owner, component), selector)
    consumers = (
        _budget(context, consumer.name, labelled, {label: labelled[label] for label in (FEED_LABEL, SINK_LABEL)})
        for consumer in context.plan.consumers
        if consumer.replicas > 1
        for labelled in [consumer_labels(context, consumer)]
    )
    return (ingestors, *consumers)


def _budget(context: Context, name: str, labelled: dict[str, str], selector: Mapping[str, str]) -> Manifest:
    spec: dict[str, Any] = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": dict(selector)},
        # While a venue or a database is away no pod is ready, and nodes can be drained all the same.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return child(DISRUPTION_BUDGET, context.owner, name, labelled, spec=spec)


def pod_monitors(context: Context) -> tuple[Manifest, ...]:
    """Return what tells Prometheus to scrape every pod of the feed, where somebody serves that API."""
    if not context.served.pod_monitor:
        return ()
    owner = context.owner
    spec = {
        "selector": {"matchLabels": {FEED_LABEL: owner.name}},
        "podMetricsEndpoints": [
            # What a service says of its own shard and sink is the same as its pod's labels: it is not renamed.
            {"port": HTTP_PORT, "path": "/metrics", "honorLabels": True, "relabelings": _target_labels()}
        ],
    }
    return (child(POD_MONITOR, owner, owner.name, labels(owner, COMPONENT_FEED), spec=spec),)


def _target_labels() -> list[dict[str, Any]]:
    """Return how pods' labels become labels of all series: by the short names that rules and dashboards use."""
    return [
        {
            "sourceLabels": [f"__meta_kubernetes_pod_label_{_NOT_IN_NAMES.sub('_', label)}"],
            "targetLabel": short,
            "action": "replace",
        }
        for short, label in _TARGET_LABELS.items()
    ]


def _component_selector(context: Context, component: str) -> dict[str, str]:
    return {FEED_LABEL: context.owner.name, COMPONENT: component}
