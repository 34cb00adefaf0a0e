"""Objects as YAML, and those of a feed for people to read and for clusters that run no operator.

What does not live here: what the objects hold (render).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import CLAIM_PREFIX, KAFKA_TOPIC_V1, SECRETS, UID_LABEL, Manifest, Served
from marketfeed_operator.plan import plan
from marketfeed_operator.render import Installation, Owner, render

_EVERYTHING = Served(KAFKA_TOPIC_V1, spark_application=True, spark_suspend=True, pod_monitor=True)
_NOBODY = "nobody"


def manifests(feed: MarketFeed, namespace: str | None = None) -> str:
    """Return the objects as YAML documents in the order in which they are to be applied.

    What ties them to a MarketFeed in a cluster is left out: owner, uid, claims of topics, versions of secrets. They are
    of `namespace`, else of the feed's own, else of `default`.
    """
    made = plan(feed)
    owner = Owner(feed.metadata.name, namespace or feed.metadata.namespace or "default", _NOBODY)
    found = render(made, feed, owner, Installation(), _EVERYTHING, holdings=made.holdings, secrets={})
    return as_yaml(map(_loose, found))


def as_yaml(found: Iterable[Manifest]) -> str:
    """Return objects as YAML documents, fields in the objects' own order."""
    return str(yaml.dump_all(found, Dumper=_Dumper, sort_keys=False, explicit_start=True, width=120))


class _Dumper(yaml.SafeDumper):
    """Writes equal values out again instead of pointing at the first."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the library's signature
        return True


def _loose(manifest: Manifest) -> dict[str, Any]:
    """Return the object as plain data that no feed in a cluster owns."""
    found: dict[str, Any] = _without_ties(json.loads(json.dumps(manifest)))
    return found


def _without_ties(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_ties(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    kept = {name: _without_ties(item) for name, item in value.items() if not _ties(name)}
    return {name: item for name, item in kept.items() if item or item == value[name]}  # drops maps that are empty now


def _ties(name: str) -> bool:
    return name in ("ownerReferences", UID_LABEL, SECRETS) or name.startswith(CLAIM_PREFIX)
