"""What is remembered of runs on this machine: which run now, where kept data lies, what proof a run ended with.

One JSON file a run in the cache, readable by its owner alone. A run's folder is locked while it runs, so that nobody
else uses it and that a run which was killed is known to be over.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from marketfeed.errors import ConfigurationError
from marketfeed.local.components import cache_dir, make_folder
from marketfeed.local.files import write_atomically
from marketfeed.local.postgres import EmbeddedPostgres

KEPT_RECORDS = 20
TEMPORARY = "marketfeed-up-"
POSTGRES = "postgres"  # the database's folder in a run's folder
_LOCK = "run.lock"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `kept`: its folder was named by the user and stays; `proof` is what `--for` ended with."""

    id: str
    feed: str
    folder: str
    kept: bool
    proof: dict[str, Any] | None = None

    @property
    def path(self) -> Path:
        """The run's folder."""
        return Path(self.folder)

    def is_running(self) -> bool:
        """Tell whether a runner holds the folder now."""
        try:
            with lock(self.path):
                return False
        except ConfigurationError:
            return True
        except OSError:
            return False


def new(feed: str, folder: Path, *, kept: bool) -> Run:
    """Return a run that starts now; its id sorts by time."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return Run(id=f"{moment}-{re.sub('[^a-z0-9-]', '-', feed)}-{os.getpid()}", feed=feed, folder=str(folder), kept=kept)


def save(run: Run) -> None:
    """Remember the run, replacing what was remembered of it; forget all but the latest."""
    records = make_folder(_records())
    write_atomically(records / f"{run.id}.json", msgspec.json.encode(run).decode())
    for old in sorted(records.glob("*.json"))[:-KEPT_RECORDS]:
        old.unlink(missing_ok=True)


def known() -> list[Run]:
    """Return the runs that are remembered, the latest first; a file that cannot be read is passed over."""
    found = []
    for path in sorted(_records().glob("*.json"), reverse=True):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Run))
        except (OSError, msgspec.MsgspecError):
            continue
    return found


@contextmanager
def folder(keep: Path | None) -> Iterator[Path]:
    """Hold a run's folder: `keep`, made where missing, or a temporary one that is removed at the end.

    Raises ConfigurationError when another run holds it or it cannot be written to.
    """
    sweep()
    if keep is None:
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, ignore_cleanup_errors=True) as made, lock(Path(made)):
            yield Path(made)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / _LOCK).touch(0o600)
    except OSError as error:
        raise ConfigurationError(f"--keep {keep}: the folder cannot be written to ({error.strerror})") from None
    with lock(keep):
        yield keep.resolve()


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the folder for this process; raises ConfigurationError when another holds it, OSError when it is not there.

    The kernel lets go when the process ends, however it ends.
    """
    descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"{path} is in use by another `marketfeed up`: name another folder") from None
        yield
    finally:
        os.close(descriptor)


def keep_logs(run: Run) -> Path:
    """Copy a run's logs to where they outlive its folder, over those of the last run; return that place."""
    target = make_folder(_records()) / "last-logs"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700)
    for log in sorted(run.path.rglob("*.log")):
        shutil.copyfile(log, target / log.name)
    return target


def sweep() -> None:
    """Remove the temporary folders of runs that were killed before they could do it themselves."""
    for run in known():
        if not run.kept and run.path.name.startswith(TEMPORARY) and run.path.is_dir() and not run.is_running():
            EmbeddedPostgres(run.path / POSTGRES).remove()  # whose data may lie elsewhere
            shutil.rmtree(run.path, ignore_errors=True)


def with_proof(run: Run, proof: dict[str, Any]) -> Run:
    """Return the run with the proof it ended with."""
    return msgspec.structs.replace(run, proof=proof)


def _records() -> Path:
    return cache_dir() / "runs"
