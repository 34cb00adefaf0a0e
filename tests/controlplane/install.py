"""Puts definitions of kinds into a control plane, and waits until they can be used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from controlplane.plane import ControlPlane

OURS = Path(__file__).parents[2] / "crds"

_ESTABLISHED_S = 30


def own() -> list[Path]:
    """Return the product's own definitions in the checkout."""
    return sorted(OURS.glob("*.yaml"))


def install(plane: ControlPlane, definitions: Iterable[Path]) -> None:
    """Apply definitions and wait until the API server serves their kinds; raises KubectlFailed."""
    files = [f"--filename={path}" for path in definitions]
    if files:
        plane.kubectl("apply", "--server-side", "--force-conflicts", *files)
        plane.kubectl("wait", "--for=condition=Established", f"--timeout={_ESTABLISHED_S}s", *files)
