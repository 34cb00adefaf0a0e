"""Finds what the latest run on this machine has to show: its database while it runs or is kept, else its last proof."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from marketfeed.errors import ConfigurationError
from marketfeed.local import endpoints, runs
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.settings import ConsumerSettings, Secret


@dataclass(frozen=True, slots=True)
class Found:
    """A run and its database; without a `dsn` its data was not kept, and `run.proof` is what it ended with."""

    run: runs.Run
    dsn: Secret | None

    @property
    def description(self) -> str:
        """Which run this is, and whether its data is there."""
        place = f"data in {self.run.folder}" if self.dsn is not None else "whose data was not kept: this is its proof"
        return f"Run {self.run.id} of the feed {self.run.feed}, {place}"


@contextmanager
def latest() -> Iterator[Found]:
    """Yield what the latest run has to show; a kept database that rests is started for as long as that takes.

    A run that is running comes before one that is over. Raises ConfigurationError when no run left anything.
    """
    known = runs.known()
    for run in known:
        dsn = _running_dsn(run)
        if dsn is not None:
            yield Found(run, dsn)
            return
    for run in known:
        if _has_database(run):
            with runs.lock(run.path), EmbeddedPostgres(run.path / runs.POSTGRES) as postgres:
                yield Found(run, postgres.dsn)
            return
        if run.proof is not None:
            yield Found(run, None)
            return
    raise ConfigurationError(
        f"no database to verify: set {ConsumerSettings.variable('dsn')}, or give --dsn-file, or start `marketfeed up`"
    )


def _running_dsn(run: runs.Run) -> Secret | None:
    """Return where a running run's database answers; None when the run is over, or still starting, or has none."""
    if not run.is_running():
        return None
    try:
        dsn = json.loads((run.path / endpoints.NAME).read_text())["postgres"]
    except (OSError, ValueError, KeyError):
        return None
    return Secret(dsn) if dsn else None


def _has_database(run: runs.Run) -> bool:
    return run.kept and run.path.is_dir() and EmbeddedPostgres(run.path / runs.POSTGRES).has_data()
