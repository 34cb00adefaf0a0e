"""Replicas of the operator that the audit log tells apart, and many feeds at once.

Each replica has a service account of its own, and so a name of its own in the audit log.
What does not live here: one operator for all tests (operators).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from controlplane import ControlPlane, audit
from helpers import wait_until
from operators import NAMESPACE, Feeds, OperatorProcess, operator

KAFKA = "kafka"
REPLICAS = ("replica-a", "replica-b")
LATE_S = 60.0
"""How long anything may take on a busy machine that no claim is about."""


def user(account: str) -> str:
    """Return whom the audit log names for a service account of the operator's namespace."""
    return f"system:serviceaccount:{NAMESPACE}:{account}"


@contextmanager
def replica(plane: ControlPlane, folder: Path, name: str, **settings: Any) -> Iterator[OperatorProcess]:
    """Run one replica under its own service account until the block ends, by default with the usual lease."""
    folder.mkdir(parents=True, exist_ok=True)
    kubeconfig = plane.service_account_kubeconfig(NAMESPACE, name, folder / f"{name}.account")
    with operator(plane, folder, name=name, kubeconfig=kubeconfig, **{"lease_s": 10.0, **settings}) as process:
        yield process


@contextmanager
def pair(plane: ControlPlane, folder: Path, **settings: Any) -> Iterator[tuple[OperatorProcess, OperatorProcess]]:
    """Run the one that leads and one that has seen the cluster and waits."""
    with replica(plane, folder, REPLICAS[0], **settings) as leading:
        wait_until(leading.leads, LATE_S, "the first replica to lead", every_s=0.1)
        with replica(plane, folder, REPLICAS[1], **settings) as waiting:
            wait_until(lambda: waiting.reason() is None, LATE_S, "the second replica to be ready", every_s=0.1)
            assert not waiting.leads()
            yield leading, waiting


def apply_all(feeds: Feeds, names: Sequence[str], symbols: Sequence[str], **spec: Any) -> None:
    """Apply feeds of these names, topics of each one's own, in one go; they take their topics along when they go."""
    documents = []
    for name in names:
        prefix = f"{feeds.namespace}.{name}"
        usual = {"symbols": list(symbols), "deadLetter": {"topic": f"{prefix}.dlq"}, "deletionPolicy": "Delete"}
        documents.append(feeds.document(name, **{**usual, "kafka": {"topics": feeds.topics(prefix)}, **spec}))
    feeds.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))


def held(feeds: Feeds) -> dict[str, set[str]]:
    """Return the symbols that each feed's shards are told to carry, by the feed's name."""
    found: dict[str, set[str]] = {}
    for item in feeds.items("configmaps", "marketfeed.dev/shard"):
        streams = json.loads(item["data"]["streams.json"])["streams"]
        symbols = found.setdefault(item["metadata"]["labels"]["marketfeed.dev/feed"], set())
        symbols.update(stream.partition("@")[0] for stream in streams)
    return found


def settled(feeds: Feeds, names: Sequence[str], symbols: Sequence[str]) -> bool:
    """Tell whether these feeds' shards carry the symbols and their statuses tell of the present generation."""
    carried = held(feeds)
    if any(carried.get(name) != set(symbols) for name in names):
        return False
    found = {item["metadata"]["name"]: item for item in feeds.items("marketfeeds")}
    return all(
        (found[name].get("status") or {}).get("observedGeneration") == found[name]["metadata"]["generation"]
        for name in names
    )


def settle(feeds: Feeds, names: Sequence[str], symbols: Sequence[str], timeout_s: float = LATE_S) -> None:
    """Wait until they are."""
    wait_until(lambda: settled(feeds, names, symbols), timeout_s, f"{', '.join(names)} to be settled", every_s=0.2)


def rest(plane: ControlPlane, account: str, *, for_s: float = 1.5) -> None:
    """Wait until an operator has written nothing but its lease for a moment: what was begun is done."""

    def quiet() -> bool:
        latest = max((item.at for item in writes(plane, account)), default=None)
        return latest is None or (datetime.now(latest.tzinfo) - latest).total_seconds() > for_s

    wait_until(quiet, LATE_S, f"{account} to rest", every_s=0.2)


def writes(plane: ControlPlane, account: str, since: datetime | None = None) -> list[audit.Request]:
    """Return what an operator has written, its lease left out."""
    return [item for item in plane.writes(user(account), since) if item.resource != "leases"]


def objects(requests: Sequence[audit.Request]) -> Counter[str]:
    """Return how often each object was written; statuses and events, which tell of many things, left out."""
    return Counter(
        f"{item.resource} {item.namespace}/{item.name}"
        for item in requests
        if not item.resource.endswith("/status") and item.resource != "events"
    )


def belongs(request: audit.Request, name: str) -> bool:
    """Tell whether a request was about a feed or what is made for it; names of feeds must not begin alike."""
    return request.name == name or request.name.startswith((f"{name}-", f"{name}.")) or f".{name}." in request.name
