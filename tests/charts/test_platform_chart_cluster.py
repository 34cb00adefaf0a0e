"""The chart of what stands around a feed, given to a real API server: what it refuses, and what lasts.

There is no node, so that no pod runs; claims are made by the real controllers all the same.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from charting import CHARTS, HelmFailed, golden_text, helm, hooks_of, render, restricted_namespace, without_hooks
from controlplane import ControlPlane, crds
from controlplane.install import install
from helpers import wait_until

pytestmark = pytest.mark.apiserver

CHART = CHARTS / "marketfeed-platform"
ON = {"enabled": True}
EVERYTHING: dict[str, Any] = {
    "kafka": {"mode": "plain", "config": {"message.max.bytes": 2097152}},
    "postgresql": {"settings": {"shared_buffers": "256MB"}},
    "cockroachdb": ON,
    "redis": ON,
    "podDisruptionBudgets": ON,
    "grafana": {
        "dashboards": {"configMaps": ["market-overview"]},
        "alerting": {"configMaps": ["alert-rules"]},
        "smtp": {
            "enabled": True,
            "host": "mail.example:587",
            "from": "feeds@example.com",
            "to": ["desk@example.com"],
            "existingSecret": "smtp",
        },
    },
}
SECRETS = ("postgresql-auth", "redis-auth", "cockroachdb-auth", "grafana-auth")


class Release:
    """A release `platform` of the chart in a restricted namespace, for feeds in another."""

    def __init__(self, plane: ControlPlane, namespace: str, feeds: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.feeds = feeds

    def helm(self, *arguments: str | Path, values: Mapping[str, Any] | None = None) -> str:
        """Run helm on the release's cluster and namespace."""
        place = [f"--namespace={self.namespace}"]
        return helm(*arguments, *place, kubeconfig=self.plane.kubeconfig, values=values).stdout

    def apply(self, values: Mapping[str, Any]) -> None:
        """Install or upgrade."""
        given = {**values, "feedNamespaces": [self.feeds]}
        self.helm("upgrade", "--install", "platform", CHART, values=given)

    def get(self, *arguments: str, namespace: str = "") -> Any:
        """Return objects as kubectl finds them; None where one is not there."""
        place = f"--namespace={namespace or self.namespace}"
        text = self.plane.kubectl("get", *arguments, place, "--output=json", "--ignore-not-found").stdout
        return json.loads(text) if text else None

    def secret(self, name: str, namespace: str = "") -> dict[str, str]:
        """Return a Secret's texts."""
        data = self.get("secret", name, namespace=namespace)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def left(self) -> set[str]:
        """Return what is in the namespace beside data, Secrets and what Kubernetes itself puts into each."""
        # Not `all`: it names MarketFeeds too where kubectl remembers them, and other tests take their definition away.
        workloads = "deployments,statefulsets,jobs,pods,services"
        found = self.get(f"{workloads},configmaps,networkpolicies,poddisruptionbudgets,roles,serviceaccounts")["items"]
        names = {f"{each['kind']}/{each['metadata']['name']}" for each in found}
        return names - {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}

    def claims(self) -> set[str]:
        """Return the names of the volume claims."""
        return {each["metadata"]["name"] for each in self.get("persistentvolumeclaims")["items"]}


@pytest.fixture
def release(chart_plane: ControlPlane) -> Iterator[Release]:
    """Return a release that is not installed yet, in namespaces of this test's own."""
    with restricted_namespace(chart_plane, "kafka") as namespace, restricted_namespace(chart_plane, "feeds") as feeds:
        yield Release(chart_plane, namespace, feeds)


@pytest.fixture(scope="module", params=["v1beta2", "v1"])
def strimzi_plane(request: pytest.FixtureRequest) -> Iterator[tuple[ControlPlane, str]]:
    """Start a control plane that serves one version of Strimzi's real kinds, once for the tests of each version."""
    with tempfile.TemporaryDirectory(prefix="marketfeed-test-") as folder, ControlPlane(Path(folder)) as plane:
        install(plane, crds.kafka_cluster(request.param))
        yield plane, request.param


def accepted(plane: ControlPlane, namespace: str, feeds: str, values: Mapping[str, Any], *served: str) -> str:
    """Let the API server check every object, hooks too, and return its warnings; raises KubectlFailed."""
    given = {**values, "feedNamespaces": [feeds]}
    objects = render(CHART, given, name="platform", namespace=namespace, api_versions=served)
    assert any(hooks_of(each) for each in objects)
    assert without_hooks(objects)
    command = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    return plane.kubectl(*command, input=golden_text(objects)).stderr


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_the_api_server_takes_each_object(release: Release, values: Mapping[str, Any]) -> None:
    """No unknown field, no refused value and no pod that the restricted standard warns of."""
    assert accepted(release.plane, release.namespace, release.feeds, values) == ""


