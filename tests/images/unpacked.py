"""A built image's root file system, taken from its archive, and its programs run there as a pod would run them.

What does not live here: a container runtime (node). Needs Linux and root.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

USER = 65532

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_RUN_TIMEOUT_S = 120
# A mount namespace of its own: the root read-only, an empty /tmp, the host's few devices, the processes of its own,
# and the one file that every container runtime writes.
_CONFINED = """\
set -eu
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount -t tmpfs tmpfs "$0/dev"
for device in null zero random urandom; do touch "$0/dev/$device"; mount --bind "/dev/$device" "$0/dev/$device"; done
ln -s /proc/self/fd "$0/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$0/tmp"
printf '127.0.0.1 localhost %s\n' "$(uname -n)" > "$0/etc/hosts"
mount -o remount,bind,ro "$0"
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An image's root folder and its configuration, as the archive has it (`Env`, `User`, `Labels` and so on)."""

    root: Path
    config: Mapping[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        """What the image's processes find in their environment."""
        return dict(item.split("=", 1) for item in self.config["Env"])

    def run(self, *command: str, user: int = USER, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as `user`, with the root read-only but for an empty /tmp; returns what it said."""
        folder = self.config.get("WorkingDir") or "/"
        start = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--propagation", "private"]
        inside = [
            "chroot",
            f"--userspec={user}:{user}",
            "--groups=",
            str(self.root),
            "sh",
            "-c",
            'cd "$0" && exec "$@"',
        ]
        return subprocess.run(
            [*start, "sh", "-c", _CONFINED, str(self.root), *inside, folder, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_RUN_TIMEOUT_S,
            env=self.environment | environment,
            check=False,
        )


def unpack(archive: Path, root: Path) -> Unpacked:
    """Unpack a docker-archive's layers into the folder `root`, owners and modes as they are; needs root."""
    with tarfile.open(archive) as outer:
        (manifest,) = json.load(_member(outer, "manifest.json"))
        config = json.load(_member(outer, manifest["Config"]))["config"]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=_member(outer, layer)) as inner:
                _apply(inner, root)
    return Unpacked(root, config)


def _member(archive: tarfile.TarFile, name: str) -> Any:
    found = archive.getmember(name)
    return archive.extractfile(found.linkname if found.issym() else found)


def _apply(layer: tarfile.TarFile, root: Path) -> None:
    """Lay one layer over the root: what it marks as gone is removed, what it holds replaces what was there."""
    members = layer.getmembers()
    for member in members:
        path = PurePosixPath(member.name)
        if path.name == _OPAQUE:
            _empty(root / path.parent)
        elif path.name.startswith(_WHITEOUT):
            _remove(root / path.parent / path.name.removeprefix(_WHITEOUT))
    held = [member for member in members if not PurePosixPath(member.name).name.startswith(_WHITEOUT)]
    for member in held:
        target = root / member.name
        if not member.isdir() and (target.is_symlink() or target.is_file()):
            target.unlink()
    layer.extractall(root, members=held, numeric_owner=True, filter="fully_trusted")  # noqa: S202 - we built it


def _empty(folder: Path) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        _remove(path)


def _remove(path: Path) -> None:
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(path)], check=True)  # noqa: S607 - the system's own
