"""Comparing what the watches told us with what the API server has: at the start, and now and then for ever.

A watch can go mute, and a deletion that falls between two lists is never told: what is found here is put right, and a
kind whose watch misses things twice in a row is named, so that the process can be started anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.objects import Key, Kind, Manifest, key_of
from marketfeed_operator.store import Change, Store, version
from marketfeed_operator.watch import Watched

_GRACE_S = 3.0  # within which a healthy watch tells what a list shows


async def fill(cluster: Cluster, store: Store, watched: Iterable[Watched], namespaces: Sequence[str]) -> None:
    """Take the present state of every watched kind, before anything is decided."""
    for one in watched:
        for manifest in await listed(cluster, one, namespaces):
            store.put(manifest)


async def compare(cluster: Cluster, store: Store, watched: Watched, namespaces: Sequence[str]) -> list[Change]:
    """Return what the watch of a kind has missed, after putting it right in the store."""
    before = {key_of(manifest): manifest for manifest in store.of_kind(watched.kind.kind)}
    now = {key_of(manifest): manifest for manifest in await listed(cluster, watched, namespaces)}
    if not _differs(before, now):
        return []
    await asyncio.sleep(_GRACE_S)
    found = [store.put(manifest) for manifest in now.values()]
    for key, manifest in before.items():
        live = store.get(key)
        if key not in now and live is not None and version(live) == version(manifest):
            found.append(store.drop(manifest))
    return [change for change in found if change is not None]


def _differs(before: dict[Key, Manifest], listed: dict[Key, Manifest]) -> bool:
    return before.keys() != listed.keys() or any(
        version(manifest) > version(before[key]) for key, manifest in listed.items()
    )


async def listed(cluster: Cluster, watched: Watched, namespaces: Sequence[str]) -> list[Manifest]:
    """Return what the API server has of a kind, in these namespaces or, without any, in all."""
    kind: Kind = watched.kind
    found: list[Manifest] = []
    for namespace in namespaces or (None,):
        found += await cluster.list(kind, namespace, watched.selector)
    # A list's items do not say what they are.
    return [{**item, "apiVersion": kind.api_version, "kind": kind.kind} for item in found]
