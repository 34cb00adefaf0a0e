"""The client on a real API server: what it means by apply, status, version, delete, event and served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from kubernetes.aio.config import incluster_config

from controlplane import ControlPlane
from marketfeed_operator.api import cluster as cluster_module
from marketfeed_operator.api.cluster import METADATA_ONLY, Cluster
from marketfeed_operator.api.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    NotServed,
    Terminating,
    Unanswered,
)
from marketfeed_operator.api.transport import Request, Transport
from marketfeed_operator.objects import (
    CONFIG_MAP,
    KAFKA_TOPIC_V1BETA2,
    POD_MONITOR,
    SECRET,
    SERVICE_ACCOUNT,
    Kind,
    Manifest,
)

NO_UID = "11111111-2222-3333-4444-555555555555"

Scenario = Callable[[Cluster], Awaitable[None]]


@dataclass(frozen=True)
class Note:
    """A notice."""

    type: str = "Warning"
    reason: str = "TopicConflict"
    message: str = "Somebody else wants it otherwise"


def _run(kubeconfig: Path | None, scenario: Scenario) -> None:
    async def run() -> None:
        cluster = await Cluster.connect(str(kubeconfig) if kubeconfig else None)
        try:
            await scenario(cluster)
        finally:
            await cluster.close()

    asyncio.run(asyncio.wait_for(run(), 60))


def _map(namespace: str, name: str = "it", **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _topic(namespace: str, **spec: Any) -> Manifest:
    return {
        "apiVersion": KAFKA_TOPIC_V1BETA2.api_version,
        "kind": "KafkaTopic",
        "metadata": {"name": "trades", "namespace": namespace},
        "spec": {"partitions": 3, **spec},
    }


def test_an_apply_owns_its_fields_and_leaves_those_of_others(control_plane: ControlPlane, namespace: str) -> None:
    """What we no longer say disappears, what another said stays, and the same again changes nothing."""

    async def scenario(c: Cluster) -> None:
        first = await c.apply(_map(namespace, x="1", y="2"), CONFIG_MAP)
        again = await c.apply(_map(namespace, x="1", y="2"), CONFIG_MAP)
        assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        await c.apply(_map(namespace, z="3"), CONFIG_MAP, manager="another")
        assert (await c.apply(_map(namespace, x="1"), CONFIG_MAP))["data"] == {"x": "1", "z": "3"}

    _run(control_plane.kubeconfig, scenario)


def test_a_contested_field_is_a_conflict_unless_forced(control_plane: ControlPlane, namespace: str) -> None:
    """Without force the error names the other manager and the field; with force the field is ours."""

    async def scenario(c: Cluster) -> None:
        await c.apply(_topic(namespace), KAFKA_TOPIC_V1BETA2, manager="first")
        with pytest.raises(Conflict, match=r'conflict with "first".*\.spec\.partitions'):
            await c.apply(_topic(namespace, partitions=4), KAFKA_TOPIC_V1BETA2, manager="second", force=False)
        taken = await c.apply(_topic(namespace, partitions=4), KAFKA_TOPIC_V1BETA2, manager="second")
        assert taken["spec"]["partitions"] == 4

    _run(control_plane.kubeconfig, scenario)


@pytest.mark.parametrize("custom", [False, True])
def test_an_unknown_field_is_invalid_and_named(control_plane: ControlPlane, namespace: str, *, custom: bool) -> None:
    """Of a built-in kind (answered with status 500) and of a custom one alike, in one attempt."""

    async def scenario(c: Cluster) -> None:
        if custom:
            with pytest.raises(Invalid, match="partitons"):
                await c.apply(_topic(namespace, partitons=3), KAFKA_TOPIC_V1BETA2)
        else:
            with pytest.raises(Invalid, match="dota"):
                await c.apply({**_map(namespace), "dota": {}}, CONFIG_MAP)

    _run(control_plane.kubeconfig, scenario)


def test_a_wrong_value_is_invalid_and_explained(control_plane: ControlPlane, namespace: str) -> None:
    """The API server's own sentence comes through."""

    async def scenario(c: Cluster) -> None:
        with pytest.raises(Invalid, match=r"spec\.partitions"):
            await c.apply(_topic(namespace, partitions=0), KAFKA_TOPIC_V1BETA2)

    _run(control_plane.kubeconfig, scenario)


