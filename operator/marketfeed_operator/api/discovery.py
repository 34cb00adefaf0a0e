"""Which optional APIs a cluster has, read from the API server's own documents. Pure.

What does not live here: fetching them (cluster).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from marketfeed_operator.objects import (
    KAFKA_TOPIC_V1,
    KAFKA_TOPIC_V1BETA2,
    POD_MONITOR,
    SPARK_APPLICATION,
    Kind,
    Served,
)


class _Resource(msgspec.Struct):
    name: str
    kind: str


class _ResourceList(msgspec.Struct):
    resources: list[_Resource]


class _Schemas(msgspec.Struct):
    schemas: dict[str, dict[str, Any]] = {}


class _OpenApi(msgspec.Struct):
    components: _Schemas = msgspec.field(default_factory=_Schemas)


def lists(resource_list: bytes, kind: Kind) -> bool:
    """Tell whether a group version's APIResourceList holds `kind`."""
    found = msgspec.json.decode(resource_list, type=_ResourceList).resources
    return any(resource.name == kind.plural and resource.kind == kind.kind for resource in found)


def has_field(openapi: bytes, kind: Kind, name: str) -> bool:
    """Tell whether objects of `kind` have `spec.<name>`, by a group version's OpenAPI v3 document."""
    return any(
        name in schema.get("properties", {}).get("spec", {}).get("properties", {})
        for schema in msgspec.json.decode(openapi, type=_OpenApi).components.schemas.values()
        if any(served.get("kind") == kind.kind for served in schema.get("x-kubernetes-group-version-kind", ()))
    )


def served(kinds: Collection[Kind], *, spark_suspend: bool) -> Served:
    """Return what to use of the optional kinds that were found."""
    topic = next((kind for kind in (KAFKA_TOPIC_V1, KAFKA_TOPIC_V1BETA2) if kind in kinds), None)
    spark = SPARK_APPLICATION in kinds
    return Served(topic, spark, spark and spark_suspend, POD_MONITOR in kinds)
