"""Where the node's programs and its own two images come from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from controlplane import binaries
from marketfeed.local.components import build, cache_dir
from node import archive, needs

PAUSE = "localhost/marketfeed/pause:1"
COREDNS = "localhost/marketfeed/coredns:1"

_FORMAT = "1"  # of the images below: another number makes them anew


def node() -> binaries.NodePrograms:
    """Return scheduler, kubelet, kube-proxy and CoreDNS, built once on this machine."""
    return binaries.node()


def images() -> list[Path]:
    """Return the archives of the node's own images, made once: what holds a pod's namespaces, and CoreDNS."""
    coredns = node().coredns
    identity = f"{_FORMAT} {coredns} {coredns.stat().st_size} {needs.busybox().stat().st_size}"
    folder = cache_dir() / f"node-images-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    return sorted(build(folder, _make).glob("*.tar"))


def _make(folder: Path) -> None:
    archive.write(
        folder / "pause.tar", PAUSE, {"bin/busybox": needs.busybox()}, ["/bin/busybox", "sleep", "2147483647"]
    )
    archive.write(folder / "coredns.tar", COREDNS, {"bin/coredns": node().coredns}, ["/bin/coredns"])


def kubectl() -> Path:
    """Return kubectl."""
    return binaries.provide().kubectl


def helm() -> Path:
    """Return Helm: the PATH's where it is new enough, else one built once on this machine."""
    return binaries.helm()
