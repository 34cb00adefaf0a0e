"""The node's folder in every cgroup hierarchy of the machine: made before it starts, removed when it is gone."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from node.errors import NodeFailed

ROOT = Path("/sys/fs/cgroup")

_CPUSET = ("cpuset.cpus", "cpuset.mems")  # empty in a new folder of the first version, and then nothing can run there
_REMOVE_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.05


def name(directory: Path) -> str:
    """Return the name of the cgroup of the node that lives in `directory`: the same at every start."""
    return f"marketfeed-node-{hashlib.sha256(str(directory).encode()).hexdigest()[:12]}"


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Return the tops of all hierarchies: the one of the second version, or one for each controller of the first."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return sorted(each for each in root.iterdir() if each.is_dir() and (each / "cgroup.procs").exists())


def create(cgroup: str, root: Path = ROOT) -> None:
    """Make the node's folder in every hierarchy."""
    for top in hierarchies(root):
        folder = top / cgroup
        folder.mkdir(exist_ok=True)
        if (root / "cgroup.controllers").exists():
            continue
        for file in _CPUSET:
            if (top / file).exists():
                (folder / file).write_text((top / file).read_text())


def remove(cgroup: str, root: Path = ROOT) -> None:
    """Remove the node's folders; raises NodeFailed when a process still lives in one."""
    deadline = time.monotonic() + _REMOVE_WITHIN_S
    while left := [folder for top in hierarchies(root) for folder in _removable(top / cgroup) if not _removed(folder)]:
        if time.monotonic() > deadline:
            raise NodeFailed(f"The cgroup {left[0]} cannot be removed: a process of the node still runs in it")
        time.sleep(_LOOK_EVERY_S)


def processes(cgroup: str, container: str, root: Path = ROOT) -> list[int]:
    """Return the processes of a container by its id, with the numbers that this process sees them by.

    Other containers may end meanwhile, and their folders go: `os.walk` passes over those, `rglob` would not.
    """
    for top in hierarchies(root):
        for folder, _, files in os.walk(top / cgroup):
            if container in Path(folder).name and "cgroup.procs" in files:
                return _numbers(Path(folder, "cgroup.procs"))
    return []


def _numbers(file: Path) -> list[int]:
    try:
        return [int(line) for line in file.read_text().split()]
    except OSError:  # the container has just ended
        return []


def _removable(folder: Path) -> Iterator[Path]:
    """Yield the folder and all in it, the innermost first."""
    if folder.is_dir():
        yield from sorted((each for each in folder.rglob("*") if each.is_dir()), reverse=True)
        yield folder


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
