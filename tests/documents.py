"""MarketFeed documents to change and to break."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from marketfeed.errors import ConfigurationError
from marketfeed_operator.spec import parse

SINK = {"name": "timescale", "type": "timescaledb", "secretRef": {"name": "timescale", "key": "dsn"}}
DOCUMENT = {
    "apiVersion": "marketfeed.dev/v1alpha1",
    "kind": "MarketFeed",
    "metadata": {"name": "spot"},
    "spec": {"exchange": "binance", "symbols": ["BTCUSDT"], "channels": ["trade"], "sinks": [SINK]},
}
ABSENT = object()


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the document with values set (or taken out) at dotted paths, as `spec.sinks.0.type`."""
    document = copy.deepcopy(DOCUMENT)
    for path, value in changes.items():
        *outer, last = path.split(".")
        parent: Any = document
        for part in outer:
            parent = parent[int(part)] if part.isdigit() else parent.setdefault(part, {})
        if value is ABSENT:
            del parent[last]
        else:
            parent[last] = value
    return document


def problems(document: Any) -> str:
    """Return what is said about a document that must be refused."""
    with pytest.raises(ConfigurationError) as caught:
        parse(document, "feed.yaml")
    return str(caught.value)


def report(*sentences: str) -> str:
    """Return the report of exactly these problems."""
    if len(sentences) == 1:
        return f"feed.yaml: {sentences[0]}"
    return "\n".join([f"feed.yaml: {len(sentences)} problems", *(f"  {sentence}" for sentence in sentences)])
