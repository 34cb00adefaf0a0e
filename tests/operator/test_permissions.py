"""The operator's rights on a real API server: what it asks for it may do, what it may do it asks for, and no more."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane import ControlPlane
from helpers import wait_until
from marketfeed_operator import rbac
from marketfeed_operator.render.access import ANALYTICS_RULES
from operators import NAMESPACE, Feeds
from replicas import KAFKA, LATE_S, REPLICAS, apply_all, replica, settle, user
from rights import denied, of_rules, used
from standins.runner import Standins
from tenants import Tenant

BEFORE, AFTER = ("BTCUSDT", "ETHUSDT"), ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")


@pytest.fixture(scope="module")
def standins(quiet_control_plane: ControlPlane) -> Iterator[Standins]:
    """Run the nodes, the Spark operator and the topic operator there."""
    with Standins(quiet_control_plane.kubeconfig, topic_namespace=KAFKA) as running:
        yield running


_UNSEEN = {
    # Nobody may hand out what he does not have: these are for the streaming job's driver.
    *of_rules(ANALYTICS_RULES),
    # A feed has one as long as it lives; one that an earlier version named otherwise must be taken away.
    ("monitoring.coreos.com", "podmonitors", "delete"),
}
"""Rights that no request of a feed's life shows."""


def test_a_feeds_life_needs_every_right_and_no_other(
    quiet_control_plane: ControlPlane, quiet_feeds: Feeds, standins: Standins, tmp_path: Path
) -> None:
    """From the first apply to the deletion, with Retain and with Delete, nothing is forbidden and no right is idle."""
    feeds = quiet_feeds
    del standins
    analytics = {"sink": "timescale", "checkpoint": {"volumeClaim": "checkpoints"}}
    (sink,) = feeds.document()["spec"]["sinks"]
    sinks = [{**sink, "replicas": 2}]
    quiet_control_plane.kubectl("delete", "lease", "--all", f"--namespace={NAMESPACE}")  # so that one is created
    begun = datetime.now(UTC)
    with replica(quiet_control_plane, tmp_path, REPLICAS[0]) as process:
        apply_all(feeds, ["whole"], BEFORE, sinks=sinks, analytics=analytics, ingest={"streamsPerShard": 2})
        apply_all(feeds, ["kept"], BEFORE, deletionPolicy="Retain")
        feeds.wait("Ready", name="whole")
        feeds.wait("Ready", name="kept")
        for suspend in (True, False, True, False):
            apply_all(feeds, ["whole"], AFTER, suspend=suspend, ingest={"streamsPerShard": 8})
            feeds.wait("Suspended", str(suspend), name="whole")
        feeds.secret(dsn="postgresql://writer:tr0ub4dor@db:5432/marketfeed")
        apply_all(feeds, ["whole"], BEFORE, sinks=[])
        settle(feeds, ["whole"], BEFORE)
        feeds.kubectl("delete", "marketfeeds", "--all")
        wait_until(lambda: not _topics(feeds), LATE_S, "the topics to go", every_s=0.3)
        process.terminate()
    # Other tests' namespaces that are being deleted take nothing new, whoever asks.
    near = {feeds.namespace, KAFKA, NAMESPACE, ""}
    requests = [item for item in quiet_control_plane.requests(user(REPLICAS[0]), begun) if item.namespace in near]
    assert denied(requests) == []
    allowed = of_rules([*rbac.feed_rules(), *rbac.cluster_rules(), *rbac.lease_rules()])
    assert sorted(allowed - used(requests) - _UNSEEN) == []


def _topics(feeds: Feeds) -> list[str]:
    found = feeds.items("kafkatopics", namespace=KAFKA)
    names = [item["metadata"]["name"] for item in found]
    return [name for name in names if name.startswith(feeds.namespace)]


@pytest.fixture
def tenants(quiet_control_plane: ControlPlane, standins: Standins) -> Iterator[tuple[Tenant, Tenant]]:
    """Return two namespaces, each with an account that may look after this one alone; their topics are in kafka."""
    del standins
    with ExitStack() as stack:
        made = [Tenant(quiet_control_plane, f"tenant-{name}-{secrets.token_hex(3)}") for name in "ab"]
        for tenant in made:
            stack.enter_context(tenant)
        yield made[0], made[1]


def test_an_operator_of_one_namespace_needs_no_other(tenants: tuple[Tenant, Tenant], tmp_path: Path) -> None:
    """With roles for its namespace and its topics' alone a feed lives and dies; nothing is asked for elsewhere."""
    here, _ = tenants
    with here.operator(tmp_path):
        apply_all(here.feeds, ["spot"], BEFORE)
        here.feeds.wait("Ready")
        apply_all(here.feeds, ["spot"], AFTER)
        settle(here.feeds, ["spot"], AFTER)
        here.feeds.kubectl("delete", "marketfeed", "spot")
        wait_until(lambda: not here.topics(), LATE_S, "the topics to go", every_s=0.3)
    requests = here.plane.requests(here.user)
    assert denied(requests) == []
    elsewhere = {item.uri for item in requests if item.resource and item.namespace not in (here.namespace, KAFKA)}
    assert elsewhere == set()
    assert {item.resource for item in requests if item.namespace == KAFKA} == {"kafkatopics"}


def test_an_operator_leaves_the_topics_of_other_namespaces_alone(
    tenants: tuple[Tenant, Tenant], tmp_path: Path
) -> None:
    """A topic that is claimed by a feed whose namespace it does not watch is none of its business, feed or no feed."""
    here, there = tenants
    with there.operator(tmp_path):
        apply_all(there.feeds, ["theirs"], BEFORE)
        there.feeds.wait("TopicsReady", name="theirs")
    topics = there.topics()
    assert len(topics) == 3
    there.feeds.kubectl("delete", "marketfeed", "theirs")
    with here.operator(tmp_path):
        apply_all(here.feeds, ["spot"], BEFORE)
        settle(here.feeds, ["spot"], BEFORE)
        here.plane.kubectl("annotate", "kafkatopics", *topics, f"--namespace={KAFKA}", "touched=true")
        apply_all(here.feeds, ["spot"], AFTER)
        settle(here.feeds, ["spot"], AFTER)
        assert there.topics() == topics
        written = {item.name for item in here.plane.writes(here.user) if item.namespace == KAFKA}
        assert written == set(here.topics())
    with there.operator(tmp_path):
        wait_until(lambda: not there.topics(), LATE_S, "their own operator to let them go", every_s=0.3)
