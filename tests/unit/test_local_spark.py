"""What a process that uses Spark on this machine is given, and which Java it runs on."""

from __future__ import annotations

import subprocess
from pathlib import Path

from marketfeed.local.components import read_lock
from marketfeed.local.java import Java
from marketfeed.local.spark import JARS_VARIABLE, Spark, java_home
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
