"""The control plane that tests and people get is a real one: it acts, it refuses, it fails, and it leaves nothing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import ClientConnectorCertificateError
from kubernetes.aio.client import ApiClient, Configuration, CoreV1Api
from kubernetes.aio.config import load_kube_config

from controlplane import ControlPlane, KubectlFailed, background, binaries, crds
from controlplane.install import install
from helpers import gone, wait_until

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "manifests" / "examples" / "binance-spot.yaml"
WAIT_S = 30.0
SPARK = {
    "type": "Python",
    "sparkVersion": "3.5.0",
    "mainApplicationFile": "local:///job.py",
    "driver": {},
    "executor": {},
}


def _manifest(kind: str, api_version: str, name: str, **rest: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **rest.pop("metadata", {})}, **rest}


def _apply(plane: ControlPlane, namespace: str, *objects: dict[str, Any]) -> None:
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    plane.kubectl("apply", "--server-side", f"--namespace={namespace}", "--filename=-", input=content)


def _names(plane: ControlPlane, namespace: str, kind: str) -> list[str]:
    return plane.kubectl("get", kind, f"--namespace={namespace}", "--output=name").stdout.split()


def _deployment(replicas: int) -> dict[str, Any]:
    labels = {"app": "sleeper"}
    pod = {"containers": [{"name": "sleeper", "image": "nowhere/nothing:1"}]}
    return _manifest(
        "Deployment",
        "apps/v1",
        "sleeper",
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    )


def test_a_control_plane_starts_within_half_a_minute_and_leaves_no_process(tmp_path: Path) -> None:
    """With its programs in the cache it is ready for a Pod in 30 s; after `stop` its processes are gone."""
    programs = binaries.provide()
    started = time.monotonic()
    with ControlPlane(tmp_path, programs) as plane:
        assert time.monotonic() - started < 30
        pids = plane.pids
        assert len(pids) == 3
    assert all(gone(pid) for pid in pids)


def test_deployments_become_pods(control_plane: ControlPlane, namespace: str) -> None:
    """The controller manager makes a ReplicaSet of a Deployment, and as many Pods as it asks for."""
    _apply(control_plane, namespace, _deployment(replicas=2))
    wait_until(lambda: len(_names(control_plane, namespace, "pods")) == 2, WAIT_S, "two pods")
    assert len(_names(control_plane, namespace, "replicasets")) == 1


def test_what_a_deleted_object_owned_is_collected(control_plane: ControlPlane, namespace: str) -> None:
    """A ConfigMap whose owner is deleted goes too."""
    _apply(control_plane, namespace, _manifest("ConfigMap", "v1", "owner"))
    get_uid = ("get", "configmap", "owner", f"--namespace={namespace}", "--output=jsonpath={.metadata.uid}")
    uid = control_plane.kubectl(*get_uid).stdout
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    _apply(control_plane, namespace, _manifest("ConfigMap", "v1", "owned", metadata={"ownerReferences": [owner]}))
    control_plane.kubectl("delete", "configmap", "owner", f"--namespace={namespace}")
    wait_until(
        lambda: "configmap/owned" not in _names(control_plane, namespace, "configmaps"), WAIT_S, "the owned ConfigMap"
    )


def test_a_deleted_namespace_goes_with_all_in_it(control_plane: ControlPlane, namespace: str) -> None:
    """A namespace with objects of kinds from definitions is not stuck in its deletion."""
    topic = _manifest("KafkaTopic", "kafka.strimzi.io/v1beta2", "trades", spec={"partitions": 1})
    _apply(control_plane, namespace, topic, _deployment(replicas=1))
    control_plane.kubectl("delete", "namespace", namespace, "--timeout=60s")
    assert control_plane.kubectl("get", "namespace", namespace, check=False).returncode != 0


def test_a_stranger_is_refused(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """A service account without a role may read nothing; with a role it may do what that says, and is logged."""
    control_plane.kubectl("create", "serviceaccount", "stranger", f"--namespace={namespace}")
    account = control_plane.service_account_kubeconfig(namespace, "stranger", tmp_path / "stranger.kubeconfig")
    refused = control_plane.kubectl("get", "configmaps", check=False, kubeconfig=account)
    assert "is forbidden" in refused.stderr

    user = f"{namespace}:stranger"
    control_plane.kubectl(
        "create", "rolebinding", "edit", "--clusterrole=edit", f"--serviceaccount={user}", f"--namespace={namespace}"
    )
    wait_until(
        lambda: (
            control_plane.kubectl("auth", "can-i", "create", "configmaps", check=False, kubeconfig=account).returncode
            == 0
        ),
        WAIT_S,
        "the role to count",
    )
    control_plane.kubectl("create", "configmap", "made", kubeconfig=account)
    (made,) = (w for w in control_plane.writes(f"system:serviceaccount:{user}") if w.resource == "configmaps")
    assert (made.verb, made.namespace, made.name, made.code) == ("create", namespace, "made", 201)
    assert {r.code for r in control_plane.requests(f"system:serviceaccount:{user}") if r.verb == "list"} == {403}


def test_the_operators_own_client_trusts_it(control_plane: ControlPlane) -> None:
    """kubernetes.aio verifies the server's certificate with the kubeconfig alone, and a client without it does not."""

    async def count(configuration: Configuration) -> int:
        async with ApiClient(configuration) as client:
            return len((await CoreV1Api(client).list_namespace()).items)

    async def with_kubeconfig() -> int:
        configuration = Configuration()
        await load_kube_config(str(control_plane.kubeconfig), client_configuration=configuration)
        assert configuration.verify_ssl
        return await count(configuration)

    assert asyncio.run(with_kubeconfig()) >= 4
    with pytest.raises(ClientConnectorCertificateError):
        asyncio.run(count(Configuration(host=control_plane.url)))


