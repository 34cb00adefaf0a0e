"""What is rendered, on a real API server: it is accepted as it is, stored as it is, and its pods are let in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane import ControlPlane, crds
from controlplane.install import install
from helpers import wait_until
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import KAFKA_TOPIC_V1BETA2, MANAGER, Manifest
from marketfeed_operator.render.quantities import canonical
from marketfeed_operator.spec import load, parse
from rendered_objects import EVERYTHING, of_kind, rendered, without

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "manifests" / "examples"
FEEDS = sorted([*EXAMPLES.glob("*.yaml"), *(HERE.parent / "golden" / "feeds").glob("*.yaml")])
SERVED = without(EVERYTHING, kafka_topic=KAFKA_TOPIC_V1BETA2, spark_suspend=False)  # as the tests' definitions are
WAIT_S = 30.0

every_feed = pytest.mark.parametrize("path", FEEDS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def control_plane(quiet_control_plane: ControlPlane) -> ControlPlane:
    """Return the control plane where no operator works: it would take these objects in hand."""
    return quiet_control_plane


def apply(plane: ControlPlane, *objects: Any) -> None:
    """Apply objects as the operator does, refusing every field that the API server does not know."""
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    options = ("--server-side", "--force-conflicts", "--validate=strict", f"--field-manager={MANAGER}")
    plane.kubectl("apply", *options, "--filename=-", input=content)


def fetch(plane: ControlPlane, item: Manifest) -> Any:
    """Return the object as it is stored."""
    metadata = item["metadata"]
    group, _, version = item["apiVersion"].rpartition("/")
    kind = f"{item['kind'].lower()}.{version}.{group}" if group else item["kind"].lower()
    answer = plane.kubectl("get", kind, metadata["name"], f"--namespace={metadata['namespace']}", "--output=json")
    return json.loads(answer.stdout)


def created(plane: ControlPlane, path: Path, namespace: str, kafka_namespace: str) -> MarketFeed:
    """Create the MarketFeed of an example in a namespace that admits restricted pods alone; return it as stored."""
    plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    document = yaml.safe_load(path.read_text())
    document["metadata"]["namespace"] = namespace
    document["spec"].setdefault("kafka", {}).setdefault("topics", {})["namespace"] = kafka_namespace
    apply(plane, document)
    return parse({**document, "metadata": fetch(plane, document)["metadata"]})


def differences(wanted: Any, found: Any, place: str = "") -> list[str]:
    """Return where `found` lacks what is wanted; what it has beside that is the API server's."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [line for key in wanted for line in differences(wanted[key], found.get(key), f"{place}.{key}")]
    if isinstance(wanted, list | tuple) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [line for index, (ours, theirs) in pairs for line in differences(ours, theirs, f"{place}[{index}]")]
    return [] if wanted == found else [f"{place}: {found!r} instead of {wanted!r}"]


@every_feed
def test_objects_are_stored_as_rendered_and_a_second_time_changes_nothing(
    control_plane: ControlPlane, namespace: str, kafka_namespace: str, path: Path
) -> None:
    """No field is unknown, every value is stored as written, and applying again leaves every version as it was."""
    objects = rendered(created(control_plane, path, namespace, kafka_namespace), served=SERVED)
    apply(control_plane, *objects)
    stored = [fetch(control_plane, item) for item in objects]
    for wanted, found in zip(objects, stored, strict=True):
        assert differences(wanted, found, f"{wanted['kind']} {wanted['metadata']['name']}") == []
    settled = [item for item in objects if item["kind"] not in ("Deployment", "PodDisruptionBudget")]  # have a status
    apply(control_plane, *objects)
    versions = {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in stored}
    for item in settled:
        metadata = fetch(control_plane, item)["metadata"]
        assert versions[metadata["uid"]] == metadata["resourceVersion"]
    assert {fetch(control_plane, item)["metadata"]["generation"] for item in of_kind(objects, "Deployment")} == {1}


