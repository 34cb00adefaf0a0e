"""Finds a PostgreSQL to run, or fetches one."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from marketfeed.errors import ConfigurationError
from marketfeed.local.components import ComponentMissing, build, cache_dir, fetch, read_lock

MINIMUM_VERSION = 14  # SCRAM by default, and partitions that can be detached concurrently


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation: the folder that holds `postgres` and `initdb`, and its major version."""

    folder: Path
    version: int


def find_binaries(version: int | None = None) -> Binaries:
    """Return the newest PostgreSQL on the PATH or in Debian's place, else the one that is fetched into the cache.

    version: the major version that existing data asks for; None takes any from MINIMUM_VERSION on.
    Raises ConfigurationError when existing data needs a version that is not there, ComponentMissing when nothing is
    installed and nothing can be fetched.
    """
    installed = [found for found in map(probe, _folders()) if found is not None]
    fitting = [found for found in installed if found.version == (version or found.version) >= MINIMUM_VERSION]
    if fitting:
        return max(fitting, key=lambda found: found.version)
    fetched = fetch_binaries()
    if version not in (None, fetched.version):
        raise ConfigurationError(
            f"The data was made by PostgreSQL {version}, which is not installed: install it, or start with a new folder"
        )
    return fetched


def fetch_binaries(cache: Path | None = None) -> Binaries:
    """Return the PostgreSQL that is fetched into the cache; raises ComponentMissing where none fits this machine."""
    name = f"postgresql-{platform.system()}-{platform.machine()}".lower()
    archives = read_lock().archives
    if name not in archives:
        raise ComponentMissing(f"No PostgreSQL to fetch for {name}: install PostgreSQL {MINIMUM_VERSION} or newer")
    version = archives[name][0].coordinates.rpartition(":")[2]
    folder = (cache or cache_dir()) / f"{name}-{version}"
    if not folder.is_dir():
        (archive,) = fetch(name, "the database that runs on this machine", cache=cache)
        build(folder, lambda temporary: _unpack(archive, temporary))
    found = probe(folder / "bin")
    if found is None:
        raise ComponentMissing(f"{folder}/bin/postgres does not run on this machine: install PostgreSQL")
    return found


def probe(folder: Path) -> Binaries | None:
    """Return the installation in `folder`; None where there is none that runs."""
    if not (folder / "initdb").exists():
        return None
    try:
        answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.match(r"postgres \(PostgreSQL\) (\d+)", answer.stdout)
    return Binaries(folder, int(match[1])) if match else None


def _folders() -> Iterator[Path]:
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    yield from Path("/usr/lib/postgresql").glob("*/bin")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack the archive's one inner archive into `target`."""
    with zipfile.ZipFile(archive) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".txz")]
        with outer.open(name) as inner, tarfile.open(fileobj=inner, mode="r|xz") as files:
            # Python before 3.11.4 has no filter to refuse paths that lead elsewhere.
            files.extraction_filter = getattr(tarfile, "data_filter", lambda member, _folder: member)
            files.extractall(target)  # noqa: S202 - the lock names this very archive by its SHA-256
