"""The parts of the control plane that need no server: what it is told, what it tells, and where its programs are."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane import Request, audit, background, binaries, crds, kubeconfig, lock, toolchain
from controlplane.__main__ import usage
from controlplane.install import established
from controlplane.servers import ApiServer, ControllerManager, Etcd
from marketfeed_operator.plan import plan
from marketfeed_operator.spec import load

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.name for path in binaries.MODULES.iterdir())

LEAF = "-----BEGIN CERTIFICATE-----\nleaf\n-----END CERTIFICATE-----\n"
AUTHORITY = "-----BEGIN CERTIFICATE-----\nauthority\n-----END CERTIFICATE-----\n"
UP = background.Up(
    pid=7,
    url="https://127.0.0.1:1",
    kubeconfig="/state/admin.kubeconfig",
    kubectl="/cache/kubectl",
    companions=("stand-ins", "operator"),
    logs="/state",
    operator_url="http://127.0.0.1:2",
)


def event(**changes: object) -> str:
    """Return a line of an audit log: a service account creates a ConfigMap."""
    content = {
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/feeds/configmaps",
        "verb": "create",
        "user": {"username": "system:serviceaccount:marketfeed:operator"},
        "userAgent": "marketfeed",
        "objectRef": {"resource": "configmaps", "namespace": "feeds", "name": "streams"},
        "responseStatus": {"code": 201},
        "requestReceivedTimestamp": "2026-01-02T03:04:05.678901Z",
    }
    return json.dumps(content | changes) + "\n"


def only(*lines: str) -> Request:
    """Return the one request that the lines tell of."""
    (found,) = audit.requests(lines)
    return found


def test_a_kubeconfig_names_server_authority_token_and_namespace() -> None:
    """A client that follows the current context finds all four."""
    content = json.loads(kubeconfig.render("https://127.0.0.1:1", AUTHORITY, "secret", "feeds"))
    assert content["current-context"] == content["contexts"][0]["name"]
    context = content["contexts"][0]["context"]
    assert context == {
        "cluster": content["clusters"][0]["name"],
        "user": content["users"][0]["name"],
        "namespace": "feeds",
    }
    cluster = content["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(cluster["certificate-authority-data"]).decode() == AUTHORITY
    assert content["users"][0]["user"] == {"token": "secret"}


def test_the_authority_is_the_last_certificate_of_a_chain() -> None:
    """The API server writes its own certificate first."""
    assert kubeconfig.authority(LEAF + AUTHORITY) == AUTHORITY
    with pytest.raises(ValueError, match="no certificate"):
        kubeconfig.authority("nothing")


def test_an_accepted_change_is_a_write() -> None:
    """What was created counts, with who did it, when, and to what."""
    request = only(event())
    assert request.is_write
    assert (request.user, request.resource, request.name) == (
        "system:serviceaccount:marketfeed:operator",
        "configmaps",
        "streams",
    )
    assert request.at.isoformat() == "2026-01-02T03:04:05.678901+00:00"


@pytest.mark.parametrize(
    "changes",
    [
        {"verb": "get", "responseStatus": {"code": 200}},
        {"responseStatus": {"code": 409}},
        {"requestURI": "/api/v1/namespaces/feeds/configmaps?dryRun=All"},
    ],
    ids=["a read", "refused", "a dry run"],
)
def test_what_changed_nothing_is_no_write(changes: dict[str, object]) -> None:
    """A read, a refused change and a dry run are requests, but no writes."""
    assert not only(event(**changes)).is_write


def test_a_subresource_is_part_of_what_was_written() -> None:
    """A status is told from its object."""
    target = {"resource": "marketfeeds", "subresource": "status", "namespace": "feeds", "name": "spot"}
    assert only(event(verb="patch", objectRef=target)).resource == "marketfeeds/status"


def test_a_watch_counts_once_and_a_half_written_line_not_at_all() -> None:
    """A watch is logged when it starts and when it ends; the log's end may be in the middle of a line."""
    started, ended = (event(verb="watch", stage=stage) for stage in ("ResponseStarted", "ResponseComplete"))
    assert only(started, ended, event()[:40]).verb == "watch"


