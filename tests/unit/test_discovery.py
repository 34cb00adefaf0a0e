"""Which optional APIs a cluster has."""

from __future__ import annotations

import json

from marketfeed_operator.api import discovery
from marketfeed_operator.objects import KAFKA_TOPIC_V1, KAFKA_TOPIC_V1BETA2, SPARK_APPLICATION, Served


def test_the_newer_topic_version_is_preferred() -> None:
    """v1 where it is served, else v1beta2, else none."""
    assert discovery.served([KAFKA_TOPIC_V1BETA2, KAFKA_TOPIC_V1], spark_suspend=False).kafka_topic == KAFKA_TOPIC_V1
    assert discovery.served([KAFKA_TOPIC_V1BETA2], spark_suspend=False).kafka_topic == KAFKA_TOPIC_V1BETA2
    assert discovery.served([], spark_suspend=True) == Served()


def test_a_group_without_the_kind_does_not_serve_it() -> None:
    """A group version that has other kinds, or the kind's subresource only, is not enough."""
    others = {"resources": [{"name": "kafkas", "kind": "Kafka"}, {"name": "kafkatopics/status", "kind": "KafkaTopic"}]}
    assert not discovery.lists(json.dumps(others).encode(), KAFKA_TOPIC_V1)
    others["resources"].append({"name": "kafkatopics", "kind": "KafkaTopic"})
    assert discovery.lists(json.dumps(others).encode(), KAFKA_TOPIC_V1)


def test_a_field_is_found_in_the_schema_of_its_own_kind() -> None:
    """`suspend` of another kind of the same group does not count."""
    schema = {
        "properties": {"spec": {"properties": {"suspend": {}}}},
        "x-kubernetes-group-version-kind": [{"kind": "ScheduledSparkApplication"}],
    }
    document = {"components": {"schemas": {"a": schema, "b": {"type": "object"}}}}
    assert not discovery.has_field(json.dumps(document).encode(), SPARK_APPLICATION, "suspend")
    schema["x-kubernetes-group-version-kind"] = [{"kind": "SparkApplication"}]
    assert discovery.has_field(json.dumps(document).encode(), SPARK_APPLICATION, "suspend")


def test_what_is_served_reads_well() -> None:
    """A log says it in words."""
    assert str(Served(KAFKA_TOPIC_V1, spark_application=True, spark_suspend=True, pod_monitor=True)) == (
        "KafkaTopic v1, SparkApplication with suspend, PodMonitor"
    )
    assert str(Served(KAFKA_TOPIC_V1BETA2, spark_application=True)) == "KafkaTopic v1beta2, SparkApplication"
    assert str(Served()) == "none"
