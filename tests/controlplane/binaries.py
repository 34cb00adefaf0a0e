"""Where the control plane's programs come from: those that are there, those of the cache, else a build from Go modules.

The modules' versions stand in `modules/*/go.mod`, their sums in `go.sum`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from controlplane import toolchain
from marketfeed.local.components import build, cache_dir

KUBERNETES_VERSION = "v1.35.4"
MODULES = Path(__file__).with_name("modules")

_COMPONENT_BASE = "k8s.io/component-base/version"
_KUBERNETES_FLAGS = (
    f"-s -w -X {_COMPONENT_BASE}.gitVersion={KUBERNETES_VERSION}"
    f" -X {_COMPONENT_BASE}.gitMajor=1 -X {_COMPONENT_BASE}.gitMinor=35"
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


TARGETS = (
    Target("etcd", "etcd", "go.etcd.io/etcd/server/v3", "-s -w", "half a minute"),
    Target(
        "kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", _KUBERNETES_FLAGS, "about 4 minutes"
    ),
    Target(
        "kube-controller-manager",
        "kubernetes",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        _KUBERNETES_FLAGS,
        "about 2 minutes",
    ),
    Target("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", _KUBERNETES_FLAGS, "half a minute"),
)


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
        return cls(*(folder / target.name for target in TARGETS))


def provide(environ: Mapping[str, str] | None = None) -> Programs:
    """Return the programs: $KUBEBUILDER_ASSETS' or the PATH's where all are there and the version fits, else our own.

    Our own are in the cache, or are built into it now, which takes minutes the first time. Raises ComponentMissing.
    """
    for folder in _elsewhere(os.environ if environ is None else environ):
        if _complete(folder):
            return Programs.of(folder)
    return Programs.of(build(folder_for(identity()), _build))


def folder_for(identity: str) -> Path:
    """Return the folder of the cache for what `identity` describes."""
    return cache_dir() / f"controlplane-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def identity(modules: Path = MODULES) -> str:
    """Return everything that decides what is built: the modules with their sums, the packages and the flags."""
    files = sorted({modules / target.module / name for target in TARGETS for name in ("go.mod", "go.sum")})
    return "\n".join([*map(repr, TARGETS), *(path.read_text() for path in files)])


def build_command(target: Target, output: Path) -> tuple[str, ...]:
    """Return the arguments of `go` that build one program into `output`, run in the module's folder."""
    return ("build", "-trimpath", "-mod=readonly", "-ldflags", target.flags, "-o", str(output), target.package)


def _build(folder: Path) -> None:
    """Build every program into `folder`."""
    go = toolchain.find_go()
    sys.stderr.write("Building a Kubernetes control plane, once on this machine (about 7 minutes on two cores)\n")
    for number, target in enumerate(TARGETS, 1):
        sys.stderr.write(f"  {number}/{len(TARGETS)} {target.name} ({target.expected}) ... ")
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
    if not all(os.access(folder / target.name, os.X_OK) for target in TARGETS):
        return False
    try:
        answer = subprocess.run(
            [folder / "kube-apiserver", "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return minor(answer.stdout) == minor(KUBERNETES_VERSION)


def minor(version: str) -> str:
    """Return "1.35" of "v1.35.4" or "Kubernetes v1.35.4": programs of one minor version are taken as equal."""
    return ".".join(version.strip().rpartition("v")[2].split(".")[:2])
