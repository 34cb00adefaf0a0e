"""promtool: the one on the PATH, else the one of Debian's package `prometheus`, unpacked beside the other caches.

The package is never installed: it would start a Prometheus as a service.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import debian
from marketfeed.errors import MarketfeedError
from marketfeed.local.components import build, cache_dir

_PACKAGE = "prometheus"
_FETCH_TIMEOUT_S = 300
_TIMEOUT_S = 120


class PromtoolMissing(MarketfeedError):
    """There is no promtool, and it could not be had; the message says what would help."""


def promtool(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool in a folder, whatever it answers; raises PromtoolMissing."""
    return subprocess.run(
        [program(), *arguments], cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )


@functools.cache
def program() -> Path:
    """Return where promtool is, fetched the first time; raises PromtoolMissing."""
    found = shutil.which("promtool", path=debian.PATH)
    if found is not None:
        return Path(found)
    if shutil.which("apt-get", path=debian.PATH) is None:
        raise PromtoolMissing("promtool is missing: put the one of a Prometheus release (2.42 or newer) on the PATH")
    return build(cache_dir() / "promtool-debian", _unpack) / "promtool"


def _unpack(target: Path) -> None:
    """Fetch the package and take the one program out of it."""
    _run(["apt-get", "--quiet", "download", _PACKAGE], target)
    (archive,) = target.glob(f"{_PACKAGE}_*.deb")
    _run(["dpkg-deb", "--extract", archive.name, "unpacked"], target)
    (target / "unpacked" / "usr" / "bin" / "promtool").rename(target / "promtool")
    shutil.rmtree(target / "unpacked")
    archive.unlink()


def _run(command: list[str], folder: Path) -> None:
    path = debian.on_path(command[0])
    answer = subprocess.run(
        [path, *command[1:]], cwd=folder, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False
    )
    if answer.returncode:
        raise PromtoolMissing(
            f"promtool is missing, and {' '.join(command)} failed: {answer.stderr.strip()[-500:]}. "
            "Run `apt-get update` as root, or put the promtool of a Prometheus release (2.42 or newer) on the PATH"
        )
