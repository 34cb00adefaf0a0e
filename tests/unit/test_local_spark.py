"""What a process that uses Spark on this machine is given, and which Java it runs on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from helpers import gone, wait_until
from marketfeed.analytics.session_options import JARS_VARIABLE
from marketfeed.local.components import read_lock
from marketfeed.local.java import Java
from marketfeed.local.spark import Spark, java_home
from marketfeed_operator.render.analytics import SPARK_VERSION

SPARK = Spark(Path("/cache/pyspark"), (Path("/cache/a.jar"), Path("/cache/b.jar")), Path("/java"))


def test_one_version_of_spark_everywhere() -> None:
    """What runs on one machine is what the operator asks the cluster for."""
    assert read_lock().wheels["pyspark"].version == SPARK_VERSION


def test_spark_comes_before_the_path_that_is_there() -> None:
    """The process imports this Spark, and still finds what its parent finds."""
    assert SPARK.environment(environ={})["PYTHONPATH"] == "/cache/pyspark"
    assert SPARK.environment(environ={"PYTHONPATH": "/mine"})["PYTHONPATH"] == "/cache/pyspark:/mine"


def test_environment_names_everything_that_another_spark_could_take_the_place_of() -> None:
    """Home, Java, connector and heap are given, so that nothing of the user's own Spark slips in."""
    found = SPARK.environment(heap="1g", environ={})
    assert found["SPARK_HOME"] == "/cache/pyspark/pyspark"
    assert found["JAVA_HOME"] == "/java"
    assert found[JARS_VARIABLE] == "/cache/a.jar:/cache/b.jar"
    assert found["SPARK_DRIVER_MEMORY"] == "1g"


def _java(folder: Path, module: str) -> Java:
    """Write a Java that has this module beside java.base, and otherwise says how it was called."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *--list-modules) echo "{module}@25" ;; *) printf "%s\\n" "$@" ;; esac\n'
    )
    program.chmod(0o755)
    return Java(program, 25, "a test's")


def test_a_java_with_the_module_is_taken_as_it_is(tmp_path: Path) -> None:
    """Nothing is put before a Java that Spark's launcher can start."""
    assert java_home(_java(tmp_path / "jdk", "jdk.incubator.vector"), tmp_path / "cache") == tmp_path / "jdk"


def test_a_java_without_it_is_not_asked_for_it(tmp_path: Path) -> None:
    """The flag is dropped, and every other argument arrives as it was, blanks and all."""
    home = java_home(_java(tmp_path / "jdk", "java.base"), tmp_path / "cache")
    arguments = ["-Xmx1g", "--add-modules=jdk.incubator.vector", "-Da=b c", ""]
    called = subprocess.run([home / "bin" / "java", *arguments], capture_output=True, text=True, check=True)
    assert called.stdout == "-Xmx1g\n-Da=b c\n\n"


PROVIDED = "spark.provide = lambda: spark.Spark(Path('/cache/pyspark'), (), Path('/java'))"
FETCHING = "spark.provide = lambda: subprocess.run(['sleep', '60'])"


def _main(change: str, *arguments: str) -> list[str]:
    """Return the command line of `spark.main()`, with something else in the place of the real Spark."""
    code = f"import subprocess; from pathlib import Path; from marketfeed.local import spark; {change}; spark.main()"
    return [sys.executable, "-c", code, *arguments]


def test_the_process_becomes_the_command(tmp_path: Path) -> None:
    """What Spark left in its scratch folder is gone, the folder is there, and `marketfeed` runs with the arguments."""
    scratch = tmp_path / "run" / "scratch"
    scratch.mkdir(parents=True)
    (scratch / "left").touch()
    ended = subprocess.run(_main(PROVIDED, str(scratch), "--version"), capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("marketfeed")
    assert list(scratch.iterdir()) == []


def test_what_fetches_ends_with_whoever_waits_for_it(tmp_path: Path) -> None:
    """Asked to end while Spark is being fetched, the process ends in order, and so does all that it started."""
    process = subprocess.Popen(_main(FETCHING, str(tmp_path / "scratch"), "analytics"), start_new_session=True)
    try:
        (fetching,) = wait_until(lambda: psutil.Process(process.pid).children(), 60, "something to be fetched")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        wait_until(lambda: gone(fetching.pid), 30, "what fetched to be gone")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
