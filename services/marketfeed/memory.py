"""The memory that a container may use and uses, as the kernel counts it: cgroup version 2, or 1.

What does not live here: the metrics that show it (`metrics`).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_UNLIMITED_FROM = 2**60  # version 1 writes "no limit" as a number near 2^63


class Memory(NamedTuple):
    """Bytes that are in use, without what the kernel can drop at once, and the limit at which it ends the container."""

    used: int
    limit: int


def of_container(cgroups: Path = _CGROUPS, own: Path = _OWN) -> Memory | None:
    """Return the memory of the container around this process; None where nothing limits it, or nobody says so.

    cgroups: where the kernel shows them. own: which of them is this process's, as /proc/self/cgroup.
    """
    try:
        return _version_2(cgroups, own) or _version_1(cgroups, own)
    except (OSError, ValueError):
        return None


def _version_2(cgroups: Path, own: Path) -> Memory | None:
    folder = _folder(cgroups, own, "")
    if not (folder / "memory.max").exists():
        return None
    return _memory(folder, "memory.max", "memory.current", "inactive_file")


def _version_1(cgroups: Path, own: Path) -> Memory | None:
    folder = _folder(cgroups / "memory", own, "memory")
    if not (folder / "memory.limit_in_bytes").exists():
        return None
    return _memory(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _folder(mounted: Path, own: Path, controller: str) -> Path:
    """Return this process's cgroup; inside a container what is mounted is usually that one already."""
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") and (mounted / path.lstrip("/")).is_dir():
            return mounted / path.lstrip("/")
    return mounted


def _memory(folder: Path, limit: str, usage: str, droppable: str) -> Memory | None:
    text = (folder / limit).read_text().strip()
    if text == "max" or int(text) >= _UNLIMITED_FROM:
        return None
    figures = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    used = int((folder / usage).read_text()) - int(figures.get(droppable, 0))
    return Memory(used=max(0, used), limit=int(text))
