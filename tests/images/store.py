"""Where built images are kept: an archive for each, by the hash of what it is made of.

What does not live here: what an image is made of (catalog), who builds it (builders), on what (base).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from controlplane import binaries
from images import base, builders, catalog
from images.base import Base
from images.builders import AUTHORITIES, Builder, Order
from images.catalog import Recipe
from marketfeed.local.components import build, cache_dir, fetch, read_lock

_ARCHIVE = "image.tar"
_DIGEST = "[0-9a-f]{12}"
_KEPT = 3
_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: the name that pods give, its archive (docker-archive), and the archive's size, not compressed."""

    reference: str
    archive: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Revision:
    """The commit that an image's files are from (`-changed` where they differ from it) and its time, in seconds."""

    commit: str
    epoch: int


def provide(name: str) -> Image:
    """Return the image `name` (one of NAMES), built where the cache does not hold it; raises BuildFailed."""
    recipe = catalog.recipe(name)
    builder = builders.find()
    chosen = base.choose()
    digest = identity(recipe, chosen)
    reference = catalog.reference(name, f"dev-{digest}")
    folder = build(
        cache_dir() / "images" / f"{name}-{digest}", lambda target: _make(recipe, reference, builder, chosen, target)
    )
    archive = folder / _ARCHIVE
    return Image(reference, archive, archive.stat().st_size)


def identity(recipe: Recipe, chosen: Base) -> str:
    """Return the hash of all that an image is made of."""
    archives = read_lock().archives
    components = [item.sha256 for component in recipe.components for item in archives[component]]
    programs = map(binaries.identity, recipe.programs)
    start = chosen.identity if recipe.parent is None else identity(catalog.recipe(recipe.parent), chosen)
    return catalog.content_hash(recipe.files, recipe.target or "", start, *components, *programs)


def _make(recipe: Recipe, reference: str, builder: Builder, chosen: Base, folder: Path) -> None:
    """Build an image, after the one that it starts from, and leave its archive and its build's log in `folder`."""
    start = chosen.reference if recipe.parent is None else _held(provide(recipe.parent), builder)
    sys.stderr.write(f"Building {reference} with {builder.name} on {start}\n")
    started = time.monotonic()
    revision = _revision(recipe)
    with _context(recipe) as context:
        order = Order(
            reference=reference,
            context=context,
            target=recipe.target,
            arguments={**_arguments(recipe, chosen, revision), "BASE": start},
            epoch=revision.epoch,
            authorities=AUTHORITIES if AUTHORITIES.exists() else None,
        )
        builder.build(order, folder / "build.log")
    builder.save(reference, folder / _ARCHIVE)
    size = (folder / _ARCHIVE).stat().st_size / _MEGABYTE
    _forget_old(recipe.name, builder, folder.parent)
    sys.stderr.write(f"  {recipe.name}: {size:.0f} MB in {time.monotonic() - started:.0f} s\n")


def _held(image: Image, builder: Builder) -> str:
    """Return the image's reference, which the builder's store then holds, as one may not that was made elsewhere."""
    if not builder.has(image.reference):
        builder.load(image.archive)
    return image.reference


def _arguments(recipe: Recipe, chosen: Base, revision: Revision) -> dict[str, str]:
    if recipe.target is None:
        return {}
    return {
        "BUILD_BASE": chosen.with_pip,
        "VERSION": metadata.version("marketfeed"),
        "REVISION": revision.commit,
        **builders.passed_on(os.environ),
    }


@contextmanager
def _context(recipe: Recipe) -> Iterator[Path]:
    """Yield a folder that is built from: a copy, which nobody edits meanwhile, with the components beside it."""
    with tempfile.TemporaryDirectory(prefix="marketfeed-image-") as temporary:
        context = Path(temporary)
        for path in recipe.files:
            _copy(path, context / path.relative_to(recipe.context))
        for component in recipe.components:
            (context / component).mkdir()
            for archive in fetch(component, f"the image {recipe.name} holds it"):
                shutil.copy(archive, context / component)
        for group in recipe.programs:
            for program in binaries.built(group):
                shutil.copy(program, context)
        yield context


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _forget_old(name: str, builder: Builder, folder: Path) -> None:
    """Remove an image's archives but for the newest ones: each is some hundred megabytes."""
    found = [path for path in folder.glob(f"{name}-*") if re.fullmatch(_DIGEST, path.name.removeprefix(f"{name}-"))]
    for path in superseded({path: path.stat().st_mtime for path in found}):
        builder.remove(catalog.reference(name, f"dev-{path.name.removeprefix(f'{name}-')}"))
        shutil.rmtree(path, ignore_errors=True)


def superseded(ages: Mapping[Path, float]) -> list[Path]:
    """Return the folders that are not among the newest, of folder → time in seconds."""
    return sorted(ages, key=lambda path: ages[path], reverse=True)[_KEPT:]


def _revision(recipe: Recipe) -> Revision:
    """Return where the recipe's files are from; without git, nobody knows."""
    paths = [str(path) for path in recipe.files]
    said = _git("log", "-1", "--format=%H %ct", "--", *paths).split()
    if not said:
        return Revision("unknown", 0)
    changed = "-changed" if _git("status", "--porcelain", "--", *paths) else ""
    return Revision(f"{said[0]}{changed}", int(said[1]))


def _git(*arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *arguments],  # noqa: S607 - the one that the person uses
            cwd=catalog.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
