"""Programs of this machine: found where Debian puts them, and installed by apt-get where that is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from marketfeed.errors import MarketfeedError

PATH = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{os.environ.get('PATH', '')}"

_INSTALL_TIMEOUT_S = 900
_LOCK_S = 300  # another installation may be going on


class NotInstalled(MarketfeedError):
    """Packages are missing and could not be installed; the message names them and what apt-get said."""


def on_path(name: str) -> str:
    """Return where a program of the machine is; the name itself when it is missing."""
    return shutil.which(name, path=PATH) or name


def lacking(programs: Mapping[str, str]) -> list[str]:
    """Return the packages whose programs (program → package) are missing, each once, sorted."""
    return sorted({package for program, package in programs.items() if not shutil.which(program, path=PATH)})


def can_install() -> bool:
    """Tell whether packages can be installed here: by root, with apt-get."""
    return os.geteuid() == 0 and shutil.which("apt-get", path=PATH) is not None


def install(packages: Sequence[str]) -> None:
    """Install packages, with a line of progress; raises NotInstalled."""
    if not packages:
        return
    sys.stderr.write(f"Installing {listed(packages)} ... ")
    sys.stderr.flush()
    started = time.monotonic()
    if _apt_install(packages).returncode:
        _apt("update")  # the lists may be old, or not there at all
        answer = _apt_install(packages)
        if answer.returncode:
            raise NotInstalled(f"apt-get could not install {listed(packages)}: {answer.stderr.strip()[-1000:]}")
    sys.stderr.write(f"{time.monotonic() - started:.0f} s\n")


def listed(packages: Sequence[str]) -> str:
    """Return names as a sentence has them."""
    return ", ".join(packages)


def _apt_install(packages: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return _apt("install", "--yes", "--no-install-recommends", *packages)


def _apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return _apt_get(*arguments)
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"apt-get {' '.join(arguments)} did not end within {error.timeout:g} s") from error


def _apt_get(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [on_path("apt-get"), "--quiet", f"--option=DPkg::Lock::Timeout={_LOCK_S}", *arguments],
        env={**os.environ, "PATH": PATH, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_INSTALL_TIMEOUT_S,
        check=False,
    )