def test_no_secret_is_on_a_command_line(tmp_path: Path) -> None:
    """Every user of a machine can read command lines: tokens stand in files of their owner."""
    program = tmp_path / "program"
    etcd = Etcd(tmp_path / "etcd", program)
    server = ApiServer(tmp_path / "server", program, etcd.url, {"admin-token": ("admin", "system:masters")})
    manager = ControllerManager(tmp_path / "manager", program, server, "manager-token")
    server.prepare()
    server.certificates.mkdir()
    server.ca_file.write_text(AUTHORITY)
    manager.prepare()
    options = [str(value) for each in (etcd, server, manager) for value in each.options().values()]
    assert not [value for value in options if "-token" in value]
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and "-token" in path.read_text()]
    assert len(holders) == 2
    assert {path.stat().st_mode & 0o777 for path in holders} == {0o600}


def test_servers_listen_on_loopback_alone(tmp_path: Path) -> None:
    """Nothing of a control plane for tests is reached from another machine."""
    etcd = Etcd(tmp_path, tmp_path)
    server = ApiServer(tmp_path, tmp_path, etcd.url, {})
    assert server.options()["bind-address"] == "127.0.0.1"
    urls = [str(value) for name, value in etcd.options().items() if name.startswith("listen-")]
    assert len(urls) == 2
    assert all(url.startswith("http://127.0.0.1:") for url in urls)