def test_where_there_is_nothing_to_write_to(control_plane: ControlPlane, namespace: str) -> None:
    """A missing namespace, an unknown kind and a status without its object are told apart."""

    async def scenario(c: Cluster) -> None:
        with pytest.raises(NotFound, match="namespaces"):
            await c.apply(_map("nowhere"), CONFIG_MAP)
        unknown = Kind("unknown.dev", "v1", "Thing", "things")
        with pytest.raises(NotServed):
            await c.apply(_map(namespace) | {"apiVersion": "unknown.dev/v1", "kind": "Thing"}, unknown)
        with pytest.raises(NotServed):
            await c.list(unknown, namespace)
        with pytest.raises(NotFound):
            await c.apply_status(KAFKA_TOPIC_V1BETA2, namespace, "nothing", {})
        assert await c.get(unknown, namespace, "x") is None
        await c.delete(CONFIG_MAP, namespace, "nothing")

    _run(control_plane.kubeconfig, scenario)


def test_a_namespace_that_is_being_deleted_says_so(control_plane: ControlPlane, namespace: str) -> None:
    """A creation there is refused as Terminating, which is not a missing role."""

    async def scenario(c: Cluster) -> None:
        held = _map(namespace)
        held = held | {"metadata": {**held["metadata"], "finalizers": ["marketfeed.dev/test"]}}
        await c.apply(held, CONFIG_MAP)
        control_plane.kubectl("delete", "namespace", namespace, "--wait=false")
        try:
            with pytest.raises(Terminating):
                await c.apply(_map(namespace, "another"), CONFIG_MAP)
        finally:
            await c.patch(CONFIG_MAP, namespace, "it", {"metadata": {"finalizers": None}})

    _run(control_plane.kubeconfig, scenario)


def test_a_status_is_whole_and_leaves_the_spec_alone(control_plane: ControlPlane, namespace: str) -> None:
    """What a new status leaves out disappears, and the generation stays."""

    async def scenario(c: Cluster) -> None:
        kind = KAFKA_TOPIC_V1BETA2
        await c.apply(_topic(namespace), kind)
        await c.apply_status(kind, namespace, "trades", {"observedGeneration": 1, "topicName": "trades"})
        after = await c.apply_status(kind, namespace, "trades", {"observedGeneration": 2})
        assert after["status"] == {"observedGeneration": 2}
        assert after["metadata"]["generation"] == 1

    _run(control_plane.kubeconfig, scenario)


def test_a_deletion_is_meant_for_one_object(control_plane: ControlPlane, namespace: str) -> None:
    """With another uid or version nothing is deleted; with the right ones it is gone; twice is fine."""

    async def scenario(c: Cluster) -> None:
        made = (await c.apply(_map(namespace), CONFIG_MAP))["metadata"]
        uid, version = made["uid"], made["resourceVersion"]
        with pytest.raises(Conflict):
            await c.delete(CONFIG_MAP, namespace, "it", uid=NO_UID)
        await c.patch(CONFIG_MAP, namespace, "it", {"data": {"x": "2"}})
        with pytest.raises(Conflict):
            await c.delete(CONFIG_MAP, namespace, "it", uid=uid, resource_version=version)
        assert await c.get(CONFIG_MAP, namespace, "it") is not None
        await c.delete(CONFIG_MAP, namespace, "it", uid=uid)
        assert await c.get(CONFIG_MAP, namespace, "it") is None
        await c.delete(CONFIG_MAP, namespace, "it", uid=uid)

    _run(control_plane.kubeconfig, scenario)