@pytest.mark.parametrize(
    ("kind", "api_version", "spec"),
    [
        ("KafkaTopic", "kafka.strimzi.io/v1beta2", {"partitions": 1}),
        ("SparkApplication", "sparkoperator.k8s.io/v1beta2", SPARK),
        ("PodMonitor", "monitoring.coreos.com/v1", {"selector": {}}),
    ],
)
def test_the_definitions_of_others_refuse_a_field_that_they_do_not_know(
    control_plane: ControlPlane, namespace: str, kind: str, api_version: str, spec: dict[str, Any]
) -> None:
    """Each third-party kind takes a right object, and names the wrong field of another."""
    _apply(control_plane, namespace, _manifest(kind, api_version, "right", spec=spec))
    with pytest.raises(KubectlFailed, match="speck"):
        _apply(control_plane, namespace, _manifest(kind, api_version, "wrong", spec=spec | {"speck": 1}))


def test_kafka_topics_come_in_their_new_version_too(own_control_plane: ControlPlane) -> None:
    """Strimzi 1's definition serves v1, and v1beta2 no more."""
    install(own_control_plane, [crds.kafka_topic("v1")])
    served = own_control_plane.kubectl("api-versions").stdout.split()
    assert "kafka.strimzi.io/v1" in served
    assert "kafka.strimzi.io/v1beta2" not in served


def test_an_api_server_comes_back_with_what_it_held(own_control_plane: ControlPlane) -> None:
    """After kill -9 of the API server alone it answers on the same address, with the objects of before."""
    own_control_plane.kubectl("create", "configmap", "kept")
    own_control_plane.kill_apiserver()
    assert own_control_plane.kubectl("get", "configmaps", check=False).returncode != 0
    own_control_plane.start_apiserver()
    assert "configmap/kept" in _names(own_control_plane, "default", "configmaps")
    _apply(own_control_plane, "default", _deployment(replicas=1))
    wait_until(lambda: _names(own_control_plane, "default", "pods"), WAIT_S, "a pod: the controllers work again")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Return what runs a target of the Makefile, with a control plane of this test's own, and returns its output."""
    environment = {**os.environ, background.STATE_VARIABLE: str(tmp_path / "state")}

    def run(target: str) -> str:
        command = ["make", "--old-file=setup", target]
        answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    yield run
    background.down(tmp_path / "state")


def test_make_leaves_a_control_plane_running_until_it_is_told_to_end(
    make: Callable[[str], str], tmp_path: Path
) -> None:
    """What is printed can be used at once, and makes a feed ready; twice is as good as once; nothing is left."""
    kubeconfig = re.search(r"export KUBECONFIG=(\S+)", make("control-plane"))
    assert kubeconfig is not None
    running = background.find(tmp_path / "state")
    assert running is not None
    kubectl = [running.kubectl, f"--kubeconfig={kubeconfig[1]}", f"--cache-dir={tmp_path / 'kubectl'}"]
    kinds = subprocess.run(
        [*kubectl, "get", "crds", "--output=name"], capture_output=True, text=True, check=True
    ).stdout
    for kind in ("kafkatopics.kafka.strimzi.io", "sparkapplications.sparkoperator.k8s.io", "podmonitors.monitoring"):
        assert kind in kinds
    subprocess.run([*kubectl, "apply", "-f", EXAMPLE], capture_output=True, check=True)
    for condition in ("TopicsReady", "Complete", "Ready"):
        wait = ["wait", f"--for=condition={condition}", "marketfeed/binance-spot", "--timeout=60s"]
        subprocess.run([*kubectl, *wait], capture_output=True, check=True)
    row = subprocess.run([*kubectl, "get", "marketfeeds", "--no-headers"], capture_output=True, text=True, check=True)
    assert row.stdout.split()[1:4] == ["binance", "3", "1/1"]
    assert row.stdout.split()[-3:-1] == ["True", "True"]
    assert len(row.stdout.split()) == 9, f"a column is empty: {row.stdout}"

    assert "up already" in make("control-plane")
    assert background.find(tmp_path / "state") == running

    processes = psutil.Process(running.pid).children(recursive=True)
    assert len(processes) >= 3
    assert "is down" in make("control-plane-down")
    assert all(gone(pid) for pid in [running.pid, *(process.pid for process in processes)])
    assert not (tmp_path / "state").exists()
    assert "No control plane was up" in make("control-plane-down")


def test_servers_do_not_outlive_a_control_plane_that_is_killed(make: Callable[[str], str], tmp_path: Path) -> None:
    """After kill -9 of the process that serves, etcd and the others are gone, and a new one can be started."""
    make("control-plane")
    first = background.find(tmp_path / "state")
    assert first is not None
    servers = psutil.Process(first.pid).children()
    assert len(servers) >= 3
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: all(gone(server.pid) for server in servers), WAIT_S, "the servers to end")
    assert background.find(tmp_path / "state") is None
    assert "is up:" in make("control-plane")