def test_every_module_that_is_built_is_locked() -> None:
    """Each module has its sums, names its packages as tools, and is of the version that its programs say they are."""
    modules = {name: (binaries.MODULES / name / "go.mod").read_text() for name in MODULES}
    for target in (target for group in binaries.GROUPS for target in group.targets):
        assert (binaries.MODULES / target.module / "go.sum").read_text()
        assert target.package in modules[target.module]
    assert f"k8s.io/kubernetes {binaries.KUBERNETES_VERSION}" in modules["kubernetes"]
    assert f"helm.sh/helm/v3 {binaries.HELM_VERSION}" in modules["helm"]
    assert f"kube-router/v2 {binaries.KUBE_ROUTER_VERSION}" in modules["kube-router"]
    assert f"github.com/coredns/coredns {binaries.COREDNS_VERSION}" in modules["coredns"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_asks_for_no_newer_go_than_is_fetched(name: str) -> None:
    """Every module is built by the oldest Go that is taken from the PATH."""
    found = re.search(r"^go (\d+)\.(\d+)", (binaries.MODULES / name / "go.mod").read_text(), re.MULTILINE)
    assert found
    assert (int(found[1]), int(found[2])) <= toolchain.MINIMUM


def test_helm_assumes_the_kubernetes_of_the_client_that_it_is_built_with() -> None:
    """`helm template` without a server takes the version that Helm's own releases take, not 1.20."""
    client = re.search(r"k8s\.io/client-go v0\.(\d+)\.", (binaries.MODULES / "helm" / "go.mod").read_text())
    assert client
    (target,) = binaries.HELM.targets
    for package in ("chartutil", "lint/rules"):
        assert f"helm.sh/helm/v3/pkg/{package}.k8sVersionMinor={client[1]}" in target.flags


def test_another_version_of_a_module_is_another_build_of_its_groups_alone(tmp_path: Path) -> None:
    """The folder of the cache follows the modules' files: an old build never serves, and what is as it was stays."""
    shutil.copytree(binaries.MODULES, tmp_path / "modules")
    before = {group.name: binaries.folder_for(group, tmp_path / "modules") for group in binaries.GROUPS}
    assert list(before.values()) == [binaries.folder_for(group) for group in binaries.GROUPS]
    (tmp_path / "modules" / "helm" / "go.mod").write_text("module changed\n")
    after = {group.name: binaries.folder_for(group, tmp_path / "modules") for group in binaries.GROUPS}
    assert [name for name in before if before[name] != after[name]] == ["helm"]


def test_the_time_that_is_told_does_not_decide_what_is_built() -> None:
    """A better estimate is no reason to build for minutes; another flag is."""
    (helm,) = binaries.HELM.targets
    slower = replace(binaries.HELM, targets=(replace(helm, expected="an hour"),))
    other = replace(binaries.HELM, targets=(replace(helm, flags="-s"),))
    assert binaries.identity(slower) == binaries.identity(binaries.HELM)
    assert binaries.identity(other) != binaries.identity(binaries.HELM)


def test_a_build_takes_the_locked_modules_as_they_are(tmp_path: Path) -> None:
    """`go` may not change what is locked, and writes nothing of this machine's paths into the program."""
    command = binaries.build_command(binaries.CONTROL_PLANE.targets[0], tmp_path / "etcd")
    assert {"-mod=readonly", "-trimpath"} <= set(command)
    assert command[-3:] == ("-o", str(tmp_path / "etcd"), "go.etcd.io/etcd/server/v3")


@pytest.mark.parametrize("text", ["v1.35.4", "Kubernetes v1.35.0\n", "v1.35.9-rc.1"])
def test_programs_of_one_minor_version_are_taken_as_equal(text: str) -> None:
    """A patch release less is no reason to build for minutes."""
    assert binaries.minor(text) == "1.35"


def _assets(folder: Path, version: str) -> Path:
    folder.mkdir()
    for target in binaries.CONTROL_PLANE.targets:
        (folder / target.name).write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
        (folder / target.name).chmod(0o755)
    return folder


def test_programs_that_are_there_are_preferred(tmp_path: Path) -> None:
    """A folder that is named, or the PATH's, is taken where its version fits."""
    assets = _assets(tmp_path / "assets", "v1.35.1")
    for environ in ({"KUBEBUILDER_ASSETS": str(assets)}, {"PATH": str(assets)}):
        assert binaries.provide(environ) == binaries.Programs.of(assets)


def test_programs_that_do_not_fit_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another minor version, or a folder without etcd, is no substitute: our own are taken."""
    monkeypatch.setenv("MARKETFEED_CACHE", str(tmp_path / "cache"))
    ours = binaries.folder_for(binaries.CONTROL_PLANE)
    ours.mkdir(parents=True)
    old, partial = _assets(tmp_path / "old", "v1.29.0"), _assets(tmp_path / "partial", "v1.35.4")
    (partial / "etcd").unlink()
    for environ in ({"KUBEBUILDER_ASSETS": str(old)}, {"KUBEBUILDER_ASSETS": str(partial)}, {"PATH": str(old)}, {}):
        assert binaries.provide(environ) == binaries.Programs.of(ours)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v3.19.0+g3d8990f\n", (3, 19)),
        ("v3.19.0", (3, 19)),
        ("v4.0.1+g1234567", (4, 0)),
        ("Client: v2.17.0+ga690bad", None),
        ("", None),
    ],
)
def test_the_version_of_helm_is_read(text: str, version: tuple[int, int] | None) -> None:
    """It is what `helm version --short` starts with; Helm 2 and what is no Helm have none."""
    assert binaries.helm_version(text) == version


def _helm(folder: Path, script: str) -> str:
    folder.mkdir()
    (folder / "helm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "helm").chmod(0o755)
    return str(folder)


def test_a_helm_of_the_path_is_taken_where_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 3.14 or newer of those on the PATH is taken; an older, a broken or a missing one gives way to our own."""
    monkeypatch.setenv("MARKETFEED_CACHE", str(tmp_path / "cache"))
    ours = binaries.folder_for(binaries.HELM)
    ours.mkdir(parents=True)
    for version in ("v3.14.0+g3fc9f4b", "v4.0.1"):
        there = _helm(tmp_path / version, f"echo {version}")
        assert binaries.helm({"PATH": there}) == Path(there, "helm")
    for path in (_helm(tmp_path / "old", "echo v3.13.3"), _helm(tmp_path / "broken", "exit 1"), str(tmp_path), ""):
        assert binaries.helm({"PATH": path}) == ours / "helm"


def test_a_nodes_programs_come_from_their_own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scheduler, kubelet and proxy are beside each other; name server and policies in the folders of their modules."""
    monkeypatch.setenv("MARKETFEED_CACHE", str(tmp_path))
    groups = (binaries.NODE, binaries.COREDNS, binaries.KUBE_ROUTER)
    folder, coredns, router = (binaries.folder_for(group) for group in groups)
    for path in (folder, coredns, router):
        path.mkdir()
    programs = binaries.node()
    assert {path.name for path in (programs.scheduler, programs.kubelet, programs.proxy)} == {
        target.name for target in binaries.NODE.targets
    }
    assert {path.parent for path in (programs.scheduler, programs.kubelet, programs.proxy)} == {folder}
    assert programs.coredns == coredns / "coredns"
    assert programs.router == router / "kube-router"


@pytest.mark.parametrize(
    ("text", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26)), ("go1.9", (1, 9)), ("gccgo (Debian)", None), ("", None)],
)
def test_the_version_of_go_is_read(text: str, version: tuple[int, int] | None) -> None:
    """1.26 is newer than 1.9, and what is no Go has no version."""
    assert toolchain.go_version(text) == version


def test_everything_that_is_fetched_is_locked() -> None:
    """The lock names the archives of each release of Strimzi that is offered, and Go's wheels."""
    locked = lock.read()
    assert set(locked.archives) == {f"strimzi-{release}" for release, _ in crds.STRIMZI.values()}
    for release, _ in crds.STRIMZI.values():
        coordinates = [artifact.coordinates for artifact in locked.archives[f"strimzi-{release}"]]
        assert f"io.strimzi:crd-generator:{release}" in coordinates
    assert locked.wheels[lock.GO_PACKAGE].version == lock.GO_VERSION
    assert locked.wheels[lock.GO_PACKAGE].sha256


def test_strimzis_generator_is_asked_for_its_topic() -> None:
    """The class and the file stand in one argument, as the generator reads them."""
    command = crds.generator_command(Path("/java"), [Path("/a.jar"), Path("/b.jar")], Path("/topic.yaml"))
    assert command[-1] == "io.strimzi.api.kafka.model.topic.KafkaTopic=/topic.yaml"
    assert "/a.jar:/b.jar" in command


def test_a_state_folder_without_a_process_is_not_up(tmp_path: Path) -> None:
    """What a killed control plane left is not taken for a running one, and `down` clears it away."""
    assert background.find(tmp_path / "nothing") is None
    state = tmp_path / "state"
    state.mkdir()
    (state / "up.json").write_text(json.dumps({"pid": 1}))
    (state / "lock").touch()
    assert background.find(state) is None
    assert background.down(state) is False
    assert not state.exists()


def test_the_state_folder_can_be_named(tmp_path: Path) -> None:
    """A second control plane beside the first one needs a folder of its own."""
    assert background.state_dir({background.STATE_VARIABLE: str(tmp_path)}) == tmp_path
    assert background.state_dir({"MARKETFEED_CACHE": str(tmp_path)}) == tmp_path / "control-plane"


def test_what_comes_next_can_be_copied() -> None:
    """The words after `make control-plane` name the kubeconfig, and kubectl where the PATH has none."""
    assert "export KUBECONFIG=/state/admin.kubeconfig" in usage(UP, "/usr/bin/kubectl")
    assert "PATH" not in usage(UP, "/usr/bin/kubectl")
    assert "export PATH=$PATH:/cache " in usage(UP, None)
    assert "/state/*.log" in usage(UP, None)


def test_who_finds_it_running_is_told_that_its_code_is_old() -> None:
    """A changed operator only runs after the next start."""
    assert "make control-plane-down` first" in usage(UP, None, again=True)
    assert "first" not in usage(UP, None)


def test_the_secrets_of_every_example_are_there() -> None:
    """What an example names, with its keys, is made when the control plane starts."""
    for example in sorted((ROOT / "manifests" / "examples").glob("*.yaml")):
        made = plan(load(example.read_text(), example.name))
        uses = [use for shard in made.shards for use in shard.secrets]
        uses += [use for consumer in made.consumers for use in consumer.secrets]
        uses += made.analytics.secrets if made.analytics is not None else ()
        missing = [use for use in uses if use.key not in background.SECRETS.get(use.name, {})]
        assert not missing, example.name


def test_a_companion_that_is_not_there_is_left_out() -> None:
    """Only a module with a `__main__` can be run beside the control plane."""
    assert background.Companion("plane", "controlplane").is_there
    assert not background.Companion("nothing", "no_such_module").is_there
    assert not background.Companion("helpers", "helpers").is_there


def test_a_definition_without_conditions_is_not_established() -> None:
    """A new definition has no conditions for a moment, or none that is true: it is not served yet."""
    assert not established({"status": {"conditions": None}})
    assert not established({})
    assert not established({"status": {"conditions": [{"type": "Established", "status": "False"}]}})
    assert established({"status": {"conditions": [{"type": "Established", "status": "True"}]}})
