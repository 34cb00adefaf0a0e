"""The base that images are built on: the one that was asked for, the usual one, else a Debian made from its packages.

What does not live here: building (builders).
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import debian
from images import catalog
from images.builders import Builder, BuildFailed, Order, find
from marketfeed.local.components import build, cache_dir

USUAL = "python:3.12-slim"
VARIABLE = "MARKETFEED_BASE"
ROOT_FILES = catalog.SERVERS / "base"
PIP_FILES = catalog.SERVERS / "pip"

_PULL_TIMEOUT_S = 20
_DEBOOTSTRAP_TIMEOUT_S = 1200
_APT_FORMAT = "$(REPO_URI) $(CODENAME) $(COMPONENT)"


@dataclass(frozen=True, slots=True)
class Base:
    """What images start from: a reference, the same with pip, and what identifies both."""

    reference: str
    with_pip: str
    identity: str


def wanted(environ: Mapping[str, str], reachable: Callable[[str], bool]) -> str | None:
    """Return the reference of a ready base: $MARKETFEED_BASE, or the usual one where it is `reachable`; else None."""
    asked = environ.get(VARIABLE)
    return asked or (USUAL if reachable(USUAL) else None)


@functools.cache
def choose() -> Base:
    """Return the base for this machine, which its builder's store then holds."""
    builder = find()
    ready = wanted(os.environ, lambda name: builder.has(name) or builder.pull(name, _PULL_TIMEOUT_S))
    return Base(ready, ready, ready) if ready else _own(builder)


def sources(targets: str) -> tuple[str, ...]:
    """Return lines for apt's sources.list, from lines `URI codename component` of `apt-get indextargets`; sorted."""
    return tuple(sorted({f"deb {' '.join(line.split())}" for line in targets.splitlines() if line.strip()}))


def mirror(lines: tuple[str, ...], codename: str) -> str:
    """Return the archive that serves a release itself; raises BuildFailed where no line does."""
    for line in lines:
        _, uri, suite, component = line.split()
        if (suite, component) == (codename, "main"):
            return uri
    raise BuildFailed(f"apt knows no archive of {codename} main: run `apt-get update`, or set {VARIABLE} to an image")


def _own(builder: Builder) -> Base:
    """Make the base from Debian's packages, once; it stays in the builder's store and in the cache."""
    codename = _codename()
    identity = catalog.content_hash([ROOT_FILES, PIP_FILES], codename)
    found = Base(
        catalog.reference("base", f"{codename}-{identity}"),
        catalog.reference("pip", f"{codename}-{identity}"),
        identity,
    )
    if not builder.has(found.reference):
        root = build(cache_dir() / "images" / f"base-{identity}", lambda folder: _make_root(folder, codename))
        _build(builder, Order(reference=found.reference, context=root))
    if not builder.has(found.with_pip):
        _build(builder, Order(reference=found.with_pip, context=PIP_FILES, arguments={"BASE": found.reference}))
    return found


def _build(builder: Builder, order: Order) -> None:
    with tempfile.TemporaryDirectory() as folder:
        builder.build(order, Path(folder, "build.log"))


def _make_root(folder: Path, codename: str) -> None:
    """Fill a build context: the root as an archive, with its Dockerfile."""
    if debian.can_install():
        debian.install(debian.lacking({"debootstrap": "debootstrap"}))
    if os.geteuid() or not shutil.which("debootstrap", path=debian.PATH):
        raise BuildFailed(
            f"{USUAL} cannot be pulled, and a base of Debian's packages needs root and debootstrap: "
            f"`apt-get install debootstrap`, or set {VARIABLE} to an image with Python that can be had here"
        )
    sys.stderr.write(f"Making a base from the packages of {codename}: no image registry answers (about a minute)\n")
    shutil.copy(ROOT_FILES / "Dockerfile", folder)
    lines = sources(_apt_targets())
    listed = folder / "sources.list"
    listed.write_text("".join(f"{line}\n" for line in lines))
    script = ROOT_FILES / "make-root.sh"
    answer = subprocess.run(
        [script, folder, codename, mirror(lines, codename), listed],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=_DEBOOTSTRAP_TIMEOUT_S,
        check=False,
    )
    if answer.returncode:
        raise BuildFailed(f"The base could not be made; the end of what debootstrap said:\n{answer.stdout[-2000:]}")


def _apt_targets() -> str:
    command = ["apt-get", "indextargets", "--format", _APT_FORMAT, "Created-By: Packages", "Origin: Debian"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildFailed(f"{USUAL} cannot be pulled and this is no Debian: set {VARIABLE} to an image") from error


def _codename() -> str:
    """Return the release of this Debian, as `bookworm`."""
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    return fields.get("VERSION_CODENAME", "bookworm").strip('"')
