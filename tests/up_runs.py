"""`marketfeed up` as a process, and what tests ask of it."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from helpers import gone, wait_until

DEADLINE_S = 90.0
MARK = "MARKETFEED_TEST_MARK"

FEED = """
apiVersion: marketfeed.dev/v1alpha1
kind: MarketFeed
metadata: {name: spot}
spec:
  exchange: binance
  symbols: [BTCUSDT, ETHUSDT]
  channels: [trade, aggTrade, bookTicker]
  ingest: {streamsPerShard: 4}
  sinks:
  - {name: postgres, type: postgresql, secretRef: {name: postgres, key: dsn}, batch: {maxDelay: 200ms}}
"""


@dataclass
class Up:
    """A running `marketfeed up`. `output` is what it printed, complete once it has ended."""

    process: subprocess.Popen[str]
    log: Path
    mark: str

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def folder(self) -> Path:
        return self.endpoints_file.parent

    @property
    def endpoints_file(self) -> Path:
        """The file of endpoints, once everything runs."""

        def announced() -> re.Match[str] | None:
            assert self.process.poll() is None, self.output
            return re.search(r"Where everything answers: (.*endpoints\.json)", self.output)

        found = wait_until(announced, DEADLINE_S, "the run to stand")
        assert found is not None
        return Path(found[1])

    @property
    def endpoints(self) -> dict[str, Any]:
        return dict(json.loads(self.endpoints_file.read_text()))

    def stats(self, service: str) -> dict[str, Any]:
        url = f"{self.endpoints['services'][service]}/stats"
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - a service of ours on loopback
            return dict(json.load(answer))

    def rows(self, condition: str = "true") -> int:
        return int(query(self.endpoints["postgres"], f"SELECT count(*) FROM trades WHERE {condition}")[0][0])

    def processes(self) -> list[psutil.Process]:
        """Everything that the run started: its descendants, and what was cut loose but carries its mark."""
        marked = [process for process in psutil.process_iter() if _mark(process) == self.mark]
        return [*psutil.Process(self.process.pid).children(recursive=True), *marked]

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def all_gone(processes: list[psutil.Process]) -> bool:
    """Tell whether every one of these processes has ended."""
    return all(gone(process.pid) for process in processes)


def query(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


@contextmanager
def up(feed: Path, *options: str) -> Iterator[Up]:
    """Run `marketfeed up`; a run that a test leaves behind is killed, and everything that it started with it."""
    mark = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="marketfeed-test-") as folder:
        log = Path(folder) / "output"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "marketfeed", "up", str(feed), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, MARK: mark},
            )
        try:
            yield Up(process, log, mark)
        finally:
            process.kill()
            process.wait()
