"""The first example's variants for small clusters: they say the same but for what such a cluster needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from feed_files import MANIFESTS, VARIANTS
from marketfeed_operator.plan import plan
from marketfeed_operator.spec import load

EXAMPLE = MANIFESTS / "examples" / "binance-spot.yaml"
SIMULATOR = {
    "spec.endpoints.websocket": "ws://simulator.kafka:8765",
    "spec.endpoints.rest": ["http://simulator.kafka:8766"],
}
ONE_BROKER = {"spec.kafka.topics.replicas": 1}
FEW_CORES = {f"spec.analytics.{role}.coreRequest": "200m" for role in ("driver", "executor")}
DIFFERENCES = {
    "kind": {**SIMULATOR, **ONE_BROKER, **FEW_CORES},
    "simulated": {**SIMULATOR, **ONE_BROKER, "spec.kafka.topics.provisioner": "direct"},
}
NEEDS_SPARK = "spec.analytics."  # may be left out: not every small cluster has the Spark operator


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a document that is no mapping, with its dotted path."""
    if not isinstance(value, dict):
        yield path, value
        return
    for name, inner in value.items():
        yield from leaves(inner, f"{path}.{name}" if path else name)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda path: path.parent.name)
def test_a_variant_differs_only_where_it_must(variant: Path) -> None:
    """Nothing else of the example is missing or changed, and what is added is the simulator and the one broker."""
    usual = dict(leaves(yaml.safe_load(EXAMPLE.read_text())))
    own = dict(leaves(yaml.safe_load(variant.read_text())))
    assert [path for path in usual if path not in own and not path.startswith(NEEDS_SPARK)] == []
    assert {path: value for path, value in own.items() if usual.get(path) != value} == DIFFERENCES[variant.parent.name]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda path: path.parent.name)
def test_a_variant_takes_its_venue_from_the_platforms_simulator(variant: Path) -> None:
    """Its ingestor is given the addresses of the platform chart's simulator, and no venue on the Internet."""
    (shard,) = plan(load(variant.read_text(), variant.name)).shards
    environment = shard.settings.to_env()
    assert environment["MARKETFEED_WEBSOCKET_URL"] == "ws://simulator.kafka:8765"
    assert environment["MARKETFEED_REST_URLS"] == "http://simulator.kafka:8766"
