"""What applying a file makes of a feed that is in a cluster already: what others have set there stays.

`kubectl apply` changes what the file holds, and removes what an earlier apply has set and the file leaves out. What
anybody else has set, as `kubectl scale` does, is left alone.
What does not live here: what the feed needs then (plan), and comparing that with a cluster (comparison).
Source: kubernetes.io, "Declarative Management of Kubernetes Objects" and "Server-Side Apply".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import Manifest, annotations_of
from marketfeed_operator.spec import parse
from marketfeed_operator.wording import shortened

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation, kubectl's: the document that was applied last."""

_STAYING_SHOWN = 10
_LONGEST_VALUE = 60  # characters

_Tree = Mapping[str, Any]


def applied(feed: MarketFeed, live: Manifest | None) -> tuple[MarketFeed, tuple[str, ...]]:
    """Return the feed as it is after applying, and a sentence for each field that stays as it is in the cluster.

    live: the feed in the cluster, None where there is none. Raises ConfigurationError where both do not go together.
    """
    if live is None or not live.get("spec"):
        return feed, ()
    document = _content(feed, unset=False)
    written = document.get("spec") or {}
    kept = _without(live["spec"], _last_applied(live), written, whole=True)
    for owned in _owned(live):
        kept = _without(kept, owned, written, whole=False)
    spec = _merged(kept, written)
    after = parse({**document, "spec": spec}, "the file, applied to the feed in the cluster")
    return after, tuple(_staying(_content(feed)["spec"], _content(after)["spec"], "spec"))[:_STAYING_SHOWN]


def _content(feed: MarketFeed, *, unset: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = feed.model_dump(mode="json", by_alias=True, exclude_unset=not unset, exclude_none=True)
    return found


def _last_applied(live: Manifest) -> _Tree:
    """Return the spec of what client-side apply wrote last."""
    try:
        document = json.loads(annotations_of(live).get(LAST_APPLIED, "{}"))
    except ValueError:
        return {}
    spec = document.get("spec") if isinstance(document, dict) else None
    return spec if isinstance(spec, dict) else {}


def _owned(live: Manifest) -> Iterator[_Tree]:
    """Yield the fields of the spec that server-side apply has set, for each who applied."""
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("operation") == "Apply":
            yield _named((entry.get("fieldsV1") or {}).get("f:spec") or {})


def _named(fields: _Tree) -> dict[str, Any]:
    """Return the tree of names in a `fieldsV1`; elements of lists are not told apart."""
    return {name[2:]: _named(inner) for name, inner in fields.items() if name.startswith("f:")}


def _without(spec: _Tree, earlier: _Tree, written: _Tree, *, whole: bool) -> dict[str, Any]:
    """Return the spec without what an earlier apply set and the file leaves out; `whole`: with all that is within."""
    found = dict(spec)
    for name in earlier.keys() & found.keys():
        inner, given = earlier[name], written.get(name)
        nested = isinstance(inner, Mapping) and bool(inner) and isinstance(found[name], Mapping)
        if nested and (isinstance(given, Mapping) or (given is None and not whole)):
            found[name] = _without(found[name], inner, given or {}, whole=whole)
        elif name not in written:
            del found[name]
    return found


def _merged(live: _Tree, written: _Tree) -> dict[str, Any]:
    """Return the file's fields over the live ones; lists are replaced."""
    found = dict(live)
    for name, value in written.items():
        before = found.get(name)
        nested = isinstance(value, Mapping) and isinstance(before, Mapping)
        found[name] = _merged(before, value) if nested and before is not None else value
    return found


def _staying(file: Any, after: Any, path: str) -> Iterator[str]:
    if isinstance(file, Mapping) and isinstance(after, Mapping):
        for name in sorted(file.keys() | after.keys()):
            yield from _staying(file.get(name), after.get(name), f"{path}.{name}")
    elif file != after:
        shown = shortened(json.dumps(after), _LONGEST_VALUE)
        yield f"{path} stays {shown}: it was set in the cluster, and the file leaves it out"
