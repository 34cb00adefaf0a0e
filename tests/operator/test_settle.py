"""`marketfeed settle` on a real API server, with the operator's own account, as the chart's hook runs it.

What does not live here: every state and every failure (tests/unit/test_settlement).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane import ControlPlane
from helpers import wait_until
from marketfeed_operator.settings import OperatorSettings
from operators import NAMESPACE, Feeds
from released import filled, kept, managed, resource, resources, topic_names, with_own_topics
from replicas import KAFKA, LATE_S, REPLICAS, replica, user
from standins.runner import Standins
from tenants import Tenant
from watching import watching

_ENDS_S = 60.0
_FORBIDDEN = 403


@pytest.fixture(scope="module")
def strimzi(quiet_control_plane: ControlPlane) -> Iterator[Standins]:
    """Run the topic operator alone."""
    with Standins(quiet_control_plane.kubeconfig, topic_namespace=KAFKA, start=["topics"]) as running:
        yield running


@pytest.fixture(autouse=True)
def _strimzi_is_there(strimzi: Standins) -> Iterator[None]:
    strimzi.topics.start()
    yield
    strimzi.topics.delay_s = 0.2
    strimzi.topics.start()


def settle(kubeconfig: Path, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run the command with an operator's settings."""
    environment = {**os.environ, **OperatorSettings(**settings).to_env()}
    command = [sys.executable, "-m", "marketfeed", "settle", "--kubeconfig", str(kubeconfig), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_ENDS_S, check=False)


@pytest.fixture
def account(quiet_control_plane: ControlPlane, tmp_path: Path) -> Path:
    """Return a kubeconfig of an operator's account that no operator uses in these tests."""
    return quiet_control_plane.service_account_kubeconfig(NAMESPACE, REPLICAS[1], tmp_path / "settle.account")


def _denied(plane: ControlPlane, account: str, since: datetime) -> list[str]:
    found = plane.requests(account, since)
    assert found, "it asked for nothing, or under another name"
    return [f"{item.verb} {item.uri}" for item in found if item.code == _FORBIDDEN]


def _without_operator(feeds: Feeds, folder: Path, *documents: dict[str, Any], patience_s: float = 60.0) -> None:
    """Let an operator bring feeds about, and end it."""
    with replica(feeds.plane, folder, REPLICAS[0], topic_patience_s=patience_s) as process:
        for document in documents:
            feeds.apply(document)
        for document in documents:
            feeds.wait("TopicsReady", name=document["metadata"]["name"])
        assert process.terminate() == 0


def test_with_nothing_to_do_it_says_what_goes_on_and_writes_nothing(
    quiet_feeds: Feeds, account: Path, tmp_path: Path
) -> None:
    """A live feed keeps its topics, is named, and no right is missing; it takes no time to speak of."""
    _without_operator(quiet_feeds, tmp_path, quiet_feeds.document(suspend=True))
    begun, started = datetime.now(UTC), time.monotonic()
    outcome = settle(account, "--timeout", "30s")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert time.monotonic() - started < 15.0
    assert "No topic of a deleted feed is left to be let go." in outcome.stdout
    assert f"  {quiet_feeds.namespace}/spot: " in outcome.stdout
    assert f"kubectl delete marketfeeds --all --namespace {quiet_feeds.namespace}" in outcome.stdout
    assert all(map(managed, resources(quiet_feeds)))
    assert quiet_feeds.plane.writes(user(REPLICAS[1]), begun) == []
    assert _denied(quiet_feeds.plane, user(REPLICAS[1]), begun) == []


def test_it_ends_a_release_that_an_operator_began(
    quiet_feeds: Feeds, account: Path, strimzi: Standins, tmp_path: Path
) -> None:
    """The operator dies between the mark and Strimzi's answer: resources go, data stays; under Delete it goes too."""
    gone = with_own_topics(quiet_feeds, "gone", deletionPolicy="Delete", suspend=True)
    trades = topic_names(quiet_feeds)[0]
    with replica(quiet_feeds.plane, tmp_path, REPLICAS[0]) as process:
        for document in (quiet_feeds.document(suspend=True), gone):
            quiet_feeds.apply(document)
        for name in ("spot", "gone"):
            quiet_feeds.wait("TopicsReady", name=name)
        ids, lost = filled(quiet_feeds, strimzi), filled(quiet_feeds, strimzi, "gone")
        strimzi.topics.delay_s = 2.0
        with watching(quiet_feeds.plane, tmp_path, "kafkatopic", trades, KAFKA) as seen:
            quiet_feeds.kubectl("delete", "marketfeed", "spot")
            wait_until(lambda: not managed(seen.events[-1].object), LATE_S, "the mark", every_s=0.02)
            process.kill()
    assert resource(quiet_feeds, trades)
    quiet_feeds.kubectl("delete", "marketfeed", "gone")
    begun = datetime.now(UTC)
    outcome = settle(account, "--timeout", "45s")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert f"KafkaTopic {KAFKA}/{trades} is deleted: its topic and data are kept." in outcome.stdout
    wait_until(lambda: not resources(quiet_feeds), LATE_S, "Strimzi to end the deletions", every_s=0.2)
    assert kept(strimzi, ids)
    assert not set(lost) & set(strimzi.topics.topics)
    assert _denied(quiet_feeds.plane, user(REPLICAS[1]), begun) == []


