"""Spark on one machine: PySpark from the package index, its Kafka connector, and a Java that both run on.

`python -m marketfeed.local.spark SCRATCH ARGUMENTS` provides all that and becomes `marketfeed ARGUMENTS` with it.
What does not live here: the streaming job (marketfeed.analytics), which takes what it needs from its environment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from marketfeed.analytics.session_options import JARS_VARIABLE
from marketfeed.local.components import ComponentMissing, Lock, build, cache_dir, fetch, make_folder, read_lock
from marketfeed.local.java import NO_TRACES, Java, find_java
from marketfeed.local.packages import install

HEAP = "768m"
SIZE = "435 MiB, on disk 480 MiB"

_VECTOR_MODULE = "jdk.incubator.vector"
_JAVA_TIMEOUT_S = 30
_NEEDED_BYTES = 2 << 30

# Spark's launcher asks for the module by name, and a Java that lacks it refuses to start; Spark runs without.
_SHIM = """\
#!/bin/sh
for argument; do
  shift
  [ "$argument" = --add-modules={module} ] || set -- "$@" "$argument"
done
exec "{program}" "$@"
"""


@dataclass(frozen=True, slots=True)
class Spark:
    """Where Spark is: the folder to import `pyspark` from, the connector's archives, the home of its Java."""

    python_path: Path
    jars: tuple[Path, ...]
    java_home: Path

    def environment(
        self, heap: str = HEAP, *, scratch: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return the variables that a process which uses Spark is to have beside those of `environ`, ours by default.

        heap: the driver's, as Java writes it; in local mode the driver does all the work. scratch: a folder for what
        Spark and Java write while they run, and leave when they are killed; without it, the system's own.
        """
        options = [f"-XX:+UseSerialGC {NO_TRACES}", *([f"-Djava.io.tmpdir={scratch}"] if scratch else [])]
        earlier = (os.environ if environ is None else environ).get("PYTHONPATH")
        return {
            "PYTHONPATH": os.pathsep.join([str(self.python_path), *([earlier] if earlier else [])]),
            "SPARK_HOME": str(self.python_path / "pyspark"),  # else another Spark of this machine could be taken
            "PYSPARK_PYTHON": sys.executable,
            "JAVA_HOME": str(self.java_home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DRIVER_MEMORY": heap,
            "SPARK_SUBMIT_OPTS": " ".join(options),
            JARS_VARIABLE: os.pathsep.join(map(str, self.jars)),
            **({"SPARK_LOCAL_DIRS": str(scratch)} if scratch else {}),
        }


def provide(lock: Lock | None = None, cache: Path | None = None) -> Spark:
    """Return Spark, fetched and built into the cache where this is the first time on this machine.

    Raises ComponentMissing when something could not be fetched.
    """
    lock, cache = lock or read_lock(), cache or cache_dir()
    folder = _folder(lock, cache)
    build(folder, lambda temporary: _install(lock, temporary, folder))
    jars = fetch("spark-kafka", "with it Spark reads topics", lock=lock, cache=cache)
    return Spark(folder, tuple(jars), java_home(find_java(), cache))


def is_missing() -> bool:
    """Tell whether `provide` would have to fetch Spark first."""
    return not _folder(read_lock(), cache_dir()).is_dir()


def command(scratch: Path, *arguments: str) -> tuple[str, ...]:
    """Return the command that provides Spark and becomes `marketfeed ARGUMENTS`; its process id stays the same."""
    return (sys.executable, "-m", "marketfeed.local.spark", str(scratch), *arguments)


def main() -> None:
    """Do what the module's docstring says; exits with 1 and a sentence when Spark cannot be had."""
    scratch, arguments = Path(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGTERM, _leave)
    try:
        environment = provide().environment(scratch=scratch)
    except (ComponentMissing, OSError) as error:
        sys.exit(f"marketfeed: {error}")
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    scratch.mkdir(parents=True)
    os.execve(sys.executable, [sys.executable, "-m", "marketfeed", *arguments], {**os.environ, **environment})  # noqa: S606 - no shell is wanted


def _leave(*_: object) -> None:
    """End pip and what it has started, which are of our own process group, and then this process."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGTERM)
    sys.exit(0)


def java_home(java: Java, cache: Path) -> Path:
    """Return the home of a Java that Spark starts on: its own, or one in the cache that stands before it."""
    if _has_vector_module(java):
        return java.program.resolve().parents[1]
    script = _SHIM.format(module=_VECTOR_MODULE, program=java.program)
    name = f"spark-java-{hashlib.sha256(script.encode()).hexdigest()[:16]}"
    return build(cache / name, lambda temporary: _write_shim(temporary, script))


def _folder(lock: Lock, cache: Path) -> Path:
    return cache / f"pyspark-{lock.wheels['pyspark'].version}"


def _has_vector_module(java: Java) -> bool:
    listing = subprocess.run(
        [java.program, NO_TRACES, "--list-modules"],
        capture_output=True,
        text=True,
        timeout=_JAVA_TIMEOUT_S,
        check=False,
    )
    return f"{_VECTOR_MODULE}@" in listing.stdout


def _write_shim(folder: Path, script: str) -> None:
    program = make_folder(folder / "bin") / "java"
    program.write_text(script)
    program.chmod(0o755)


def _install(lock: Lock, target: Path, final: Path) -> None:
    """Build Spark from its source package, which holds the finished Java archives; nothing else of it is compiled."""
    version = lock.wheels["pyspark"].version
    sys.stderr.write(f"Fetching Spark (pyspark {version}, 435 MiB) into {final}: analytics run on it; about a minute\n")
    if shutil.disk_usage(target).free < _NEEDED_BYTES:
        raise ComponentMissing(f"Spark needs 2 GiB of free disk in {target.parent} while it is installed")
    scratch = make_folder(target / "scratch")
    tools = make_folder(scratch / "tools")
    install(["setuptools"], tools, lock)
    environment = {"PYTHONPATH": str(tools), "TMPDIR": str(scratch)}
    install(["py4j", "pyspark"], target, lock, built=["pyspark"], environment=environment)
    for unused in (scratch, target / "bin", target / "pyspark" / "examples", target / "pyspark" / "data"):
        shutil.rmtree(unused, ignore_errors=True)


if __name__ == "__main__":
    main()
