"""What a replica does about a Lease, decided from what it saw and when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from marketfeed_operator.api import lease
from marketfeed_operator.objects import Manifest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _lease(holder: str | None, version: str = "7", **spec: Any) -> Manifest:
    metadata = {"name": "it", "namespace": "here", "resourceVersion": version}
    return {"metadata": metadata, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 10, **spec}}


def _taken(view: lease.View | None, identity: str = "me") -> Manifest:
    return lease.taken(view, namespace="here", name="it", identity=identity, lease_s=9.5, at=NOW)


def test_a_lease_expires_by_the_time_of_its_last_change_here() -> None:
    """The holder's clock, a year ahead or behind, changes nothing: what counts is when this replica saw a change."""
    view = lease.see(None, _lease("other", renewTime="2025-01-01T00:00:00.000000Z"), 100.0)
    assert lease.wait_s(view, "me", 100.0) == 10.0
    view = lease.see(view, _lease("other", renewTime="2025-01-01T00:00:00.000000Z"), 109.0)
    assert lease.wait_s(view, "me", 109.0) == 1.0
    view = lease.see(view, _lease("other", renewTime="2027-01-01T00:00:00.000000Z"), 109.5)
    assert lease.wait_s(view, "me", 109.5) == 10.0


def test_a_version_without_a_change_is_no_sign_of_life() -> None:
    """Somebody's label on the Lease does not prolong it, but its version is the one to write against."""
    view = lease.see(lease.see(None, _lease("other"), 0.0), _lease("other", version="8"), 9.0)
    assert lease.wait_s(view, "me", 9.0) == 1.0
    assert _taken(view)["metadata"]["resourceVersion"] == "8"


def test_a_free_lease_and_ones_own_need_no_wait() -> None:
    """None at all, one without a holder, one with an empty holder and one's own can be written now."""
    assert lease.wait_s(None, "me", 0.0) == 0
    for holder in (None, "", "me"):
        assert lease.wait_s(lease.see(None, _lease(holder), 0.0), "me", 0.0) == 0


def test_renewing_keeps_the_term_and_taking_over_begins_one() -> None:
    """`acquireTime` and `leaseTransitions` change with the holder only, as other tools expect."""
    first = _taken(None)
    assert first["spec"]["leaseTransitions"] == 0
    assert "resourceVersion" not in first["metadata"]
    view = lease.see(None, _lease("me", acquireTime="then", leaseTransitions=4), 0.0)
    assert (_taken(view)["spec"]["acquireTime"], _taken(view)["spec"]["leaseTransitions"]) == ("then", 4)
    over = _taken(view, "another")["spec"]
    assert over["acquireTime"] == over["renewTime"] == "2026-01-01T00:00:00.000000Z"
    assert over["leaseTransitions"] == 5
    assert over["leaseDurationSeconds"] == 10


def test_a_released_lease_is_free_for_everybody() -> None:
    """It has no holder, is guarded by the version that was seen, and counts its changes on."""
    freed = lease.released(lease.see(None, _lease("me", leaseTransitions=4), 0.0), NOW)
    assert freed["metadata"]["resourceVersion"] == "7"
    view = lease.see(None, freed, 1.0)
    assert lease.wait_s(view, "other", 1.0) == 0
    assert _taken(view, "other")["spec"]["leaseTransitions"] == 5


@given(seen=st.floats(0, 1e6), later=st.floats(0, 100))
def test_nobody_takes_a_lease_before_its_duration_has_passed(seen: float, later: float) -> None:
    """Whenever another's lease may be written, at least its duration has passed since its last change was seen."""
    view = lease.see(None, _lease("other"), seen)
    if lease.wait_s(view, "me", seen + later) == 0:
        assert later >= 10 - 1e-6
