"""Which PostgreSQL is chosen."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from marketfeed.errors import ConfigurationError
from marketfeed.local import postgres_binaries
from marketfeed.local.postgres_binaries import Binaries, find_binaries, probe

FETCHED = Binaries(Path("/fetched/bin"), 18)


def _installation(folder: Path, version: str) -> Path:
    """Write programs that say they are this version."""
    folder.mkdir(parents=True)
    (folder / "initdb").touch()
    (folder / "postgres").write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
    (folder / "postgres").chmod(0o755)
    return folder


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list of installation folders that are found, 12, 15 and 17; nothing is fetched for real."""
    folders = [_installation(tmp_path / version, f"{version}.3 (Debian)") for version in ("15", "17", "12")]
    monkeypatch.setattr(postgres_binaries, "_folders", lambda: folders)
    monkeypatch.setattr(postgres_binaries, "fetch_binaries", lambda: FETCHED)
    return folders


def test_newest_is_taken(installed: list[Path]) -> None:
    """Without data, the newest installation is taken."""
    assert find_binaries() == Binaries(installed[1], 17)


def test_data_decides_the_version(installed: list[Path]) -> None:
    """Existing data gets the version that made it, not the newest."""
    assert find_binaries(15) == Binaries(installed[0], 15)


def test_old_version_is_passed_over(installed: list[Path]) -> None:
    """A version that is too old does not count as installed."""
    del installed[:2]
    assert find_binaries() == FETCHED


def test_data_of_a_missing_version_is_explained(installed: list[Path]) -> None:
    """Data whose version is neither installed nor fetched is refused with what to do."""
    assert installed
    with pytest.raises(ConfigurationError, match="made by PostgreSQL 16, which is not installed: install it, or"):
        find_binaries(16)


def test_client_packages_are_no_server(tmp_path: Path) -> None:
    """A folder without `initdb`, or whose server does not run, is no installation."""
    folder = _installation(tmp_path / "bin", "17.1")
    (folder / "postgres").chmod(0o644)
    assert probe(folder) is None
    (folder / "initdb").unlink()
    assert probe(folder) is None


@pytest.mark.parametrize("filters", [True, False], ids=["with filters", "before Python 3.11.4"])
def test_fetched_archive_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, filters: bool) -> None:
    """The fetched server can be run after unpacking, also by a Python whose tarfile knows no filters yet."""
    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    _installation(tmp_path / "made" / "bin", "18.1")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as inner:
        inner.add(tmp_path / "made" / "bin", "bin")
    with zipfile.ZipFile(tmp_path / "server.jar", "w") as outer:
        outer.writestr("server.txz", packed.getvalue())
    postgres_binaries._unpack(tmp_path / "server.jar", tmp_path / "unpacked")
    assert probe(tmp_path / "unpacked" / "bin") == Binaries(tmp_path / "unpacked" / "bin", 18)
