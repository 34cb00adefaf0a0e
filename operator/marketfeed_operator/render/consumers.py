"""Consumers: a Deployment for each sink, whose pods bring the database's schema up to date before they write."""

from __future__ import annotations

from typing import Any

from marketfeed.settings import ConsumerSettings
from marketfeed_operator.models import Sink
from marketfeed_operator.objects import COMPONENT_CONSUMER, SINK_LABEL, Manifest
from marketfeed_operator.plan import Consumer, SecretUse, SecretVariable
from marketfeed_operator.render.context import Context
from marketfeed_operator.render.deployments import deployment
from marketfeed_operator.render.metadata import labels
from marketfeed_operator.render.pods import (
    Service,
    environment,
    plain_container,
    pod_template,
    resources,
    scratch_mount,
)
from marketfeed_operator.rules import DATABASES

_MEMORY_MIB = 256
_LEAST_LIMIT_MIB = 512  # four times the most that a consumer was measured to hold
_ROW_KIB = 4  # a row in a batch, once for each connection that writes, as a record and as text


def consumer_labels(context: Context, consumer: Consumer) -> dict[str, str]:
    """Return the labels of what belongs to one consumer."""
    return labels(context.owner, COMPONENT_CONSUMER, **{SINK_LABEL: consumer.sink})


def consumer_deployment(context: Context, consumer: Consumer) -> Manifest:
    """Return a consumer's Deployment."""
    sink = next(sink for sink in context.feed.spec.sinks if sink.name == consumer.sink)
    labelled, service = consumer_labels(context, consumer), _service(consumer, sink)
    template = pod_template(context, service, labelled, init=_migration(context, consumer, service))
    return deployment(context, consumer.name, labelled, part=SINK_LABEL, replicas=consumer.replicas, template=template)


def _service(consumer: Consumer, sink: Sink) -> Service:
    settings = consumer.settings
    most_mib = max(_LEAST_LIMIT_MIB, _MEMORY_MIB + -(-settings.batch_rows * _ROW_KIB // 1024))
    return Service(
        name=COMPONENT_CONSUMER,
        command=("marketfeed", "consume"),
        variables=settings.to_env(),
        secrets=consumer.secrets,
        port=settings.http.port,
        drain_s=settings.drain_timeout_s,
        resources=resources(sink.resources, "100m", "128Mi", most_mib),
        overlay=sink.pod_template,
    )


def _migration(context: Context, consumer: Consumer, service: Service) -> list[dict[str, Any]]:
    """Return the step before a database consumer. Every pod takes it: it is locked, and done once."""
    if consumer.type not in DATABASES:
        return []
    container = plain_container(context, "migrate", ("marketfeed", "migrate"), environment({}, _dsn(consumer)))
    return [{**container, "resources": service.resources, "volumeMounts": [scratch_mount()]}]


def _dsn(consumer: Consumer) -> list[SecretUse]:
    variable = ConsumerSettings.variable("dsn")
    return [use for use in consumer.secrets if isinstance(use, SecretVariable) and use.variable == variable]
