"""What builds images from a Dockerfile: Docker's engine where it answers, else buildah, which needs none.

What does not live here: what is built (catalog) and on what (base).
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import debian
from marketfeed.errors import MarketfeedError
from marketfeed.local.components import cache_dir, make_folder

AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_PASSED_ON = ("PIP_INDEX_URL", "MARKETFEED_MAVEN_URL")  # what decides where packages and archives come from
_ANSWER_TIMEOUT_S = 10
_BUILD_TIMEOUT_S = 3600
_TAIL_LINES = 30


class BuildFailed(MarketfeedError):
    """An image could not be built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be built.

    context: the folder with the Dockerfile; arguments: its ARGs; epoch: seconds since 1970 that the image's times are;
    authorities: a file of certificates that downloads during the build trust in place of the base's; it stays outside.
    """

    reference: str
    context: Path
    target: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    epoch: int = 0
    authorities: Path | None = None


class Builder(Protocol):
    """Builds images and keeps them in a store of its own."""

    name: str

    def build(self, order: Order, log: Path) -> None:
        """Build; raises BuildFailed with the end of the log."""

    def has(self, reference: str) -> bool:
        """Return whether the store holds the image."""

    def pull(self, reference: str, timeout_s: float) -> bool:
        """Fetch an image; return whether that worked in time."""

    def save(self, reference: str, archive: Path) -> None:
        """Write the image as a docker-archive."""

    def load(self, archive: Path) -> None:
        """Take the image of a docker-archive into the store, under the name that it has there."""

    def remove(self, reference: str) -> None:
        """Forget an image that the store may hold."""


class Docker:
    """Docker's engine, through its command line."""

    name = "docker"

    def build(self, order: Order, log: Path) -> None:
        """See Builder."""
        _run(docker_build(order), log, {"DOCKER_BUILDKIT": "1"})

    def has(self, reference: str) -> bool:
        """See Builder."""
        return _answers(["docker", "image", "inspect", reference])

    def pull(self, reference: str, timeout_s: float) -> bool:
        """See Builder."""
        return _answers(["docker", "pull", "--quiet", reference], timeout_s)

    def save(self, reference: str, archive: Path) -> None:
        """See Builder."""
        _run(["docker", "save", "--output", str(archive), reference], archive.with_suffix(".log"))

    def load(self, archive: Path) -> None:
        """See Builder."""
        _run(["docker", "load", "--quiet", "--input", str(archive)], archive.with_suffix(".log"))

    def remove(self, reference: str) -> None:
        """See Builder."""
        _answers(["docker", "image", "rm", reference])


class Buildah:
    """buildah with a store of its own; what it runs shares the host's network and is confined by chroot only."""

    name = "buildah"

    def __init__(self, store: Path) -> None:
        self.start = buildah_start(store, "overlay")
        if not _answers([*self.start, "info"]):  # an overlay upon an overlay, as in some containers
            self.start = buildah_start(store, "vfs")

    def build(self, order: Order, log: Path) -> None:
        """See Builder."""
        _run(buildah_build(self.start, order), log)

    def has(self, reference: str) -> bool:
        """See Builder."""
        return _answers([*self.start, "inspect", "--type", "image", reference])

    def pull(self, reference: str, timeout_s: float) -> bool:
        """See Builder."""
        return _answers([*self.start, "pull", "--quiet", reference], timeout_s)

    def save(self, reference: str, archive: Path) -> None:
        """See Builder."""
        target = f"docker-archive:{archive}:{reference}"
        _run([*self.start, "push", "--quiet", reference, target], archive.with_suffix(".log"))

    def load(self, archive: Path) -> None:
        """See Builder."""
        _run([*self.start, "pull", "--quiet", f"docker-archive:{archive}"], archive.with_suffix(".log"))

    def remove(self, reference: str) -> None:
        """See Builder."""
        _answers([*self.start, "rmi", reference])


def docker_build(order: Order) -> list[str]:
    """Return Docker's command line for an order."""
    secret = [f"--secret=id=ca,src={order.authorities}"] if order.authorities else []
    # Its engine takes the time from an argument of this name.
    arguments = {**order.arguments, "SOURCE_DATE_EPOCH": str(order.epoch)}
    return ["docker", "build", "--progress=plain", "--network=host", *secret, *_shared(order, arguments)]


def buildah_start(store: Path, driver: str) -> list[str]:
    """Return the start of every command line of buildah; what it mounts is gone with it, even when it is killed."""
    own_mounts = ["unshare", "--mount", "--propagation=private", "--"]
    return [*own_mounts, "buildah", f"--root={store}/root", f"--runroot={store}/run", f"--storage-driver={driver}"]


def buildah_build(start: Sequence[str], order: Order) -> list[str]:
    """Return buildah's command line for an order."""
    secret = [f"--secret=id=ca,src={order.authorities}"] if order.authorities else []
    options = ["--isolation=chroot", "--layers", "--format=docker", f"--timestamp={order.epoch}"]
    return [*start, "build", *options, *secret, *_shared(order, order.arguments)]


def _shared(order: Order, arguments: Mapping[str, str]) -> list[str]:
    """Return what both tools call by the same name."""
    target = [f"--target={order.target}"] if order.target else []
    # A mirror's address can hold a password: both tools take an argument without a value from their environment.
    given = [
        f"--build-arg={name if name in _PASSED_ON else f'{name}={value}'}" for name, value in sorted(arguments.items())
    ]
    return [*target, *given, f"--tag={order.reference}", str(order.context)]


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the build arguments that a machine's own settings become."""
    return {name: environ[name] for name in _PASSED_ON if environ.get(name)}


@functools.cache
def find() -> Builder:
    """Return this machine's builder, installed where it is missing and can be; else BuildFailed says what to do."""
    if shutil.which("docker") and _answers(["docker", "info"]):
        return Docker()
    if debian.can_install():
        debian.install(debian.lacking({"buildah": "buildah"}))
    if shutil.which("buildah") and os.geteuid() == 0:
        return Buildah(make_folder(cache_dir() / "buildah"))
    raise BuildFailed(
        "Images need Docker's engine, or root and buildah: start Docker, or `apt-get install buildah` and run as root"
    )


def _answers(command: Sequence[str], timeout_s: float = _ANSWER_TIMEOUT_S) -> bool:
    """Return whether a command ends well, and in time."""
    try:
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def _run(command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
    """Run a command into a log and show its steps as they come; raises BuildFailed with the log's end."""
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(environ or {})},
        ) as process,
    ):
        limit = threading.Timer(_BUILD_TIMEOUT_S, process.kill)
        limit.start()
        try:
            for line in process.stdout or ():
                output.write(line)
                if step := shown(line):
                    sys.stderr.write(f"  {step}\n")
            code = process.wait()
        finally:
            limit.cancel()
    if code:
        end = "\n".join(log.read_text(encoding="utf-8").splitlines()[-_TAIL_LINES:])
        raise BuildFailed(f"The build failed with exit code {code}; the end of what it said:\n{end}")


def shown(line: str) -> str | None:
    """Return what a person who waits should see of a builder's line: its steps, cut to one line of a terminal."""
    is_step = line.startswith(("STEP ", "[")) or (line.startswith("#") and " [" in line[:6])
    return line.strip()[:110] if is_step else None
