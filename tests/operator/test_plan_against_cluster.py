"""`marketfeed plan FILE --against cluster` on a real API server: it tells what would change, and changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from controlplane import ControlPlane
from documents import changed
from helpers import wait_until
from marketfeed_operator.against import Target, compared
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.errors import Forbidden, Unanswered
from marketfeed_operator.commands import plan_command
from marketfeed_operator.comparison import Comparison
from marketfeed_operator.diff import Apply, writes
from marketfeed_operator.objects import KINDS, MARKETFEED, Key, Kind, Manifest, Served, key_of
from marketfeed_operator.observed import Observed
from marketfeed_operator.plan import plan
from marketfeed_operator.render import Installation, Owner, render
from marketfeed_operator.spec import parse

IMAGES = Installation("registry.local/services:7", "registry.local/analytics:7")
ADMIN = "admin"


@pytest.fixture(scope="module")
def control_plane(quiet_control_plane: ControlPlane) -> ControlPlane:
    """Return the control plane where no operator works: it would take these objects in hand."""
    return quiet_control_plane


@dataclass
class Place:
    """A test's own namespaces on the control plane, and the file that is compared."""

    plane: ControlPlane
    namespace: str
    topics: str
    file: Path

    def document(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the document with these changes, of this test's namespaces."""
        made = changed({"metadata.namespace": self.namespace, **changes})
        made["spec"].setdefault("kafka", {}).setdefault("topics", {})["namespace"] = self.topics
        return made

    def plan(self, changes: Mapping[str, Any], *options: str) -> Result:
        """Run the command on the document with these changes."""
        self.file.write_text(json.dumps(self.document(changes)))
        arguments = [str(self.file), "--against", "cluster", "--kubeconfig", str(self.plane.kubeconfig), *options]
        return CliRunner().invoke(plan_command, arguments)

    def told(self, changes: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return class and sentence of every change."""
        result = self.plan(changes, "--json")
        assert result.exit_code == 0, result.exception
        return [(found["class"], found["change"]) for found in json.loads(result.output)["changes"]]

    def run(self, changes: Mapping[str, Any]) -> list[str]:
        """Apply the feed and write what it needs, as the operator does; return why each object was written."""
        return asyncio.run(self._run(self.document(changes)))

    async def _run(self, document: Manifest) -> list[str]:
        cluster = await Cluster.connect(str(self.plane.kubeconfig))
        try:
            body = await cluster.apply(document, MARKETFEED)
            served = await cluster.served()
            desired = objects(document, str(body["metadata"]["uid"]), served)
            live = {key_of(each): await get(cluster, each) for each in desired}
            children = {key: found for key, found in live.items() if found is not None}
            found = writes(desired, Observed(body, served, children), str(body["metadata"]["uid"]))
            for write in found:
                assert isinstance(write, Apply)
                kind = KINDS[write.key.group, write.key.kind]
                await cluster.apply(
                    write.manifest, versioned(kind, write.manifest), manager=write.manager, force=write.force
                )
            return [f"{write.key}: {write.why}" for write in found if isinstance(write, Apply)]
        finally:
            await cluster.close()


def versioned(kind: Kind, manifest: Manifest) -> Kind:
    """Return the kind in the object's own version."""
    return replace(kind, version=str(manifest["apiVersion"]).rpartition("/")[2])


def viewer(place: Place, folder: Path) -> Path:
    """Return the kubeconfig of an account that may read the feed's objects, and no secret."""
    groups = "apps,policy,rbac.authorization.k8s.io,monitoring.coreos.com,kafka.strimzi.io,sparkoperator.k8s.io"
    account = f"--serviceaccount={place.namespace}:viewer"
    place.plane.kubectl("create", "serviceaccount", "viewer", f"--namespace={place.namespace}")
    rules = [
        {"apiGroups": ["marketfeed.dev", *groups.split(",")], "resources": ["*"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["configmaps", "services", "serviceaccounts"], "verbs": ["get", "list"]},
    ]
    for space in (place.namespace, place.topics):
        metadata = {"name": "viewer", "namespace": space}
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}
        place.plane.kubectl("apply", "--filename=-", input=json.dumps(role))
        place.plane.kubectl("create", "rolebinding", "viewer", "--role=viewer", account, f"--namespace={space}")
    return place.plane.service_account_kubeconfig(place.namespace, "viewer", folder / "viewer.kubeconfig")


def readable(place: Place, path: Path) -> Comparison | None:
    """Return the comparison, None while the API server does not know the roles yet."""
    try:
        return compared(parse(place.document({})), Target(str(path)))
    except Forbidden:
        return None


def objects(document: Manifest, uid: str, served: Served) -> tuple[Manifest, ...]:
    """Return the objects of the document, as an operator with other images renders them."""
    feed = parse(document)
    made = plan(feed)
    owner = Owner(str(document["metadata"]["name"]), str(document["metadata"]["namespace"]), uid)
    return render(made, feed, owner, IMAGES, served, holdings=made.holdings, secrets=dict.fromkeys(["timescale"]))


async def get(cluster: Cluster, manifest: Manifest) -> Manifest | None:
    """Return the live object."""
    key: Key = key_of(manifest)
    return await cluster.get(versioned(KINDS[key.group, key.kind], manifest), key.namespace, key.name)


@pytest.fixture
def place(control_plane: ControlPlane, namespace: str, kafka_namespace: str, tmp_path: Path) -> Place:
    """Return the test's own place."""
    return Place(control_plane, namespace, kafka_namespace, tmp_path / "feed.yaml")


def test_a_new_feed_is_told_and_not_made(place: Place) -> None:
    """Everything would be added; the command itself writes nothing at all."""
    since = datetime.now(UTC)
    told = place.told({})
    assert ("scale", "shard spot-ingestor-0 is added with 1 process") in told
    assert ("live", "topic binance.trades is created with 3 partitions") in told
    ours = [request for request in place.plane.writes(ADMIN, since) if place.namespace in str(request)]
    assert ours == []


def test_a_second_look_at_a_real_api_server_writes_nothing(place: Place) -> None:
    """Whatever the API server adds to every kind of object, and defaults in it, none is written again."""
    analytics = {"spec.analytics": {"checkpoint": {"location": "s3a://bucket/path"}}, "spec.sinks.0.replicas": 2}
    assert all(reason.endswith("is missing") for reason in place.run(analytics))
    assert place.run(analytics) == []
    assert place.told(analytics) == []


def test_what_would_change_is_classed(place: Place) -> None:
    """A symbol more is live, more processes scale; the connections are those of now and then."""
    place.run({})
    assert place.told({"spec.symbols": ["BTCUSDT", "ETHUSDT"]}) == [
        ("live", "shard spot-ingestor-0 takes 1 stream more, live")
    ]
    split = {"spec.symbols": ["BTCUSDT", "ETHUSDT"], "spec.ingest": {"streamsPerShard": 1}}
    result = place.plan(split, "--json")
    connections = json.loads(result.output)["connections"]
    assert (connections["now"], connections["needed"]) == (1, 2)


def test_what_would_lose_records_is_approved_by_the_hash_that_is_printed(place: Place) -> None:
    """The command names the hash; once the feed carries it, the change is said to be approved."""
    place.run({})
    shorter = {"spec.kafka.topics": {"retention": "1d"}}
    result = place.plan(shorter)
    assert "destructive  KafkaTopic " in result.output
    command = next(line for line in result.output.splitlines() if line.startswith("  kubectl annotate"))
    place.plane.kubectl(*command.split()[1:])
    assert "What is destructive is approved" in place.plan(shorter).output


def test_a_cluster_that_does_not_answer_is_named(place: Place, tmp_path: Path) -> None:
    """Nothing listens at the kubeconfig's address: the error says so, with the address, and the exit code is 1."""
    dead = tmp_path / "dead.kubeconfig"
    dead.write_text(place.plane.kubeconfig.read_text().replace(place.plane.url, "https://127.0.0.1:1"))
    feed = parse(place.document({}))
    with pytest.raises(Unanswered, match=r"https://127\.0\.0\.1:1: .*cannot be reached"):
        compared(feed, Target(str(dead)))


def test_who_may_not_read_is_told_what_is_missing(place: Place, tmp_path: Path) -> None:
    """Without any right the API server's own sentence says who may not read what."""
    place.plane.kubectl("create", "serviceaccount", "nobody", f"--namespace={place.namespace}")
    path = place.plane.service_account_kubeconfig(place.namespace, "nobody", tmp_path / "nobody.kubeconfig")
    with pytest.raises(Forbidden, match=rf"{place.plane.url}: .*cannot get resource \"marketfeeds\""):
        compared(parse(place.document({})), Target(str(path)))


def test_reading_is_enough_and_secrets_need_no_right(place: Place, tmp_path: Path) -> None:
    """The role `view` with leave to see feeds and their parts is enough; secrets that nobody shows are noted."""
    place.run({})
    path = viewer(place, tmp_path)
    found = wait_until(lambda: readable(place, path), 10, "the roles to be in force")
    assert found is not None
    assert found.differences == ()
    assert found.notes[0].startswith("the version of timescale may not be read")


def test_the_kubeconfigs_namespace_is_the_feeds(place: Place, tmp_path: Path) -> None:
    """A file without a namespace is compared in the context's."""
    place.run({})
    place.plane.kubectl("create", "serviceaccount", "viewer", f"--namespace={place.namespace}")
    path = place.plane.service_account_kubeconfig(place.namespace, "viewer", tmp_path / "own.kubeconfig")
    document = place.document({})
    del document["metadata"]["namespace"]
    with pytest.raises(Forbidden, match=f'in the namespace "{place.namespace}"'):
        compared(parse(document), Target(str(path)))
