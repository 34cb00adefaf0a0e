"""The CustomResourceDefinition: complete, explained, small, and the same as the models."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from documents import DOCUMENT, changed
from feeds import documents
from marketfeed_operator import crd
from marketfeed_operator.spec import parse

SCHEMA: dict[str, Any] = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every field of the schema with its path, as spec.sinks[].name."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}{name}", field
        yield from fields(field, f"{path}{name}.")
    if "items" in schema:
        yield from fields(schema["items"], f"{path.removesuffix('.')}[].")


def defaulted(schema: dict[str, Any], value: Any) -> Any:
    """Return the value with the schema's defaults, filled in as an API server does."""
    if isinstance(value, list):
        return [defaulted(schema["items"], item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = schema.get("properties", {})
    known = {name: deepcopy(field["default"]) for name, field in inner.items() if "default" in field}
    return {name: defaulted(inner.get(name, {}), item) for name, item in {**known, **value}.items()}


@pytest.mark.parametrize("file", [crd.FILE, crd.CHART_FILE], ids=["crds", "chart"])
def test_the_file_is_up_to_date(file: Path) -> None:
    """crds/ and the operator's chart hold what the models make now."""
    assert file.read_text(encoding="utf-8") == crd.text(), f"{file} is stale: run `make generate`"


def test_the_file_is_small_enough_to_be_applied() -> None:
    """Below 100 KB `kubectl apply` can keep the last-applied document in an annotation."""
    assert len(crd.text().encode()) < 100_000


def test_every_field_is_explained() -> None:
    """`kubectl explain` has a sentence for each field of spec and status."""
    silent = [
        path
        for path, field in fields(SCHEMA)
        if not path.startswith("metadata") and not field.get("description", "").endswith(".")
    ]
    assert silent == []


def test_every_field_has_one_type_and_no_word_that_kubernetes_refuses() -> None:
    """The schema is structural: a type for each field and item, and no references or alternatives."""
    refused = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const", "additionalProperties"}
    for path, field in fields(SCHEMA):
        assert "type" in field, path
        assert "type" in field.get("items", {"type": ""}), path
        assert not refused & field.keys(), path


def test_what_rules_look_at_is_bounded() -> None:
    """Texts and lists of the spec have a greatest length, by which an API server counts the cost of rules."""
    spec = list(fields(SCHEMA["properties"]["spec"]))
    assert [path for path, field in spec if field["type"] == "array" and "maxItems" not in field] == []
    texts = [(path, item) for path, field in spec for item in (field, field.get("items", {}))]
    unbounded = [
        path for path, item in texts if item.get("type") == "string" and not {"maxLength", "enum"} & item.keys()
    ]
    assert unbounded == []


@settings(deadline=None)  # the claim is not about time
@given(documents())
def test_defaults_are_those_of_the_models(document: dict[str, Any]) -> None:
    """A document with the schema's defaults filled in is the feed that the models make of the document itself."""
    assert parse(defaulted(SCHEMA, document)).spec == parse(document).spec


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"spec.analytics": {}},
        {"spec.discovery": {}},
        {"spec.kafka.schemaRegistry": {"url": "http://registry:8081"}},
    ],
)
def test_defaults_of_sections_that_may_be_absent_are_those_of_the_models(changes: dict[str, Any]) -> None:
    """A section that is there but empty gets the models' defaults, and one that is not there stays away."""
    document = changed(changes)
    assert parse(defaulted(SCHEMA, document)).spec == parse(document).spec


def test_a_new_feed_is_never_taken_for_one_that_was_seen() -> None:
    """The status begins with a generation that no spec has."""
    assert defaulted(SCHEMA, DOCUMENT)["status"] == {"observedGeneration": -1}


def test_columns_and_scale_point_at_fields_that_exist() -> None:
    """No column of `kubectl get` and no path of `kubectl scale` is misspelt."""
    version = crd.definition()["spec"]["versions"][0]
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    paths += version["subresources"]["scale"].values()
    known = {f".{path}" for path, _ in fields(SCHEMA)} | {".metadata.creationTimestamp"}
    plain = [path.replace('[?(@.type=="Ready")]', "[]").replace('[?(@.type=="Complete")]', "[]") for path in paths]
    assert set(plain) <= known
