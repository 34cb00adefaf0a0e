"""Where programs made of Go modules come from: those that are there, those of the cache, else a build.

A group is what is built and cached together: the control plane, a node's programs, CoreDNS and so on. The modules'
versions stand in `modules/*/go.mod`, their sums in `go.sum`; another version of one moves its groups alone.
What does not live here: Go itself (toolchain), and starting any of them (servers, and `node`).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from controlplane import toolchain
from marketfeed.local.components import build, cache_dir

KUBERNETES_VERSION = "v1.35.4"
HELM_VERSION = "v3.19.0"
COREDNS_VERSION = "v1.12.4"
KUBE_ROUTER_VERSION = "v2.2.1"
OLDEST_HELM = (3, 14)  # of those on the PATH; any that is newer is taken
MODULES = Path(__file__).with_name("modules")

_COMPONENT_BASE = "k8s.io/component-base/version"
_KUBERNETES_FLAGS = (
    f"-s -w -X {_COMPONENT_BASE}.gitVersion={KUBERNETES_VERSION}"
    f" -X {_COMPONENT_BASE}.gitMajor=1 -X {_COMPONENT_BASE}.gitMinor=35"
)
# The Kubernetes that `helm template` and `helm lint` assume is that of the client which Helm is built with, as in its
# own releases; without these it would be 1.20, which charts for a present Kubernetes refuse.
_HELM_FLAGS = f"-s -w -X helm.sh/helm/v3/internal/version.version={HELM_VERSION}" + "".join(
    f" -X helm.sh/helm/v3/pkg/{package}.k8sVersion{part}={number}"
    for package in ("chartutil", "lint/rules")
    for part, number in (("Major", 1), ("Minor", 34))
)
_VERSION_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Target:
    """One program: the file's name, its module's folder below `modules`, its package and its linker flags."""

    name: str
    module: str
    package: str
    flags: str
    expected: str  # how long it takes the first time, for whoever waits


@dataclass(frozen=True, slots=True)
class Group:
    """Programs that are built and cached together, in a folder of the cache whose name starts with `name`."""

    name: str
    title: str
    targets: tuple[Target, ...]
    expected: str  # for all of them, the first time


def _kubernetes(name: str, expected: str) -> Target:
    return Target(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES_FLAGS, expected)


CONTROL_PLANE = Group(
    "controlplane",
    "a Kubernetes control plane",
    (
        Target("etcd", "etcd", "go.etcd.io/etcd/server/v3", "-s -w", "half a minute"),
        _kubernetes("kube-apiserver", "about 4 minutes"),
        _kubernetes("kube-controller-manager", "about 2 minutes"),
        _kubernetes("kubectl", "half a minute"),
    ),
    "about 7 minutes on two cores",
)
NODE = Group(
    "node",
    "the programs of a Kubernetes node",
    (
        _kubernetes("kube-scheduler", "half a minute"),
        _kubernetes("kubelet", "half a minute"),
        _kubernetes("kube-proxy", "a few seconds"),
    ),
    "about a minute on two cores, the control plane being built",
)
COREDNS = Group(
    "coredns",
    f"CoreDNS {COREDNS_VERSION}",
    (Target("coredns", "coredns", "github.com/coredns/coredns", "-s -w", "about 3 minutes"),),
    "about 3 minutes on two cores",
)
HELM = Group(
    "helm",
    f"Helm {HELM_VERSION}",
    (Target("helm", "helm", "helm.sh/helm/v3/cmd/helm", _HELM_FLAGS, "about 2 minutes"),),
    "about 2 minutes on two cores",
)
KUBE_ROUTER = Group(
    "kube-router",
    f"kube-router {KUBE_ROUTER_VERSION}, which enforces network policies",
    (
        Target(
            "kube-router",
            "kube-router",
            "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
            f"-s -w -X github.com/cloudnativelabs/kube-router/v2/pkg/version.Version={KUBE_ROUTER_VERSION}",
            "about 2 minutes",
        ),
    ),
    "about 2 minutes on two cores",
)
SPARK_OPERATOR = Group(
    "spark-operator",
    "Kubeflow's Spark operator",
    (
        Target(
            "spark-operator",
            "spark-operator",
            "github.com/kubeflow/spark-operator/v2/cmd/operator",
            "-s -w",
            "about 2 minutes",
        ),
    ),
    "about 2 minutes on two cores",
)
GROUPS = (CONTROL_PLANE, NODE, COREDNS, KUBE_ROUTER, HELM, SPARK_OPERATOR)


@dataclass(frozen=True, slots=True)
class Programs:
    """The paths of the programs that make a control plane."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    kubectl: Path

    @classmethod
    def of(cls, folder: Path) -> Programs:
        """Return the programs of one folder, by the names that everybody gives them."""
        return cls(*(folder / target.name for target in CONTROL_PLANE.targets))


@dataclass(frozen=True, slots=True)
class NodePrograms:
    """The paths of the programs that make a node of a control plane, its name server's and its policies' included."""

    scheduler: Path
    kubelet: Path
    proxy: Path
    coredns: Path
    router: Path


