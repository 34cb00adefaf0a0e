"""The models as the source of the custom resource's schema."""

from collections.abc import Iterator
from typing import Any

import pytest

from marketfeed_operator.models import MarketFeed

SCHEMA = MarketFeed.model_json_schema()


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every mapping of the schema with its path."""
    if isinstance(schema, dict):
        yield path, schema
        for name, inner in schema.items():
            yield from nodes(inner, f"{path}/{name}")
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from nodes(inner, f"{path}/{index}")


def properties() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every field of the document, outer or inner."""
    for path, node in nodes(SCHEMA):
        if "properties" in node:
            yield from ((f"{path}/{name}", field) for name, field in node["properties"].items())


def test_every_field_has_a_description() -> None:
    """`kubectl explain` has a sentence for each field, ending with a full stop or a note."""
    silent = [path for path, field in properties() if not field.get("description", "").endswith(".")]
    assert silent == []


def test_a_structural_schema_can_express_the_models() -> None:
    """No type refers to itself, and the only alternatives are a value or nothing."""
    unlike = [path for path, node in nodes(SCHEMA) if "anyOf" in node and node["anyOf"][1:] != [{"type": "null"}]]
    assert unlike == []
    inner = {
        name: {node["$ref"].rpartition("/")[2] for _, node in nodes(definition) if "$ref" in node}
        for name, definition in SCHEMA["$defs"].items()
    }
    while inner:
        leaves = {name for name, used in inner.items() if not used & inner.keys()}
        assert leaves, f"these refer to themselves: {sorted(inner)}"
        inner = {name: used for name, used in inner.items() if name not in leaves}


@pytest.mark.parametrize("keyword", ["oneOf", "allOf", "not", "patternProperties", "propertyNames", "prefixItems"])
def test_no_keyword_that_kubernetes_refuses(keyword: str) -> None:
    """Structural schemas lack these keywords, so the models' schema does too."""
    assert [path for path, node in nodes(SCHEMA) if keyword in node] == []
