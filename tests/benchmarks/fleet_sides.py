"""What the operator is compared with: a loop that applies the same objects, and looks at nothing.

Job: `kubeconfig`, `prefix`, `count` (feeds), `at_once`. Answer: `seconds`, `applied`, `cpu_s`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.children import job, reply
from benchmarks.fleet_feeds import children, documents
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.objects import KINDS, MANAGED_BY, MANAGER, Manifest
from marketfeed_operator.settings import OperatorSettings

_MANAGER = "bare"


async def bare(work: dict[str, Any]) -> None:
    """Apply all objects of a feed one after the other, `at_once` feeds at once."""
    prepared = [list(map(_ownerless, children(given))) for given in documents(work["prefix"], work["count"])]
    cluster = await Cluster.connect(work["kubeconfig"], settings=unlimited())
    left = iter(prepared)
    started, before = time.monotonic(), time.process_time()
    try:
        await asyncio.gather(*(_apply(cluster, left) for _ in range(work["at_once"])))
    finally:
        await cluster.close()
    reply(
        seconds=time.monotonic() - started,
        applied=sum(map(len, prepared)),
        cpu_s=time.process_time() - before,
    )


def unlimited() -> OperatorSettings:
    """Return settings of a client that does not hold back."""
    return OperatorSettings(writes_per_second=1e6, write_burst=1_000_000)


async def _apply(cluster: Cluster, left: Any) -> None:
    for objects in left:
        await _apply_all(cluster, objects)


async def _apply_all(cluster: Cluster, objects: Sequence[Manifest]) -> None:
    for manifest in objects:
        group, _, version = str(manifest["apiVersion"]).rpartition("/")
        kind = replace(KINDS[group, str(manifest["kind"])], version=version)
        await cluster.apply(manifest, kind, manager=_MANAGER)


def _ownerless(manifest: Manifest) -> Manifest:
    """Return the object for nobody: without an owner, and without the label by which the operator would see it."""
    label = f'"{MANAGED_BY}": "{{}}"'
    text = json.dumps(manifest).replace(label.format(MANAGER), label.format(_MANAGER))
    found: dict[str, Any] = json.loads(text)
    found["metadata"].pop("ownerReferences", None)
    return found


if __name__ == "__main__":
    asyncio.run(bare(job()))
