"""The components that run beside marketfeed on one machine: fetched once, verified, and kept outside the checkout.

`components.lock.json` beside this file names every archive with its SHA-256; marketfeed.local.relock writes it.
What does not live here: what is done with a component once it is there (java, kafka, postgres).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from marketfeed.errors import ConfigurationError, MarketfeedError

LOCK_FILE = "components.lock.json"

_MEBIBYTE = 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_THREADS = 6
_ATTEMPTS = 3
_RETRY_AFTER_S = 1.0
_TIMEOUT_S = 60.0
_SERVER_ERROR = 500


class ComponentMissing(MarketfeedError):
    """A component could not be fetched."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One public Java archive: `group:artifact:version[:classifier]`, its SHA-256 in hex and its size in bytes."""

    coordinates: str
    sha256: str
    size: int

    @property
    def path(self) -> str:
        """The archive's path below a repository's base, in the Maven layout."""
        group, artifact, version, *classifier = self.coordinates.split(":")
        name = "-".join([artifact, version, *classifier])
        return f"{group.replace('.', '/')}/{artifact}/{version}/{name}.jar"


@dataclass(frozen=True, slots=True)
class Wheel:
    """One PyPI package: its version and the SHA-256 sums of its files: a wheel per platform, and its source."""

    version: str
    sha256: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lock:
    """What may be fetched: the archives of each component and the wheel of each package."""

    archives: Mapping[str, tuple[Artifact, ...]]
    wheels: Mapping[str, Wheel]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a lock file's text; raises ConfigurationError naming what is missing or wrong."""
        try:
            content = json.loads(text)
            return cls(
                archives={
                    name: tuple(Artifact(item["coordinates"], item["sha256"], item["size"]) for item in items)
                    for name, items in content["archives"].items()
                },
                wheels={
                    name: Wheel(item["version"], tuple(item["sha256"])) for name, item in content["wheels"].items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"{LOCK_FILE} is not a lock file ({error!r}): run `make generate`") from error

    def render(self) -> str:
        """Return the text that `parse` reads back."""
        content = {
            "archives": {
                name: [{"coordinates": item.coordinates, "sha256": item.sha256, "size": item.size} for item in items]
                for name, items in sorted(self.archives.items())
            },
            "wheels": {
                name: {"version": wheel.version, "sha256": list(wheel.sha256)}
                for name, wheel in sorted(self.wheels.items())
            },
        }
        return json.dumps(content, indent=2) + "\n"


def read_lock() -> Lock:
    """Return the lock that belongs to this version of marketfeed."""
    return Lock.parse(files("marketfeed.local").joinpath(LOCK_FILE).read_text())


def cache_dir(environ: Mapping[str, str] | None = None, *, is_root: bool | None = None) -> Path:
    """Return the folder for what is fetched; it may not exist yet.

    $MARKETFEED_CACHE where set; else /var/cache/marketfeed for root, whose home may be closed to the unprivileged
    user that PostgreSQL must run as; else $XDG_CACHE_HOME/marketfeed or ~/.cache/marketfeed.
    """
    environ = os.environ if environ is None else environ
    is_root = os.geteuid() == 0 if is_root is None else is_root
    if environ.get("MARKETFEED_CACHE"):
        return Path(environ["MARKETFEED_CACHE"]).absolute()
    if is_root:
        return Path("/var/cache/marketfeed")
    base = environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "marketfeed"


def make_folder(folder: Path) -> Path:
    """Create a folder of the cache, open for reading to whom the servers run as, whatever the umask; return it."""
    if not folder.is_dir():
        make_folder(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:  # another run was faster
            return folder
        except OSError as error:
            raise ComponentMissing(
                f"Cannot write to {folder}: {error.strerror}. Set MARKETFEED_CACHE to a folder that you may write to"
            ) from error
        folder.chmod(0o755)
    return folder


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Hold the file lock `path`, waiting for another run that holds it; the system frees it when a process dies."""
    make_folder(path.parent)
    with path.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"Waiting for another run that is filling {path.parent}\n")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def build(target: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder `target` of the cache; where it is missing, `make(temporary)` fills it, then it is renamed.

    Whoever sees `target` sees it whole, and of two runs side by side only one makes it.
    """
    if target.is_dir():
        return target
    with exclusively(target.with_name(f".{target.name}.lock")):
        if not target.is_dir():
            temporary = target.with_name(f".{target.name}.part")
            shutil.rmtree(temporary, ignore_errors=True)  # left by a run that was killed
            try:
                make(make_folder(temporary))
                temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return target


def fetch(name: str, why: str, *, lock: Lock | None = None, cache: Path | None = None, base: str = "") -> list[Path]:
    """Return the paths of a component's archives in the lock's order, fetching those that are missing.

    name: the component's name in the lock file, as "kafka"; why: half a sentence for whoever waits for it.
    Raises ComponentMissing, saying what could not be had from where and what to do.
    """
    artifacts = (lock or read_lock()).archives[name]
    folder = (cache or cache_dir()) / "archives"
    if _missing(artifacts, folder):
        with exclusively(folder / ".lock"):
            missing = _missing(artifacts, folder)
            if missing:
                size = sum(item.size for item in missing)
                count = f" ({len(missing)} files)" if len(missing) > 1 else ""
                with progress(f"Fetching {name}{count} into {folder}: {why}", size) as advance:
                    _fetch_all(missing, folder, base or repository(), advance)
    return [folder / item.path for item in artifacts]


def repository() -> str:
    """Return the base URL of the repository of Java archives: $MARKETFEED_MAVEN_URL or the public one."""
    if os.environ.get("MARKETFEED_MAVEN_URL"):
        return os.environ["MARKETFEED_MAVEN_URL"].rstrip("/")
    from maven_artifact.resolver import Resolver  # noqa: PLC0415 - slow to import, and rarely needed

    return str(Resolver.default().base)


@contextmanager
def progress(what: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Say on stderr what is going on; yield a function that counts bytes, shown as a bar where there is a terminal."""
    console = Console(stderr=True, highlight=False)
    console.print(what, soft_wrap=True)
    started = time.monotonic()
    if console.is_terminal:
        with Progress(
            TextColumn("  "), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console, transient=True
        ) as bar:
            task = bar.add_task("", total=total_bytes)
            yield lambda count: bar.advance(task, count)
    else:
        yield _Lines(total_bytes).advance
    sys.stderr.write(f"  {total_bytes / _MEBIBYTE:.0f} MiB in {time.monotonic() - started:.1f} s\n")


class _Lines:
    """Progress where there is no terminal: a line for every quarter."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._done = 0
        self._quarter = 0
        self._lock = threading.Lock()

    def advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            quarter = 4 * self._done // max(self._total, 1)
            if self._quarter < quarter < 4:  # noqa: PLR2004 - the last quarter is the closing line's
                sys.stderr.write(f"  {25 * quarter} % of {self._total / _MEBIBYTE:.0f} MiB\n")
                self._quarter = quarter


def _missing(artifacts: Sequence[Artifact], folder: Path) -> list[Artifact]:
    """Return what is not in `folder`. Each file was verified before it got its name."""
    return [item for item in artifacts if not _has_size(folder / item.path, item.size)]


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _fetch_all(artifacts: Sequence[Artifact], folder: Path, base: str, advance: Callable[[int], None]) -> None:
    """Fetch all, some at a time; the first failure, or Ctrl-C, ends the others too."""
    given_up = threading.Event()

    def advance_or_stop(count: int) -> None:
        if given_up.is_set():
            raise ComponentMissing("Another download failed, or somebody does not want to wait for this one")
        advance(count)

    with ThreadPoolExecutor(_THREADS) as pool:
        downloads = [pool.submit(_fetch_one, item, folder, base, advance_or_stop) for item in artifacts]
        try:
            for download in downloads:
                download.result()
        except BaseException:
            given_up.set()
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(artifact: Artifact, folder: Path, base: str, advance: Callable[[int], None]) -> None:
    """Download, verify and name one archive; nothing is left of one that fails."""
    target = folder / artifact.path
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.part")
    url = f"{base}/{artifact.path}"
    try:
        found = _download(url, temporary, advance)
        if found != artifact.sha256:
            raise ComponentMissing(
                f"{artifact.coordinates} from {url} is not the expected file: its SHA-256 is {found}, "
                f"expected {artifact.sha256}. Try another network or a mirror (MARKETFEED_MAVEN_URL)"
            )
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise ComponentMissing(
            f"Could not fetch {artifact.coordinates} from {url}: {error}. Check the network and proxy settings, "
            "or set MARKETFEED_MAVEN_URL to a mirror that you can reach"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _download(url: str, target: Path, advance: Callable[[int], None]) -> str:
    """Write what `url` gives to `target` and return its SHA-256; a passing failure is tried `_ATTEMPTS` times."""
    for attempt in range(1, _ATTEMPTS + 1):
        counted = 0
        digest = hashlib.sha256()
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response, target.open("wb") as output:  # noqa: S310 - the base is the user's own
                while chunk := response.read1(_CHUNK_BYTES):  # what is there, so that a slow network shows progress
                    output.write(chunk)
                    digest.update(chunk)
                    counted += len(chunk)
                    advance(len(chunk))
            return digest.hexdigest()
        except OSError as error:
            advance(-counted)
            if attempt == _ATTEMPTS or (isinstance(error, urllib.error.HTTPError) and error.code < _SERVER_ERROR):
                raise
            time.sleep(_RETRY_AFTER_S * attempt)
    raise AssertionError("unreachable")