def test_the_api_server_takes_strimzis_objects(strimzi_plane: tuple[ControlPlane, str]) -> None:
    """Strimzi's own definitions take the cluster and its node pool, in both versions of its API."""
    plane, version = strimzi_plane
    values = {
        "kafka": {
            "replicas": 3,
            "strimzi": {"tls": True, "version": "4.1.0"},
            "persistence": {"storageClass": "fast"},
            "config": {"message.max.bytes": 2097152},
        },
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    }
    with restricted_namespace(plane, "kafka") as namespace, restricted_namespace(plane, "feeds") as feeds:
        assert accepted(plane, namespace, feeds, values, f"kafka.strimzi.io/{version}/Kafka") == ""


def test_passwords_are_made_once(release: Release) -> None:
    """An upgrade keeps every generated password, also those of components that are switched on later."""
    release.apply({})
    first = release.secret("postgresql-auth")
    dsn = release.secret("timescale", release.feeds)
    assert dsn == {"dsn": f"postgresql://marketfeed:{first['password']}@postgresql.{release.namespace}:5432/marketfeed"}
    release.apply(EVERYTHING)
    everything = {name: release.secret(name) for name in SECRETS}
    release.apply({**EVERYTHING, "test": {"timeoutSeconds": 61}})
    assert {name: release.secret(name) for name in SECRETS} == everything
    assert everything["postgresql-auth"] == first
    assert release.secret("timescale", release.feeds) == dsn
    url = f"redis://:{everything['redis-auth']['password']}@redis.{release.namespace}:6379/0"
    assert release.secret("redis", release.feeds) == {"url": url}


def test_uninstalling_keeps_data_and_what_opens_it(release: Release) -> None:
    """Volume claims and passwords outlive the release, and a new release of its name takes them up; all else goes."""
    release.apply(EVERYTHING)
    names = {
        f"data-{name}-0"
        for name in ("kafka", "postgresql", "cockroachdb", "redis", "prometheus", "grafana", "simulator")
    }
    wait_until(lambda: release.claims() == names, 60, "not all claims were made")
    before = {name: release.secret(name) for name in SECRETS}
    release.helm("uninstall", "platform", "--wait")
    assert release.claims() == names
    assert release.get("secret", "timescale", namespace=release.feeds) is None
    wait_until(lambda: not release.left(), 30, "the end of all else")
    release.apply(EVERYTHING)
    assert {name: release.secret(name) for name in SECRETS} == before


def test_a_secret_of_ones_own_gives_the_dsn(release: Release) -> None:
    """The password of existingSecret is in the feeds' DSN, and an upgrade takes a changed one over."""
    values = {"postgresql": {"existingSecret": "mine"}, "grafana": {"enabled": False}}
    release.apply(values)
    assert release.get("secret", "timescale", namespace=release.feeds) is None
    release.plane.kubectl(
        "create", "secret", "generic", "mine", "--from-literal=password=s3cret", f"--namespace={release.namespace}"
    )
    release.apply(values)
    assert "marketfeed:s3cret@" in release.secret("timescale", release.feeds)["dsn"]
    assert release.get("secret", "postgresql-auth") is None


def test_no_password_is_told_after_an_installation(release: Release) -> None:
    """What helm prints names the Secrets and quotes none of their values."""
    release.apply(EVERYTHING)
    notes = release.helm("get", "notes", "platform")
    passwords = [value for name in SECRETS for key, value in release.secret(name).items() if "password" in key]
    assert len(passwords) == 5
    assert not any(password in notes for password in passwords)
    assert "Secret grafana-auth" in notes


def test_a_plain_broker_stays_when_strimzi_comes(strimzi_plane: tuple[ControlPlane, str]) -> None:
    """No upgrade puts an empty Strimzi cluster in the place of a broker that has data, nor when it is asked to."""
    plane, _ = strimzi_plane
    with restricted_namespace(plane, "kafka") as namespace, restricted_namespace(plane, "feeds") as feeds:
        release = Release(plane, namespace, feeds)
        release.apply({"kafka": {"mode": "plain"}})
        release.apply({"kafka": {"mode": "auto"}})
        with pytest.raises(HelmFailed, match="an empty cluster would take its place"):
            release.apply({"kafka": {"mode": "strimzi"}})
        assert release.get("statefulset", "kafka") is not None
        assert release.get("kafkas.kafka.strimzi.io") is None
