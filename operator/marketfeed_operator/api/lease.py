"""What to do with a Lease object: take it, renew it, or wait. Pure; this replica's own clock is passed in.

A lease has expired when nobody has changed it for its duration *by this replica's clock*: the times that the holder
wrote are for people, since two machines' clocks may differ (as client-go does it).
What does not live here: reading and writing the object (leader).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from marketfeed_operator.api.recorder import micro_time
from marketfeed_operator.objects import LEASE, Manifest


@dataclass(frozen=True, slots=True)
class View:
    """The lease as this replica saw it, and since when it has been like that."""

    manifest: Manifest
    since_s: float  # on this replica's monotonic clock

    @property
    def holder(self) -> str:
        """Return the holder's identity; empty if nobody holds it."""
        return str(self.manifest["spec"].get("holderIdentity") or "")

    @property
    def expires_s(self) -> float:
        """Return when it expires unless it is renewed, on this replica's clock."""
        return self.since_s + float(self.manifest["spec"].get("leaseDurationSeconds") or 0)


def see(before: View | None, manifest: Manifest, now_s: float) -> View:
    """Return the view after reading the lease: its age counts from when its content was first seen."""
    found = {**manifest, "spec": manifest.get("spec") or {}}
    if before is not None and before.manifest["spec"] == found["spec"]:
        return View(found, before.since_s)
    return View(found, now_s)


def wait_s(view: View | None, identity: str, now_s: float) -> float:
    """Return how long the lease must be left alone, s: 0 when `identity` may write itself into it now."""
    if view is None or view.holder in ("", identity):
        return 0.0
    return max(0.0, view.expires_s - now_s)


def taken(view: View | None, *, namespace: str, name: str, identity: str, lease_s: float, at: datetime) -> Manifest:
    """Return the Lease with `identity` as its holder: renewed where it holds it, else taken over, or new.

    It carries the resourceVersion that was seen, so that of two replicas only one succeeds.
    """
    old: dict[str, Any] = dict(view.manifest["spec"]) if view else {}
    renewed = view is not None and view.holder == identity
    changes = old.get("leaseTransitions", -1)
    spec = old | {
        "holderIdentity": identity,
        "leaseDurationSeconds": math.ceil(lease_s),
        "renewTime": micro_time(at),
        "acquireTime": old.get("acquireTime") if renewed else micro_time(at),
        "leaseTransitions": changes if renewed else changes + 1,
    }
    metadata = view.manifest["metadata"] if view else {"name": name, "namespace": namespace}
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}


def released(view: View, at: datetime) -> Manifest:
    """Return the Lease without a holder, for the next replica to take at once."""
    spec = {**view.manifest["spec"], "holderIdentity": None, "leaseDurationSeconds": 1, "renewTime": micro_time(at)}
    return {**view.manifest, "spec": spec}