@every_feed
def test_pods_are_let_into_a_restricted_namespace(
    control_plane: ControlPlane, namespace: str, kafka_namespace: str, path: Path
) -> None:
    """The controllers make every pod that is asked for, where only restricted pods are admitted."""
    objects = rendered(created(control_plane, path, namespace, kafka_namespace), served=SERVED)
    apply(control_plane, *objects)
    wanted: int = sum(item["spec"]["replicas"] for item in of_kind(objects, "Deployment"))

    def complete() -> bool:
        names = control_plane.kubectl("get", "pods", f"--namespace={namespace}", "--output=name").stdout
        return len(names.split()) == wanted

    assert wanted > 0
    wait_until(complete, WAIT_S, f"{wanted} pods in {namespace}", every_s=0.5)


def test_the_streaming_jobs_pods_are_let_into_a_restricted_namespace(
    control_plane: ControlPlane, namespace: str, kafka_namespace: str
) -> None:
    """Driver and executor, as Spark completes their templates, are pods that the API server accepts there."""
    feed = created(control_plane, EXAMPLES / "binance-production.yaml", namespace, kafka_namespace)
    objects = rendered(feed, served=SERVED)
    apply(control_plane, *of_kind(objects, "ServiceAccount"))
    (job,) = of_kind(objects, "SparkApplication")
    for role in ("driver", "executor"):
        part = job["spec"][role]
        spec = part["template"]["spec"]
        container = {**spec["containers"][0], "image": job["spec"]["image"]}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": role, "namespace": namespace, "labels": part["labels"]},
            "spec": {**spec, "serviceAccountName": part["serviceAccount"], "containers": [container]},
        }
        apply(control_plane, pod)


def test_the_job_may_do_what_a_driver_does_and_ingestors_nothing(
    control_plane: ControlPlane, namespace: str, kafka_namespace: str
) -> None:
    """The API server grants the driver's account its executors, and nobody any secret."""
    feed = created(control_plane, EXAMPLES / "binance-production.yaml", namespace, kafka_namespace)
    apply(control_plane, *rendered(feed, served=SERVED))

    def may(account: str, verb: str, resource: str) -> bool:
        user = f"--as=system:serviceaccount:{namespace}:binance-production-{account}"
        answer = control_plane.kubectl("auth", "can-i", verb, resource, user, f"--namespace={namespace}", check=False)
        return answer.stdout.strip() == "yes"

    assert may("analytics", "create", "pods")
    assert may("analytics", "deletecollection", "configmaps")
    for account, verb, resource in (
        ("analytics", "get", "secrets"),
        ("analytics", "delete", "services"),
        ("analytics", "delete", "persistentvolumeclaims"),
        ("services", "get", "pods"),
        ("services", "get", "configmaps"),
    ):
        assert not may(account, verb, resource)


def test_topics_are_accepted_by_a_strimzi_that_serves_v1_alone(own_control_plane: ControlPlane) -> None:
    """The newest definition takes the same topics, names that are no resource names included, and stores them so."""
    install(own_control_plane, [crds.kafka_topic("v1")])
    own_control_plane.kubectl("create", "namespace", "kafka")
    feed = load((EXAMPLES / "binance-spot.yaml").read_text(), "binance-spot.yaml")
    topics = of_kind(rendered(feed), "KafkaTopic")
    apply(own_control_plane, *topics)
    assert [line for item in topics for line in differences(item, fetch(own_control_plane, item))] == []
    assert [item["spec"].get("topicName") for item in topics] == [None, "binance.book_ticker", None]


def test_quantities_are_stored_as_they_are_predicted(control_plane: ControlPlane, namespace: str) -> None:
    """What the API server makes of every way to write an amount is what we write at once."""
    amounts = [
        "0.5",
        "1.500",
        "1000m",
        "2",
        "1024Mi",
        "1.5Gi",
        "1000Ki",
        "0.5Ki",
        "2000k",
        "5000",
        "2.50",
        "0.1n",
        "1500u",
        "8Ki",
    ]
    containers = [
        {"name": f"c{index}", "image": "none", "resources": {"requests": {"memory": amount}}}
        for index, amount in enumerate(amounts)
    ]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "quantities", "namespace": namespace},
        "spec": {"containers": containers},
    }
    apply(control_plane, pod)
    stored = [item["resources"]["requests"]["memory"] for item in fetch(control_plane, pod)["spec"]["containers"]]
    assert stored == [canonical(amount) for amount in amounts]