def test_where_strimzi_is_away_nothing_hangs_and_no_data_goes(
    quiet_feeds: Feeds, account: Path, strimzi: Standins, tmp_path: Path
) -> None:
    """In its time it leaves the resources not managed and nobody's; Strimzi comes back to topics with their data."""
    _without_operator(quiet_feeds, tmp_path, quiet_feeds.document(suspend=True))
    ids = filled(quiet_feeds, strimzi)
    strimzi.topics.stop()
    quiet_feeds.kubectl("delete", "marketfeed", "spot")
    started = time.monotonic()
    outcome = settle(account, "--timeout", "8s")
    assert time.monotonic() - started < 25.0
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert outcome.stdout.count("stays, not managed: Strimzi has not answered for") == len(ids)
    left = resources(quiet_feeds)
    assert sorted(topic["metadata"]["name"] for topic in left) == sorted(ids)
    assert not any("marketfeed" in label for topic in left for label in topic["metadata"]["labels"])
    strimzi.topics.start()
    wait_until(lambda: "Unmanaged" in json.dumps(resources(quiet_feeds)), LATE_S, "Strimzi", every_s=0.2)
    quiet_feeds.plane.kubectl("delete", "kafkatopics", *ids, f"--namespace={KAFKA}")
    assert kept(strimzi, ids)


def test_a_leader_may_work_at_the_same_time(
    quiet_feeds: Feeds, account: Path, strimzi: Standins, tmp_path: Path
) -> None:
    """Both let the same topics go: each ends without a failure, by the last policy of the feed, and data is kept.

    The feed said Delete until the breath before it was deleted: only the leader can have seen what it said last.
    """
    names = [f"feed-{number}" for number in range(4)]
    with replica(quiet_feeds.plane, tmp_path, REPLICAS[0]) as process:
        for name in names:
            quiet_feeds.apply(with_own_topics(quiet_feeds, name, deletionPolicy="Delete", suspend=True))
        for name in names:
            quiet_feeds.wait("TopicsReady", name=name)
        ids = {topic: made for name in names for topic, made in filled(quiet_feeds, strimzi, name).items()}
        strimzi.topics.delay_s = 4.0
        for name in names:
            patch = json.dumps({"spec": {"deletionPolicy": "Retain"}})
            quiet_feeds.kubectl("patch", "marketfeed", name, "--type=merge", "-p", patch)
        quiet_feeds.kubectl("delete", "marketfeeds", "--all", "--wait=false")
        outcome = settle(account, "--timeout", "45s")
        assert (outcome.returncode, outcome.stderr) == (0, "")
        assert f"  {quiet_feeds.namespace}/feed-" not in outcome.stdout  # other tests' feeds may go on
        wait_until(lambda: not resources(quiet_feeds), LATE_S, "the KafkaTopics to go", every_s=0.2)
        assert process.entries("failed") == []
        process.assert_alive()
    assert kept(strimzi, ids)


def test_an_operator_of_one_namespace_settles_with_its_own_permissions(
    quiet_control_plane: ControlPlane, tmp_path: Path
) -> None:
    """It looks nowhere else, needs no other right, and leaves alone what the feeds of others have left."""
    tenants = [Tenant(quiet_control_plane, f"tenant-{secrets.token_hex(3)}") for _ in range(2)]
    here, there = tenants
    with here, there:
        for tenant in tenants:
            with tenant.operator(tmp_path):
                tenant.feeds.apply(suspend=True)
                tenant.feeds.wait("TopicsReady")
            tenant.feeds.kubectl("delete", "marketfeed", "spot")
        assert len(here.topics()) == 3
        theirs = there.topics()
        begun = datetime.now(UTC)
        outcome = settle(here.kubeconfig(tmp_path), "--timeout", "45s", **here.settings)
        assert (outcome.returncode, outcome.stderr) == (0, "")
        wait_until(lambda: not here.topics(), LATE_S, "its topics to go", every_s=0.2)
        assert there.topics() == theirs
        requests = quiet_control_plane.requests(here.user, begun)
        assert _denied(quiet_control_plane, here.user, begun) == []
        assert {item.namespace for item in requests if item.resource} == {here.namespace, KAFKA}
        outcome = settle(there.kubeconfig(tmp_path), "--timeout", "45s", **there.settings)
        assert outcome.returncode == 0
        wait_until(lambda: not there.topics(), LATE_S, "the others' topics to go", every_s=0.2)


def test_an_account_without_rights_is_refused_with_a_sentence(quiet_feeds: Feeds, tmp_path: Path) -> None:
    """Exit code 1, and who may not do what; no traceback."""
    plane = quiet_feeds.plane
    quiet_feeds.kubectl("create", "serviceaccount", "nobody")
    nobody = plane.service_account_kubeconfig(quiet_feeds.namespace, "nobody", tmp_path / "nobody")
    outcome = settle(nobody)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    (line,) = outcome.stderr.splitlines()
    assert line.startswith(f"marketfeed: {plane.url}: ")
    assert "cannot list resource" in line


def test_an_api_server_that_is_not_there_is_told_of_in_time(quiet_feeds: Feeds, tmp_path: Path) -> None:
    """Exit code 1 within the time, with the address that does not answer."""
    text = quiet_feeds.plane.kubeconfig.read_text().replace(quiet_feeds.plane.url, "https://127.0.0.1:1")
    (tmp_path / "away").write_text(text)
    started = time.monotonic()
    outcome = settle(tmp_path / "away", "--timeout", "20s")
    assert time.monotonic() - started < 25.0
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("marketfeed: https://127.0.0.1:1: the API server cannot be reached")
