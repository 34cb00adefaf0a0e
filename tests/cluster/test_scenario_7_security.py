"""What pods may be and what the operator may ask, as the API server saw it: after the scenarios that make it ask."""

from __future__ import annotations

import restricted
import rights
from stand import Stand, accounts, install
from stand.feeds import Feeds
from stand.scenario import Figures, Stopwatch, Tell


def test_every_pod_passes_the_restricted_profile(stand: Stand, feeds: Feeds, tell: Tell, watch: Stopwatch) -> None:
    """All namespaces enforce it, the API server warns of nothing that runs, and our own stricter look agrees."""
    cluster = stand.cluster
    places = [*install.NAMESPACES, *(feed.namespace for feed in feeds.all)]
    level = "pod-security.kubernetes.io/enforce"
    looked = 0
    for place in places:
        namespace = cluster.get("namespace", place)
        assert namespace is not None
        assert namespace["metadata"]["labels"][level] == "restricted"
        label = ("label", "namespace", place, f"{level}=restricted", "--overwrite", "--dry-run=server")
        assert "violate" not in cluster.warnings(*label)
        for pod in cluster.pods(place):
            looked += 1
            assert restricted.violations(pod) == [], pod["metadata"]["name"]
    assert looked > len(places)
    tell(Figures(f"restricted: {looked} pods in {len(places)} namespaces", watch.seconds))


def test_the_operator_asks_for_just_what_it_may(stand: Stand, feeds: Feeds, tell: Tell, watch: Stopwatch) -> None:
    """Nothing it asked was forbidden, and of the rights it has each was used, or is named with the reason it is not."""
    # Before the feeds began, namespaces of an earlier run may have been deleted: one that goes takes nothing new.
    account = accounts.account(stand.cluster, install.OPERATOR_NAMESPACE)
    asked = stand.up.node.requests(account)
    assert asked, f"{account} asked nothing"
    assert rights.denied(item for item in asked if item.at >= feeds.begun) == []
    idle = accounts.allowed(stand.cluster, account) - rights.used(asked) - set(accounts.UNSEEN)
    assert sorted(idle) == []
    tell(Figures(f"permissions: {len(asked)} requests, none forbidden", watch.seconds))
