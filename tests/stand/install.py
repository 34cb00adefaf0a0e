"""Installing on the node what a user would: the two charts by helm, and the example feed.

What does not live here: the order of steps (background), and what the charts hold (charts/).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marketfeed.local.files import write_atomically
from stand.cluster import Cluster, Object

PLATFORM_NAMESPACE, OPERATOR_NAMESPACE, FEED_NAMESPACE = "kafka", "marketfeed", "default"
NAMESPACES = (PLATFORM_NAMESPACE, OPERATOR_NAMESPACE, FEED_NAMESPACE)
PLATFORM, OPERATOR = "platform", "marketfeed"
"""Names of the two releases."""
FEED = "binance-spot"
LOADED = "loaded.json"
"""File in the state folder that says which images the node was given."""

IMAGES = ("operator", "services", "kafka", "postgresql", "redis")
"""What the node is given. The streaming job's image comes with the Spark operator, for one scenario: `stand.spark`."""

_ROOT = Path(__file__).parents[2]
_CHARTS = _ROOT / "charts"
_VALUES = Path(__file__).with_name("values")
_HELM_TIMEOUT = "5m"
_UNDER_WAY = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")
_FEED_S = 300


def namespace(name: str) -> Object:
    """Return a namespace that takes only pods of the restricted profile, and warns of and notes others."""
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": levels}}


def platform(cluster: Cluster, references: Mapping[str, str], folder: Path, *more: str) -> None:
    """Install what stands around a feed, or bring it up to date; `more` are helm's own arguments."""
    _upgrade(
        cluster,
        PLATFORM,
        PLATFORM_NAMESPACE,
        _with_images(folder / "platform.json", platform_images(references)),
        *more,
    )


def operator(cluster: Cluster, references: Mapping[str, str], folder: Path, *more: str) -> None:
    """Install the operator, or bring it up to date; `more` are helm's own arguments. Returns when it is ready."""
    _upgrade(
        cluster,
        OPERATOR,
        OPERATOR_NAMESPACE,
        _with_images(folder / "operator.json", operator_images(references)),
        *more,
    )


def feed(cluster: Cluster) -> None:
    """Apply the example feed."""
    example = _ROOT / "manifests" / "simulated" / f"{FEED}.yaml"
    cluster.kubectl("apply", f"--namespace={FEED_NAMESPACE}", "-f", str(example))


def await_feed(cluster: Cluster) -> None:
    """Wait until the example feed is ready, as the documentation says to."""
    cluster.kubectl(
        "wait",
        f"--namespace={FEED_NAMESPACE}",
        "--for=condition=Ready",
        f"marketfeed/{FEED}",
        f"--timeout={_FEED_S}s",
        timeout_s=_FEED_S + 10,
    )


def operator_images(references: Mapping[str, str]) -> dict[str, Any]:
    """Return the operator chart's values that name images."""
    values = {"image": _image(references["operator"]), "services": {"image": _image(references["services"])}}
    return values | ({"analytics": {"image": _image(references["analytics"])}} if "analytics" in references else {})


def platform_images(references: Mapping[str, str]) -> dict[str, Any]:
    """Return the platform chart's values that name images."""
    of = {name: name for name in ("kafka", "postgresql", "redis")} | {"simulator": "services"}
    return {name: {"image": _image(references[image])} for name, image in of.items()}


def _image(reference: str) -> dict[str, str]:
    repository, _, tag = reference.rpartition(":")
    return {"repository": repository, "tag": tag, "pullPolicy": "Never"}


def _with_images(path: Path, values: Mapping[str, Any]) -> Path:
    write_atomically(path, json.dumps(values))
    return path


def _upgrade(cluster: Cluster, release: str, place: str, values: Path, *more: str) -> None:
    chart = values.stem
    _forget_interrupted(cluster, release, place)
    cluster.helm(
        *("upgrade", "--install", release, str(_CHARTS / f"marketfeed-{chart}"), f"--namespace={place}"),
        *("--create-namespace", f"--values={_VALUES / f'{chart}.yaml'}", f"--values={values}"),
        *("--wait", f"--timeout={_HELM_TIMEOUT}", *more),
    )


def _forget_interrupted(cluster: Cluster, release: str, place: str) -> None:
    """Remove what a helm that was killed has left: a record that says for good that another one is at work."""
    selector = f"--selector=owner=helm,name={release},status in ({','.join(_UNDER_WAY)})"
    cluster.kubectl("delete", "secret", f"--namespace={place}", selector)
