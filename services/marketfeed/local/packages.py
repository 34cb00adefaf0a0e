"""Installs packages of the package index into folders of the cache; a file whose sum is not in the lock is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from marketfeed.local.components import ComponentMissing, Lock

_PIP_TIMEOUT_S = 1800


def install(
    names: Sequence[str], target: Path, lock: Lock, *, built: Sequence[str] = (), environment: Mapping[str, str] = {}
) -> None:
    """Let pip put the named packages of the lock, and nothing else, into the folder `target`.

    built: those that come as source and are built here, with what `environment` holds on PYTHONPATH; the others come
    as wheels. Raises ComponentMissing with pip's failure.
    """
    requirements = target / "requirements.txt"
    requirements.write_text("".join(f"{_requirement(name, lock)}\n" for name in names))
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "--no-compile"]
    command += ["--only-binary=:all:", *(f"--no-binary={name}" for name in built), "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--progress-bar", "on" if sys.stderr.isatty() else "off"]
    command += ["--no-cache-dir"] * bool(built)  # half a gigabyte need not lie in pip's cache too
    command += ["--quiet"] * (not sys.stderr.isatty())
    command += ["--root-user-action=ignore", "--target", str(target), "--requirement", str(requirements)]
    try:
        subprocess.run(
            command, stdout=sys.stderr, env={**os.environ, **environment}, timeout=_PIP_TIMEOUT_S, check=True
        )
    except (subprocess.SubprocessError, OSError) as error:
        what = ", ".join(f"{name} {lock.wheels[name].version}" for name in names)
        raise ComponentMissing(
            f"Could not fetch {what} by pip: {error}. See that it reaches its package index"
        ) from error
    requirements.unlink()


def _requirement(name: str, lock: Lock) -> str:
    wheel = lock.wheels[name]
    return " ".join([f"{name}=={wheel.version}", *(f"--hash=sha256:{value}" for value in wheel.sha256)])
