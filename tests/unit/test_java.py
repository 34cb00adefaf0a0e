"""Which Java is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketfeed.local import java
from marketfeed.local.java import Java, find_java, parse_version, probe

FETCHED = Java(Path("/fetched/java"), 25, "fetched")


def _java(folder: Path, version: str) -> Path:
    """Write a program that says it is this version of Java; return its folder's parent, as JAVA_HOME would be."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    program.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `fetch_java` answer without a network."""
    monkeypatch.setattr(java, "fetch_java", lambda: FETCHED)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17),
        ('openjdk version "25" 2025-09-16', 25),
        ('java version "1.8.0_412"', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "21.0.1"', 21),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
    ],
)
def test_version_is_read(text: str, version: int | None) -> None:
    """The feature version is read from all ways in which Java writes it."""
    assert parse_version(text) == version


def test_java_home_comes_first(tmp_path: Path) -> None:
    """$JAVA_HOME wins over the PATH."""
    home, other = _java(tmp_path / "home", "21.0.1"), _java(tmp_path / "other", "17.0.1")
    found = find_java({"JAVA_HOME": str(home), "PATH": str(other / "bin")})
    assert (found.program, found.version) == (home / "bin" / "java", 21)


def test_old_java_is_passed_over(tmp_path: Path) -> None:
    """A Java older than Kafka asks for gives way to the next one."""
    home, other = _java(tmp_path / "home", "11.0.2"), _java(tmp_path / "other", "17.0.1")
    assert find_java({"JAVA_HOME": str(home), "PATH": str(other / "bin")}).program == other / "bin" / "java"


@pytest.mark.parametrize("version", ["1.8.0_412", "11.0.2"])
def test_java_is_fetched_where_none_fits(version: str, tmp_path: Path) -> None:
    """With nothing but an old Java, or with none, one is fetched."""
    assert find_java({"PATH": str(_java(tmp_path, version) / "bin")}) is FETCHED
    assert find_java({"JAVA_HOME": "/nowhere", "PATH": "/nowhere"}) is FETCHED


def test_program_that_fails_is_no_java(tmp_path: Path) -> None:
    """A stub that names a version but exits with an error is not taken."""
    program = _java(tmp_path, "17.0.1") / "bin" / "java"
    program.write_text(program.read_text() + "exit 1\n")
    assert probe(program) is None


def test_asking_for_the_version_leaves_no_trace(tmp_path: Path) -> None:
    """Java is asked without the performance data that it would leave in /tmp."""
    program = _java(tmp_path, "21.0.1") / "bin" / "java"
    program.write_text(f'{program.read_text()}echo "$@" >"$0.arguments"\n')
    assert probe(program) is not None
    assert "-XX:-UsePerfData" in program.with_name("java.arguments").read_text()
