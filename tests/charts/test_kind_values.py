"""What `make kind` gives our charts: settings that they know, and that make of them what kind needs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from charting import CHARTS, of_kind, one, render

KIND = CHARTS.parent / "manifests" / "kind"
STRIMZI = ("kafka.strimzi.io/v1/Kafka", "kafka.strimzi.io/v1/KafkaNodePool", "kafka.strimzi.io/v1")
MONITORING = ("monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule")
BUILT = {"repository": "localhost/marketfeed/services", "tag": "dev-0123456789ab"}
IMAGES: dict[str, dict[str, Any]] = {
    "platform": {"simulator": {"image": BUILT}},
    "operator": {"image": BUILT, "services": {"image": BUILT}, "analytics": {"image": BUILT}},
}
"""Where up.sh names the images that were built."""


def values(name: str) -> dict[str, Any]:
    """Return the settings of kind for one of our charts."""
    document = yaml.safe_load((KIND / f"values-{name}.yaml").read_text())
    assert isinstance(document, dict)
    return document


def unknown(given: Any, schema: Any, path: str = "") -> list[str]:
    """Return the paths of settings that a schema does not name."""
    if not isinstance(given, dict) or "properties" not in schema:
        return []
    known = schema["properties"]
    here = [f"{path}{name}" for name in given if name not in known]
    return here + [
        inner for name in given if name in known for inner in unknown(given[name], known[name], f"{path}{name}.")
    ]


@pytest.mark.parametrize("name", ["platform", "operator"])
def test_kinds_settings_are_known_to_the_chart(name: str) -> None:
    """Every setting in kind's file, and each image that up.sh names, is in the chart's schema."""
    schema = json.loads((CHARTS / f"marketfeed-{name}" / "values.schema.json").read_text())
    assert unknown(values(name), schema) == []
    assert unknown(IMAGES[name], schema) == []


def test_the_platform_on_kind_asks_strimzi_for_its_broker() -> None:
    """A Kafka called kafka and no broker of the chart's own; the simulator's image is the built one; no Prometheus."""
    objects = render(
        CHARTS / "marketfeed-platform",
        {**values("platform"), **IMAGES["platform"]},
        name="platform",
        namespace="kafka",
        api_versions=STRIMZI,
    )
    assert one(objects, "Kafka")["metadata"]["name"] == "kafka"
    text = json.dumps(objects)
    assert "localhost/marketfeed/services:dev-0123456789ab" in text
    names = {each["metadata"]["name"] for each in [*of_kind(objects, "Deployment"), *of_kind(objects, "StatefulSet")]}
    assert names.isdisjoint({"kafka", "prometheus", "grafana"})


def test_the_operator_on_kind_is_scraped_and_lets_feeds_reach_the_simulator() -> None:
    """A PodMonitor for kube-prometheus-stack; the feeds' policies in `default` open the simulator's two ports."""
    objects = render(
        CHARTS / "marketfeed-operator", {**values("operator"), **IMAGES["operator"]}, api_versions=MONITORING
    )
    assert of_kind(objects, "PodMonitor")
    policies = [each for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["namespace"] == "default"]
    text = json.dumps(policies)
    assert '"port": 8765' in text
    assert '"port": 8766' in text
