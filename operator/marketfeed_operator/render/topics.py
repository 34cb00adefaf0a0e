"""Topics as Strimzi's KafkaTopics: shared by feeds, so nobody's child, and labelled with who wants them.

What does not live here: letting a topic go when its last feed is gone (deletion), and topics without Strimzi.
"""

from __future__ import annotations

from typing import Any

from marketfeed.settings import Topic
from marketfeed_operator import names
from marketfeed_operator.objects import CLAIM_PREFIX, POLICY, Kind, Manifest
from marketfeed_operator.render.context import Context
from marketfeed_operator.render.metadata import COMPONENT_TOPIC, common_labels

_CLUSTER = "strimzi.io/cluster"
_SAFE_REPLICAS = 3


def kafka_topics(context: Context) -> tuple[Manifest, ...]:
    """Return the feed's topics; none where somebody else provides them, or where nobody serves their API."""
    kind = context.served.kafka_topic
    if kind is None or context.feed.spec.kafka.topics.provisioner != "strimzi":
        return ()
    return tuple(_kafka_topic(context, kind, topic) for topic in context.plan.topics)


def _kafka_topic(context: Context, kind: Kind, topic: Topic) -> Manifest:
    """Return one topic. All feeds say the same of it, but for the label that claims it."""
    wanted, name = context.feed.spec.kafka.topics, names.topic_resource(topic.name)
    metadata = {
        "name": name,
        "namespace": wanted.namespace,
        "labels": {
            **common_labels(COMPONENT_TOPIC),
            _CLUSTER: wanted.cluster,
            CLAIM_PREFIX + context.owner.uid: names.claim(context.owner.namespace, context.owner.name),
        },
        "annotations": {POLICY: context.feed.spec.deletion_policy},
    }
    spec = {
        **({} if name == topic.name else {"topicName": topic.name}),
        "partitions": topic.partitions,
        "replicas": topic.replicas,
        "config": _config(topic),
    }
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


def _config(topic: Topic) -> dict[str, Any]:
    """Return the topic's configuration.

    A record that every replica in sync has confirmed can still be lost while only one is in sync. With three replicas
    two must be: then any one broker may go, and neither records nor the topic's writability go with it.
    """
    config: dict[str, Any] = {}
    if topic.retention_ms is not None:
        config["retention.ms"] = topic.retention_ms
    if topic.replicas >= _SAFE_REPLICAS:
        config["min.insync.replicas"] = 2
    return config
