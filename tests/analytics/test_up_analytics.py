"""`marketfeed up` with analytics: Spark beside the rest, its windows proven equal to the records at the end."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers import wait_until
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.local.runs import POSTGRES
from up_runs import FEED, Up, query, up

JOB = "spot-analytics"
_COMMAND = ["-m", "marketfeed", "analytics"]
SPARK_DEADLINE_S = 240.0  # Spark starts in seconds on a machine that has nothing else to do
ANALYTICS = """\
  analytics:
    tradeWindow: 5s
    spreadWindow: 5s
    watermark: 1s
    trigger: 1s
    alerts: {volatility: 0.5}
"""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """Return the file of a MarketFeed with short windows."""
    path = tmp_path / "feed.yaml"
    path.write_text(FEED + ANALYTICS)
    return path


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Path]:
    """Return a folder for --keep; the database's data, which may lie outside of it, is removed afterwards."""
    folder = tmp_path / "keep"
    yield folder
    EmbeddedPostgres(folder / POSTGRES).remove()


def _windows(run: Up) -> int:
    return int(query(run.endpoints["postgres"], "SELECT count(*) FROM trade_metrics")[0][0])


def _words(process: psutil.Process) -> list[str]:
    """Return a process's command line; none of one that has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _job(run: Up) -> dict[str, Any]:
    """Return what the job says of itself; empty while it does not answer."""
    try:
        return run.stats(JOB)
    except (KeyError, OSError):
        return {}


def test_the_proof_says_that_every_window_equals_its_records(feed: Path, keep: Path) -> None:
    """A timed run waits for the last windows, and its proof compares all of both tables with the records."""
    with up(feed, "--for", "15s", "--keep", str(keep), "--rate", "500") as run:
        assert run.process.wait(SPARK_DEADLINE_S * 3) == 0, run.output
        assert "trade_metrics: " in run.output
    proof = json.loads((keep / "proof.json").read_text())
    assert proof["complete"] is True
    found = {item["table"]: item for item in proof["metrics"]}
    assert found.keys() == {"trade_metrics", "spread_metrics"}
    for item in found.values():
        assert item["windows"] == item["equal"] > 0
        assert not item["different"]


def test_without_analytics_spark_is_left_alone(feed: Path) -> None:
    """--no-analytics starts everything else, and ends with the same proof of the records."""
    with up(feed, "--for", "3s", "--no-analytics") as run:
        assert JOB not in run.endpoints["services"]
        assert not (run.folder / "analytics").exists()
        assert run.wait() == 0, run.output
        assert "trade_metrics" not in run.output


def test_new_thresholds_reach_the_running_job(feed: Path) -> None:
    """An edited threshold raises alerts by the job that runs already; the job killed comes back and goes on."""
    with up(feed, "--rate", "500") as run:
        wait_until(lambda: _windows(run), SPARK_DEADLINE_S, "windows")
        url = run.endpoints["services"][JOB]
        assert query(run.endpoints["postgres"], "SELECT count(*) FROM alerts WHERE kind = 'volatility'") == [(0,)]
        feed.write_text((FEED + ANALYTICS).replace("volatility: 0.5", "volatility: 0.000000001"))
        wait_until(lambda: _job(run).get("alerts", {}).get("volatility"), SPARK_DEADLINE_S, "alerts")
        assert run.endpoints["services"][JOB] == url

        before = _windows(run)
        (process,) = {
            process for process in run.processes() if _words(process)[1:] == ["-m", "marketfeed", "analytics"]
        }
        process.kill()
        wait_until(
            lambda: run.endpoints["services"].get(JOB) not in (None, url), SPARK_DEADLINE_S, "the job to be back"
        )
        wait_until(lambda: _windows(run) > before, SPARK_DEADLINE_S, "more windows")
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 0, run.output
