"""What an operator may see of a feed, object by object, as a real cluster has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from documents import changed
from marketfeed_operator.objects import KAFKA_TOPIC_V1, Key, Manifest, Served, key_of
from marketfeed_operator.observed import Observed, Sample
from marketfeed_operator.outcome import Outcome
from marketfeed_operator.plan import plan
from marketfeed_operator.spec import parse

NOW = datetime(2026, 11, 21, 15, 0, 0, tzinfo=UTC)
EVERYTHING = Served(kafka_topic=KAFKA_TOPIC_V1, spark_application=True, spark_suspend=True, pod_monitor=True)
SHARD, SINK = "spot-ingestor-0", "spot-consumer-timescale"
PROOF = {"window_s": 600, "checked_at": 1.0, "missing": 0, "expected": 500, "stored": 500, "unprovable_streams": 0}
INGESTOR_STATS = {"last_message_age_s": 0.2, "messages_per_second": 4123.4}
CONSUMER_STATS = {"lag_seconds": 0.84, "assigned_partitions": 3, "proof": PROOF}


def later(seconds: float) -> datetime:
    """Return the moment so many seconds after NOW."""
    return NOW + timedelta(seconds=seconds)


def stamp(moment: datetime) -> str:
    """Return a time as the API writes it."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def feed(changes: Mapping[str, Any] | None = None, status: Mapping[str, Any] | None = None) -> Manifest:
    """Return the document of tests/documents as an API server has it."""
    document = changed(dict(changes or {}))
    document["metadata"] |= {"namespace": "md", "uid": "u1", "generation": 3}
    return {**document, "status": dict(status or {"observedGeneration": -1})}


def outcome(body: Manifest, **fields: Any) -> Outcome:
    """Return the outcome of a reconciliation of this feed in which all went well."""
    parsed = parse({name: value for name, value in body.items() if name != "status"})
    return replace(Outcome(feed=parsed, plan=plan(parsed)), **fields)


def topic(name: str, *conditions: Mapping[str, Any], seen: int | None = 1, **metadata: Any) -> Manifest:
    """Return a KafkaTopic of generation 1; Strimzi has said these conditions of generation `seen`."""
    said = conditions or ({"type": "Ready", "status": "True"},)
    status = {} if seen is None else {"conditions": [*said], "observedGeneration": seen}
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {
            "name": name,
            "namespace": "kafka",
            "uid": f"uid-{name}",
            "generation": 1,
            "resourceVersion": "7",
            "labels": {"claim.marketfeed.dev/u1": "spot"},
            **metadata,
        },
        "spec": {"partitions": 3, "replicas": 3},
        "status": status,
    }


def deployment(name: str, replicas: int = 1, available: int | None = None, **status: int) -> Manifest:
    """Return a Deployment of generation 2 with so many available pods, by default all."""
    count = replicas if available is None else available
    counts = {"observedGeneration": 2, "replicas": replicas, "updatedReplicas": replicas, "availableReplicas": count}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "md", "generation": 2, "labels": {}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}},
        "status": {**counts, **status},
    }


def pod(
    owner: str,
    name: str | None = None,
    *,
    containers: Sequence[Mapping[str, Any]] = (),
    init: Sequence[Mapping[str, Any]] = (),
    created: str = "2026-11-21T14:00:00Z",
    template: str = "t1",
    **status: Any,
) -> Manifest:
    """Return a pod of a Deployment, with the states of its containers."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name or f"{owner}-x",
            "namespace": "md",
            "labels": {"app": owner, "pod-template-hash": template},
            "creationTimestamp": created,
        },
        "spec": {"containers": [{"name": "service", "image": "marketfeed/services:1"}]},
        "status": {
            "phase": "Running",
            "containerStatuses": list(containers),
            "initContainerStatuses": list(init),
            **status,
        },
    }


def sample(owner: str, stats: Mapping[str, Any] | None, problem: str | None = None) -> Sample:
    """Return what the Deployment's pod said a moment ago."""
    return Sample(pod=f"{owner}-x", at=NOW.timestamp(), stats=stats, problem=problem)


def healthy(body: Manifest, *others: Manifest, without: Sequence[str] = (), **fields: Any) -> Observed:
    """Return the sight of a feed of which all is well, with other objects in place of those of the same key."""
    objects = [
        topic("binance.trades"),
        topic("binance.dlq"),
        deployment(SHARD),
        deployment(SINK),
        *others,
    ]
    children: dict[Key, Manifest] = {key_of(one): one for one in objects if one["metadata"]["name"] not in without}
    sight = Observed(
        feed=body,
        served=EVERYTHING,
        children=children,
        pods=(pod(SHARD), pod(SINK)),
        secrets={"timescale": "v1"},
        samples={
            f"{SHARD}-x": sample(SHARD, INGESTOR_STATS),
            f"{SINK}-x": sample(SINK, CONSUMER_STATS),
        },
    )
    return replace(sight, **fields)