def provide(environ: Mapping[str, str] | None = None) -> Programs:
    """Return the programs: $KUBEBUILDER_ASSETS' or the PATH's where all are there and the version fits, else our own.

    Our own are in the cache, or are built into it now, which takes minutes the first time. Raises ComponentMissing.
    """
    for folder in _elsewhere(os.environ if environ is None else environ):
        if _complete(folder):
            return Programs.of(folder)
    return Programs.of(_built(CONTROL_PLANE))


def node() -> NodePrograms:
    """Return a node's programs from the cache, or built into it now; raises ComponentMissing."""
    folder = _built(NODE)
    return NodePrograms(
        folder / "kube-scheduler",
        folder / "kubelet",
        folder / "kube-proxy",
        coredns=_built(COREDNS) / "coredns",
        router=_built(KUBE_ROUTER) / "kube-router",
    )


def helm(environ: Mapping[str, str] | None = None) -> Path:
    """Return the PATH's `helm` where it runs and is new enough, else our own; raises ComponentMissing."""
    on_path = shutil.which("helm", path=(os.environ if environ is None else environ).get("PATH", ""))
    if on_path and (helm_version(_output(on_path, "version", "--short")) or (0, 0)) >= OLDEST_HELM:
        return Path(on_path)
    return _built(HELM) / "helm"


def kubectl(environ: Mapping[str, str] | None = None) -> Path:
    """Return the `kubectl` that belongs to the control plane's programs; raises ComponentMissing."""
    return provide(environ).kubectl


def built(group: Group) -> list[Path]:
    """Return a group's own programs from the cache, or built into it now; raises ComponentMissing."""
    folder = _built(group)
    return [folder / target.name for target in group.targets]


def build_all() -> list[Path]:
    """Return the folders of every group's programs, built where they are missing; raises ComponentMissing."""
    programs, others = provide(), node()
    made = (programs.apiserver, others.kubelet, others.coredns, others.router, helm(), *built(SPARK_OPERATOR))
    return [path.parent for path in made]


def folder_for(group: Group, modules: Path = MODULES) -> Path:
    """Return the group's folder of the cache, which may not exist yet."""
    return cache_dir() / f"{group.name}-{hashlib.sha256(identity(group, modules).encode()).hexdigest()[:16]}"


def identity(group: Group, modules: Path = MODULES) -> str:
    """Return everything that decides what is built: the modules with their sums, the packages and the flags."""
    files = sorted({modules / target.module / name for target in group.targets for name in ("go.mod", "go.sum")})
    programs = (f"{target.name} {target.module} {target.package} {target.flags}" for target in group.targets)
    return "\n".join([*programs, *(path.read_text() for path in files)])


def build_command(target: Target, output: Path) -> tuple[str, ...]:
    """Return the arguments of `go` that build one program into `output`, run in the module's folder."""
    return ("build", "-trimpath", "-mod=readonly", "-ldflags", target.flags, "-o", str(output), target.package)


def helm_version(text: str) -> tuple[int, int] | None:
    """Return (3, 19) of "v3.19.0+g3d8990f", which is what `helm version --short` prints; else None."""
    match = re.match(r"v(\d+)\.(\d+)\.", text.strip())
    return (int(match[1]), int(match[2])) if match else None


def minor(version: str) -> str:
    """Return "1.35" of "v1.35.4" or "Kubernetes v1.35.4": programs of one minor version are taken as equal."""
    return ".".join(version.strip().rpartition("v")[2].split(".")[:2])


def _built(group: Group) -> Path:
    return build(folder_for(group), partial(_build, group))


def _build(group: Group, folder: Path) -> None:
    """Build every program of the group into `folder`."""
    go = toolchain.find_go()
    sys.stderr.write(f"Building {group.title}, once on this machine ({group.expected})\n")
    for number, target in enumerate(group.targets, 1):
        sys.stderr.write(f"  {number}/{len(group.targets)} {target.name} ({target.expected}) ... ")
        sys.stderr.flush()
        started = time.monotonic()
        command = build_command(target, folder / target.name)
        toolchain.run(go, *command, directory=MODULES / target.module, environ={"CGO_ENABLED": "0"})
        sys.stderr.write(f"{time.monotonic() - started:.0f} s\n")


def _elsewhere(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("KUBEBUILDER_ASSETS"):
        yield Path(environ["KUBEBUILDER_ASSETS"])
    on_path = shutil.which("kube-apiserver", path=environ.get("PATH", ""))
    if on_path:
        yield Path(on_path).parent


def _complete(folder: Path) -> bool:
    """Tell whether all programs are in `folder` and its Kubernetes is the one that our own would be."""
    if not all(os.access(folder / target.name, os.X_OK) for target in CONTROL_PLANE.targets):
        return False
    return minor(_output(folder / "kube-apiserver", "--version")) == minor(KUBERNETES_VERSION)


def _output(program: str | Path, *arguments: str) -> str:
    """Return what a program prints about itself; nothing where it does not run."""
    try:
        answer = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout
