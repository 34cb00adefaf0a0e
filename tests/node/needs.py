"""What a machine must have to run a node: said in a sentence when it has not, installed where Debian has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import debian

# Program → the Debian package that has it.
PROGRAMS: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "ipset": "ipset",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "busybox": "busybox-static",
    "openssl": "openssl",
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
CNI_PACKAGE = "containernetworking-plugins"
CNI_PLUGINS = ("ptp", "host-local", "loopback", "portmap")
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
HIDDEN = (Path("/run"), Path("/var/run"), Path("/var/lib"), Path("/var/log"))  # the node has its own

_NAMESPACES = ("mnt", "net", "pid", "ipc", "uts")


def missing() -> str | None:
    """Return why this machine can't run a node, in a sentence; None when it can, if need be after `install`."""
    if sys.platform != "linux":
        return "A node needs Linux: use `make kind` here."
    if os.geteuid() != 0:
        return "A node needs root, for its namespaces and mounts: run as root, or use `make kind`."
    if not _namespaces_allowed():
        return "This machine allows no namespaces (`unshare --mount --net --pid --fork true` fails): use `make kind`."
    packages = missing_packages()
    if packages and not debian.can_install():
        return f"Not installed: {debian.listed(packages)} (Debian's names), and there is no apt-get to install them."
    return None


def missing_packages() -> list[str]:
    """Return the Debian packages that are not there, by what they would bring."""
    return sorted({*debian.lacking(PROGRAMS), *(() if _has_cni() else (CNI_PACKAGE,))})


def install() -> None:
    """Install the packages that are missing; raises debian.NotInstalled with apt-get's words."""
    debian.install(missing_packages())


def hidden(paths: Mapping[str, Path]) -> str | None:
    """Return why the node would not find one of these paths (what it is → where it is), in a sentence; else None."""
    for what, path in paths.items():
        for folder in HIDDEN:
            if path.is_relative_to(folder):
                return f"{what} is {path}, below {folder}, where a node has a folder of its own: move it elsewhere."
    return None


def cni_folder() -> Path:
    """Return the folder with the network plug-ins; the first of the usual ones when none has all."""
    return next((each for each in CNI_FOLDERS if _all_in(each)), CNI_FOLDERS[0])


def busybox() -> Path:
    """Return the statically linked busybox."""
    return Path(shutil.which("busybox", path=debian.PATH) or "/bin/busybox").resolve()


def _has_cni() -> bool:
    return any(map(_all_in, CNI_FOLDERS))


def _all_in(folder: Path) -> bool:
    return all(os.access(folder / plugin, os.X_OK) for plugin in CNI_PLUGINS)


def _namespaces_allowed() -> bool:
    if not all(Path("/proc/self/ns", each).exists() for each in _NAMESPACES) or not shutil.which(
        "unshare", path=debian.PATH
    ):
        return False
    command = ["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
