"""Shards: each a Deployment, and a ConfigMap with its streams.

A change of the streams changes the ConfigMap alone, which the running ingestor takes over: nothing here that goes into
a pod template may depend on them.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import PurePosixPath

from marketfeed_operator.handover import Holdings
from marketfeed_operator.objects import (
    COMPONENT_INGESTOR,
    CONFIG_MAP,
    SHARD_LABEL,
    Manifest,
)
from marketfeed_operator.plan import Shard
from marketfeed_operator.render.context import Context
from marketfeed_operator.render.deployments import deployment
from marketfeed_operator.render.metadata import child, labels
from marketfeed_operator.render.pods import Service, pod_template, resources

_MEMORY_MIB = 192  # six times what an ingestor was measured to hold beside its queue, and the kernel's buffers
_MIB = 1 << 20
_STREAMS_VOLUME = "streams"


def shards_to_run(context: Context, holdings: Holdings) -> tuple[Shard, ...]:
    """Return every shard that holds something: the planned ones, then those that leave, which run as the others do."""
    planned = {shard.name: shard for shard in context.plan.shards}
    leaving = sorted(set(holdings) - set(planned))
    usual = context.plan.shards[0]
    return (
        *(shard for name, shard in planned.items() if name in holdings),
        *(replace(usual, name=name, streams=(), settings=replace(usual.settings, shard=name)) for name in leaving),
    )


def streams_map(context: Context, shard: Shard, streams: Collection[str]) -> Manifest:
    """Return the ConfigMap with a shard's streams."""
    text = json.dumps({"streams": sorted(streams)}, separators=(",", ":"))
    return child(CONFIG_MAP, context.owner, shard.name, _labels(context, shard), data={_streams_file(shard).name: text})


def ingestor(context: Context, shard: Shard) -> Manifest:
    """Return a shard's Deployment: one pod, which is the connection to the venue."""
    labelled = _labels(context, shard)
    volume = {"name": _STREAMS_VOLUME, "configMap": {"name": shard.name}}
    # The directory, because a file that is mounted alone never changes.
    mount = {"name": _STREAMS_VOLUME, "mountPath": str(_streams_file(shard).parent), "readOnly": True}
    template = pod_template(context, _service(context, shard), labelled, volumes=[volume], mounts=[mount])
    return deployment(context, shard.name, labelled, part=SHARD_LABEL, replicas=1, template=template)


def _service(context: Context, shard: Shard) -> Service:
    ingest, settings = context.feed.spec.ingest, shard.settings
    # A full queue is held twice: as records here, and as batches in the client.
    most_mib = _MEMORY_MIB + -(-2 * settings.producer.queue_bytes // _MIB)
    return Service(
        name=COMPONENT_INGESTOR,
        command=("marketfeed", "ingest"),
        variables=settings.to_env(),
        secrets=shard.secrets,
        port=settings.http.port,
        drain_s=settings.drain_timeout_s,
        resources=resources(ingest.resources, "100m", "64Mi", most_mib),
        overlay=ingest.pod_template,
    )


def _labels(context: Context, shard: Shard) -> dict[str, str]:
    return labels(context.owner, COMPONENT_INGESTOR, **{SHARD_LABEL: shard.name})


def _streams_file(shard: Shard) -> PurePosixPath:
    return PurePosixPath(shard.settings.streams_file)
