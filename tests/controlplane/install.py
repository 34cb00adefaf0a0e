"""Puts definitions of kinds into a control plane, waits until they can be used, and lets an operator use them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from controlplane.client import Client, KubectlFailed
from marketfeed_operator import rbac

OURS = Path(__file__).parents[2] / "crds"

_ESTABLISHED_S = 60.0
_ASK_EVERY_S = 0.1


def own() -> list[Path]:
    """Return the product's own definitions in the checkout."""
    return sorted(OURS.glob("*.yaml"))


def install(plane: Client, definitions: Iterable[Path]) -> None:
    """Apply definitions and wait until the API server serves their kinds; raises KubectlFailed."""
    files = [f"--filename={path}" for path in definitions]
    if files:
        plane.kubectl("apply", "--server-side", "--force-conflicts", *files)
        _await_established(plane, files)


def grant(plane: Client, account: str, namespace: str) -> None:
    """Make an operator's service account, roles and bindings, and their namespace where it is not there."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([space, *rbac.manifests(account, namespace)]))


def established(definition: Mapping[str, Any]) -> bool:
    """Tell whether a definition's kind is served; a new definition has no conditions at all."""
    conditions = definition.get("status", {}).get("conditions") or []
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def _await_established(plane: Client, files: list[str]) -> None:
    """Wait for all; `kubectl wait` does not do, for it fails on a definition that has no conditions yet."""
    deadline = time.monotonic() + _ESTABLISHED_S
    while waiting := _not_established(plane, files):
        if time.monotonic() > deadline:
            raise KubectlFailed(f"Not established after {_ESTABLISHED_S:g} s: {', '.join(waiting)}")
        time.sleep(_ASK_EVERY_S)


def _not_established(plane: Client, files: list[str]) -> list[str]:
    answer = json.loads(plane.kubectl("get", "--output=json", *files).stdout)
    definitions = answer.get("items", [answer])  # of one file it is the definition itself
    return [each["metadata"]["name"] for each in definitions if not established(each)]
