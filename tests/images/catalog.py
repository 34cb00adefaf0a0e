"""Which images there are, what each is made of, and the hash that changes whenever any of that does.

What does not live here: who builds them (builders), on which base (base), where they are kept (store).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controlplane import binaries
from marketfeed.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
SERVERS = Path(__file__).parent
PREFIX = "localhost/marketfeed"

_HASH_DIGITS = 12
_LOCKS = {
    "operator": "operator/requirements.lock",
    "services": "services/requirements.lock",
    "analytics": "services/requirements-analytics.lock",
}
_COMMON = (
    "Dockerfile",
    ".dockerignore",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "services/requirements-build.lock",
    "tests/images/sbom.py",
)
_SOURCES = ("operator/marketfeed_operator", "services/marketfeed")
_OWN = {"analytics": ("services/requirements.lock", "tests/images/spark-entrypoint.sh")}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image: its build context, the files of it that matter, the Dockerfile's target where it has several.

    components: what of marketfeed.local's lies in the context beside them, each in a folder of its name. programs:
    of Go modules, beside them too. parent: the image of NAMES that it starts from, in place of the base.
    """

    name: str
    context: Path
    files: tuple[Path, ...]
    target: str | None = None
    components: tuple[str, ...] = ()
    programs: tuple[binaries.Group, ...] = ()
    parent: str | None = None


def _ours() -> dict[str, tuple[str, ...]]:
    return {name: (*_COMMON, lock, *_OWN.get(name, ()), *_SOURCES) for name, lock in _LOCKS.items()}


OURS = tuple(_LOCKS)
REAL_SERVERS: Mapping[str, tuple[str, ...]] = {"kafka": ("kafka",), "postgresql": (), "redis": ()}
"""The real servers, each with the components of marketfeed.local that its image holds."""
SPARK_OPERATOR = "spark-operator"
NAMES = (*OURS, *REAL_SERVERS, SPARK_OPERATOR)


def recipe(name: str) -> Recipe:
    """Return an image's recipe; raises ConfigurationError that lists the names that there are."""
    if name in OURS:
        return Recipe(name, ROOT, tuple(ROOT / path for path in _ours()[name]), target=name)
    if name in REAL_SERVERS:
        folder = SERVERS / name
        return Recipe(name, folder, tuple(sorted(folder.iterdir())), components=REAL_SERVERS[name])
    if name == SPARK_OPERATOR:
        files = (SERVERS / name / "Dockerfile",)
        return Recipe(name, SERVERS / name, files, programs=(binaries.SPARK_OPERATOR,), parent="analytics")
    raise ConfigurationError(f"There is no image {name!r}: choose from {', '.join(NAMES)}")


def content_hash(files: Iterable[Path], *more: str) -> str:
    """Return 12 hex digits that depend on the files' (and folders' files') paths, modes and bytes, and on `more`."""
    digest = hashlib.sha256()
    for path in sorted({found for given in files for found in _files(given)}):
        executable = bool(path.stat().st_mode & 0o100)
        label = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
        digest.update(f"{label}\0{executable}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for text in more:
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()[:_HASH_DIGITS]


def reference(name: str, tag: str) -> str:
    """Return the name under which an image is built and loaded."""
    return f"{PREFIX}/{name}:{tag}"


def _files(path: Path) -> Iterable[Path]:
    """Return a file, or a folder's files without what Python caches there."""
    if not path.is_dir():
        return (path,)
    return (found for found in path.rglob("*") if found.is_file() and "__pycache__" not in found.parts)
