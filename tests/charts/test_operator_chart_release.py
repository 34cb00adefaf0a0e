"""The operator's chart on a real API server: what it takes, and releases that come, change and go. No pod ever runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from charting import CHARTS, HelmFailed, helm, of_kind, render, restricted_namespace, without_hooks
from controlplane import ControlPlane
from controlplane.install import established
from helpers import wait_until
from operator_chart import CASES, CHART

DEFINITION = "marketfeeds.marketfeed.dev"
SOON_S = 30.0

pytestmark = pytest.mark.apiserver


class Release:
    """One release of the operator's chart in a namespace, by helm's own commands and without its hooks."""

    def __init__(self, plane: ControlPlane, namespace: str, name: str = "marketfeed") -> None:
        self.plane = plane
        self.namespace = namespace
        self.name = name

    def run(self, command: str, *arguments: str | Path, values: Mapping[str, Any] | None = None) -> str:
        """Run one of helm's commands; return what it printed."""
        where = f"--namespace={self.namespace}"
        done = helm(*command.split(), self.name, *arguments, where, kubeconfig=self.plane.kubeconfig, values=values)
        return done.stdout

    def install(self, chart: Path, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        return self.run("install", chart, *arguments, values=values)

    def upgrade(self, chart: Path, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        return self.run("upgrade", chart, *arguments, values=values)

    def uninstall(self) -> str:
        return self.run("uninstall", "--no-hooks")


def definition(plane: ControlPlane) -> dict[str, Any]:
    """Return the definition as it is on the cluster, once it is established."""
    found: dict[str, Any] = {}

    def served() -> bool:
        found.update(json.loads(plane.kubectl("get", "crd", DEFINITION, "-o", "json").stdout))
        return established(found)

    wait_until(served, SOON_S, "the definition to be established", every_s=0.2)
    return found


def fields(plane: ControlPlane) -> set[str]:
    """Return the fields of a feed's spec that the cluster's definition knows."""
    schema = definition(plane)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return set(schema["properties"]["spec"]["properties"])


def apply_feed(release: Release) -> None:
    """Make a feed, in a namespace where no operator is."""
    feed = yaml.safe_load((CHARTS.parent / "manifests/examples/binance-replay.yaml").read_text())
    feed["metadata"]["name"] = "survivor"
    where = f"--namespace={release.namespace}"
    release.plane.kubectl(where, "apply", "-f", "-", input=json.dumps(feed))


def feed_uid(release: Release) -> str:
    """Return the uid of that feed: another one would be another feed."""
    where = f"--namespace={release.namespace}"
    return release.plane.kubectl(where, "get", "mf", "survivor", "-o", "jsonpath={.metadata.uid}").stdout


@pytest.fixture
def release(chart_plane: ControlPlane, restricted: str) -> Iterator[Release]:
    """Return a release that is not there yet, on a cluster without our definition; both are gone afterwards."""
    gone = ("delete", "crd", DEFINITION, "--ignore-not-found", "--timeout=60s")
    chart_plane.kubectl(*gone)
    made = Release(chart_plane, restricted)
    yield made
    helm(
        "uninstall",
        "marketfeed",
        f"--namespace={restricted}",
        "--no-hooks",
        "--ignore-not-found",
        kubeconfig=chart_plane.kubeconfig,
    )
    chart_plane.kubectl(*gone)


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """Return the chart as a version before this one: its definition has no `suspend`, and it runs one replica."""
    chart = shutil.copytree(CHART, tmp_path / "previous")
    about = yaml.safe_load((chart / "Chart.yaml").read_text()) | {"version": "0.0.9", "appVersion": "0.0.9"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    path = next(chart.glob("files/crds/*.yaml"))
    older = yaml.safe_load(path.read_text())
    del older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["suspend"]
    path.write_text(yaml.safe_dump(older, sort_keys=False))
    values = (chart / "values.yaml").read_text().replace("replicas: 2", "replicas: 1")
    (chart / "values.yaml").write_text(values)
    return chart


@pytest.fixture
def spaces(chart_plane: ControlPlane) -> Iterator[Mapping[str, str]]:
    """Return the namespaces that the cases name → ones of this test's own."""
    names: dict[str, str] = {}
    with ExitStack() as made:
        for name in ("spot", "futures", "kafka"):
            names[name] = made.enter_context(restricted_namespace(chart_plane, name))
        yield names


@pytest.mark.parametrize("case", CASES)
def test_every_object_is_taken(
    chart_plane: ControlPlane, restricted: str, spaces: Mapping[str, str], case: str
) -> None:
    """The API server takes every object, hooks included, as it is written: no unknown field, no warning at all."""
    values, api_versions = CASES[case]
    text = json.dumps(values)
    for name, own in spaces.items():
        text = text.replace(f'"{name}"', f'"{own}"')
    objects = render(CHART, json.loads(text), namespace=restricted, api_versions=api_versions)
    for account in of_kind(objects, "ServiceAccount"):  # no pod is taken without its own, dry or not
        chart_plane.kubectl(f"--namespace={restricted}", "create", "serviceaccount", account["metadata"]["name"])
    options = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "--output=name")
    answer = chart_plane.kubectl("apply", *options, "-f", "-", input=yaml.safe_dump_all(objects))
    assert len(answer.stdout.split()) == len(objects)
    assert answer.stderr == ""


def test_a_release_is_installed_and_removed(release: Release) -> None:
    """An install makes what is rendered and says what to do next; an uninstall leaves nothing but the definition."""
    objects = without_hooks(render(CHART, namespace=release.namespace))
    release.install(CHART)
    notes = release.run("get notes")
    assert f"helm test marketfeed -n {release.namespace}" in notes
    assert "kubectl apply -f manifests/examples/binance-spot.yaml" in notes
    kinds = ",".join({each["kind"] for each in objects if each["kind"] != "CustomResourceDefinition"})
    chosen = (
        "get",
        kinds,
        f"--namespace={release.namespace}",
        "-l",
        "app.kubernetes.io/name=marketfeed-operator",
        "-o",
        "name",
    )
    made = release.plane.kubectl(*chosen).stdout.split()
    assert len(made) == len(objects) - 1
    release.uninstall()
    wait_until(lambda: not release.plane.kubectl(*chosen).stdout.split(), SOON_S, "the release to go")
    assert "suspend" in fields(release.plane)


def test_an_upgrade_reaches_the_definition(release: Release, previous: Path) -> None:
    """An upgrade brings the definition up to date, a rollback takes it back, an uninstall keeps it and every feed."""
    release.install(previous)
    assert "suspend" not in fields(release.plane)
    apply_feed(release)
    uid = feed_uid(release)
    release.upgrade(CHART)
    assert "suspend" in fields(release.plane)
    release.run("rollback", "1", "--no-hooks")
    assert "suspend" not in fields(release.plane)
    release.upgrade(CHART)
    release.uninstall()
    assert "suspend" in fields(release.plane)
    release.install(CHART)
    assert feed_uid(release) == uid


def test_a_definition_that_is_no_longer_installed_stays(release: Release) -> None:
    """Who turns crds.install off to look after the definition himself loses neither it nor a feed."""
    release.install(CHART)
    definition(release.plane)
    apply_feed(release)
    uid = feed_uid(release)
    release.upgrade(CHART, values={"crds": {"install": False}})
    assert feed_uid(release) == uid


def test_a_definition_that_was_left_is_brought_up_to_date(release: Release, previous: Path) -> None:
    """An install over the older definition that an earlier release left upgrades it, and keeps the feeds."""
    release.install(previous)
    definition(release.plane)
    apply_feed(release)
    uid = feed_uid(release)
    release.uninstall()
    assert "suspend" not in fields(release.plane)
    release.install(CHART)
    assert "suspend" in fields(release.plane)
    assert feed_uid(release) == uid


def test_a_definition_of_somebody_else_is_taken_over_on_request(release: Release) -> None:
    """A definition that was applied by hand stops an install; `--take-ownership` makes it the release's."""
    release.plane.kubectl("apply", "--server-side", "-f", str(next((CHARTS.parent / "crds").glob("*.yaml"))))
    definition(release.plane)
    with pytest.raises(HelmFailed, match="invalid ownership metadata"):
        release.install(CHART)
    release.install(CHART, "--take-ownership")
    owner = definition(release.plane)["metadata"]["annotations"]["meta.helm.sh/release-name"]
    assert owner == "marketfeed"