def test_lists_in_pages_are_complete(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pages of 3, all objects come, once, with their kind, and only those that the selector fits."""
    monkeypatch.setattr(cluster_module, "PAGE", 3)

    async def scenario(c: Cluster) -> None:
        for number in range(8):
            one = _map(namespace, f"it-{number}")
            labels = {"half": "first" if number < 4 else "second"}
            await c.apply(one | {"metadata": {**one["metadata"], "labels": labels}}, CONFIG_MAP)
        found = await c.list(CONFIG_MAP, namespace, "half")
        assert sorted(item["metadata"]["name"] for item in found) == [f"it-{number}" for number in range(8)]
        assert {(item["apiVersion"], item["kind"]) for item in found} == {("v1", "ConfigMap")}
        assert len(await c.list(CONFIG_MAP, None, "half=first")) == 4

    _run(control_plane.kubeconfig, scenario)


def test_a_secrets_version_comes_without_its_value(control_plane: ControlPlane, namespace: str) -> None:
    """The version changes with the secret, and the API server sends metadata alone."""
    control_plane.kubectl("create", "secret", "generic", "dsn", f"--namespace={namespace}", "--from-literal=dsn=hush")

    async def scenario(c: Cluster) -> None:
        before = await c.version(SECRET, namespace, "dsn")
        assert before is not None
        await c.patch(SECRET, namespace, "dsn", {"stringData": {"dsn": "husher"}})
        after = await c.version(SECRET, namespace, "dsn")
        assert after is not None
        assert before.split(":")[0] == after.split(":")[0]
        assert before != after
        assert await c.version(SECRET, namespace, "none") is None

    _run(control_plane.kubeconfig, scenario)

    async def sent() -> bytes:
        transport = await Transport.connect(str(control_plane.kubeconfig), None)
        answer = await transport.send(Request("GET", SECRET.path(namespace, "dsn"), {}, accept=METADATA_ONLY), 10)
        await transport.close()
        return answer.body

    body = json.loads(asyncio.run(sent()))
    assert body["kind"] == "PartialObjectMetadata"
    assert set(body) == {"kind", "apiVersion", "metadata"}


def test_events_are_seen_and_counted(control_plane: ControlPlane, namespace: str) -> None:
    """Three times the same is one line with a count of 3 for `kubectl get events`; another message is another line."""

    async def scenario(c: Cluster) -> None:
        uid = (await c.apply(_map(namespace), CONFIG_MAP))["metadata"]["uid"]
        for _ in range(3):
            await c.event(CONFIG_MAP, namespace, "it", uid, Note())
        await c.event(CONFIG_MAP, namespace, "it", uid, Note(message="Another"))

    _run(control_plane.kubeconfig, scenario)
    told = control_plane.kubectl("get", "events", f"--namespace={namespace}", "-o=wide", "--no-headers").stdout
    lines = sorted(line for line in told.splitlines() if "TopicConflict" in line)
    assert len(lines) == 2
    assert sum("Somebody else wants it otherwise" in line and " 3 " in line for line in lines) == 1
    assert all("configmap/it" in line and "marketfeed.dev/operator" in line for line in lines)


def test_what_is_served_is_found_without_any_role(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """A service account without a single role sees which APIs there are, and may write nothing."""
    control_plane.kubectl("create", "serviceaccount", "nobody", f"--namespace={namespace}")
    kubeconfig = control_plane.service_account_kubeconfig(namespace, "nobody", tmp_path / "kubeconfig")

    async def scenario(c: Cluster) -> None:
        served = await c.served()
        assert served.kafka_topic is not None
        assert served.spark_application
        assert served.pod_monitor
        assert await c._has_field(POD_MONITOR, "selector")
        assert not await c._has_field(POD_MONITOR, "suspend")
        with pytest.raises(Forbidden, match="nobody"):
            await c.apply(_map(namespace), CONFIG_MAP)

    _run(kubeconfig, scenario)


def test_a_pods_token_is_read_again_when_it_was_replaced(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pod, a token that is refused is read anew from its file; calls and kopf's login go on with the new one."""
    control_plane.kubectl("create", "serviceaccount", "me", f"--namespace={namespace}")
    control_plane.kubectl(
        "create", "rolebinding", "me", "--clusterrole=view", f"--serviceaccount={namespace}:me", "-n", namespace
    )
    good = control_plane.kubectl("create", "token", "me", f"--namespace={namespace}").stdout.strip()
    token = tmp_path / "token"
    token.write_text("refused")
    where = urlsplit(control_plane.url)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(where.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(where.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(control_plane.ca_file))

    async def scenario(c: Cluster) -> None:
        with pytest.raises(Forbidden):
            await c.list(SERVICE_ACCOUNT, namespace)
        token.write_text(f"{good}\n")
        names = {item["metadata"]["name"] for item in await c.list(SERVICE_ACCOUNT, namespace)}
        assert "me" in names
        login = c.connection()
        url = f"{login.server}{CONFIG_MAP.path(namespace)}"
        async with aiohttp.ClientSession(headers=login.as_http_headers()) as session:
            answer = await session.get(url, ssl=login.as_ssl_context())
            assert answer.status == 200

    _run(None, scenario)


def test_writes_survive_an_api_server_that_restarts(own_control_plane: ControlPlane) -> None:
    """An apply that finds the API server away is an error of ours; the same client works when it is back."""

    async def scenario(c: Cluster) -> None:
        await c.apply(_map("default", x="1"), CONFIG_MAP)
        own_control_plane.kill_apiserver()
        with pytest.raises(Unanswered):
            await c.apply(_map("default", x="2"), CONFIG_MAP)
        await asyncio.to_thread(own_control_plane.start_apiserver)
        assert (await c.apply(_map("default", x="3"), CONFIG_MAP))["data"] == {"x": "3"}

    _run(own_control_plane.kubeconfig, scenario)
