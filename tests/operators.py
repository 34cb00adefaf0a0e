"""The operator as a process for tests, under its own service account's permissions, and feeds to give it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane import ControlPlane
from controlplane.install import grant
from helpers import wait_until
from marketfeed.settings import HttpSettings
from marketfeed_operator.settings import OperatorSettings
from pipeline import Service

NAMESPACE = "marketfeed"
ACCOUNT = "marketfeed-operator"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
SOON_S = 30.0


def install_operator(plane: ControlPlane, account: str = ACCOUNT) -> None:
    """Make the operator's namespace, service account and roles."""
    grant(plane, account, NAMESPACE)


class OperatorProcess(Service):
    """One replica."""

    def leads(self) -> bool:
        """Tell whether this replica holds the lease."""
        return bool(self.stats()["leading"])


@contextmanager
def operator(plane: ControlPlane, folder: Path, *, name: str = "operator", **changes: Any) -> Iterator[OperatorProcess]:
    """Run one replica until the block ends; `changes` are settings other than a test's usual quick ones."""
    folder.mkdir(parents=True, exist_ok=True)
    kubeconfig = changes.pop("kubeconfig", None) or plane.service_account_kubeconfig(
        NAMESPACE, ACCOUNT, folder / f"{name}.kubeconfig"
    )
    settings: dict[str, Any] = {
        "namespace": NAMESPACE,
        "identity": name,
        "lease_s": 4.0,
        "sample_s": 1.0,
        "status_s": 1.0,
        "analytics_patience_s": 2.0,
        "services_image": "marketfeed/services:test",
        "analytics_image": "marketfeed/analytics:test",
        "http": HttpSettings(host="127.0.0.1", port=0),
    } | changes
    arguments = ["operator", "--kubeconfig", str(kubeconfig)]
    with OperatorProcess(name, arguments, OperatorSettings(**settings).to_env(), folder) as process:
        process.listening()
        yield process


class Feeds:
    """MarketFeeds of one namespace, and what has become of them."""

    def __init__(self, plane: ControlPlane, namespace: str, topic_namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.topic_namespace = topic_namespace

    def document(self, name: str = "spot", **spec: Any) -> dict[str, Any]:
        """Return a small feed; `spec` replaces parts of its spec."""
        usual: dict[str, Any] = {
            "exchange": "binance",
            "symbols": ["BTCUSDT", "ETHUSDT", "BNBUSDT"],
            "channels": ["trade", "bookTicker"],
            "kafka": {"topics": self.topics()},
            "sinks": [{"name": "timescale", "type": "timescaledb", "secretRef": {"name": "timescale", "key": "dsn"}}],
        }
        return {
            "apiVersion": "marketfeed.dev/v1alpha1",
            "kind": "MarketFeed",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": usual | spec,
        }

    def topics(self, prefix: str | None = None, **more: Any) -> dict[str, Any]:
        """Return `spec.kafka.topics`, with topics of this namespace's own."""
        prefix = prefix or self.namespace
        names = {"trade": f"{prefix}.trades", "bookTicker": f"{prefix}.book"}
        return {"namespace": self.topic_namespace, "cluster": "kafka", "names": names} | more

    def apply(self, document: Mapping[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
        """Apply a feed as a user would; return what the API server made of it."""
        given = document or self.document(**spec)
        given = {**given, "spec": {"deadLetter": {"topic": f"{self.namespace}.dlq"}, **given["spec"]}}
        answer = self.plane.kubectl("apply", "-f", "-", "-o", "json", input=json.dumps(given))
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def secret(self, name: str = "timescale", **values: str) -> None:
        """Make a secret, or change it."""
        given = values or {"dsn": "postgresql://writer:hunter2@db:5432/marketfeed"}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": given}
        self.kubectl("apply", "-f", "-", input=json.dumps(secret))

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """Run kubectl in this namespace; return what it printed."""
        return self.plane.kubectl(f"--namespace={self.namespace}", *arguments, **options).stdout

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """Return an object, None where there is none."""
        where = f"--namespace={namespace or self.namespace}"
        found = self.plane.kubectl(where, "get", kind, name, "-o", "json", "--ignore-not-found").stdout
        return json.loads(found) if found.strip() else None

    def items(self, kind: str, selector: str = "", namespace: str | None = None) -> list[dict[str, Any]]:
        """Return the objects of a kind that the labels select."""
        arguments = ["get", kind, "-o", "json", *(["--selector", selector] if selector else [])]
        found: list[dict[str, Any]] = json.loads(
            self.plane.kubectl(f"--namespace={namespace or self.namespace}", *arguments).stdout
        )["items"]
        return found

    def gone(self, kind: str, selector: str = "", namespace: str | None = None, *, within_s: float = SOON_S) -> None:
        """Wait until there is no object of a kind that the labels select."""
        wait_until(lambda: not self.items(kind, selector, namespace), within_s, f"the {kind} to go", every_s=0.2)

    def status(self, name: str = "spot") -> dict[str, Any]:
        """Return a feed's status."""
        feed = self.get("marketfeed", name)
        assert feed is not None, f"there is no MarketFeed {name}"
        found: dict[str, Any] = feed.get("status") or {}
        return found

    def condition(self, kind: str, name: str = "spot") -> dict[str, Any]:
        """Return a condition; one that is not there yet is Unknown."""
        found = [item for item in self.status(name).get("conditions", ()) if item["type"] == kind]
        return found[0] if found else {"type": kind, "status": "Unknown", "reason": "Missing", "message": ""}

    def wait(self, kind: str, status: str = "True", reason: str | None = None, *, name: str = "spot") -> dict[str, Any]:
        """Wait until a condition of the feed's present generation has this status (and reason); return it."""
        generation = (self.get("marketfeed", name) or {})["metadata"]["generation"]

        def reached() -> dict[str, Any] | None:
            now = self.condition(kind, name)
            good = now["status"] == status and reason in (None, now["reason"])
            return now if good and now.get("observedGeneration", 0) >= generation else None

        return self._until(reached, f"{kind} of {name} to be {status} {reason or ''}", name)

    def _until(self, reached: Callable[[], dict[str, Any] | None], what: str, name: str) -> dict[str, Any]:
        try:
            return wait_until(lambda: reached() or {}, SOON_S, what, every_s=0.2)
        except pytest.fail.Exception as failure:
            pytest.fail(f"{failure}; its status: {json.dumps(self.status(name), indent=1)}")

    def children(self, name: str = "spot") -> Sequence[tuple[str, str]]:
        """Return (kind, name) of every object of the feed, its topics included, sorted."""
        kinds = "deployments,configmaps,services,serviceaccounts,poddisruptionbudgets"
        near = self.items(kinds, f"marketfeed.dev/feed={name}")
        uid = (self.get("marketfeed", name) or {})["metadata"]["uid"]
        far = self.items("kafkatopics", f"claim.marketfeed.dev/{uid}", self.topic_namespace)
        return sorted((item["kind"], item["metadata"]["name"]) for item in (*near, *far))
