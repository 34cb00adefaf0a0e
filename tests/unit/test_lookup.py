"""What the latest run has to show to `marketfeed verify`."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketfeed.errors import ConfigurationError
from marketfeed.local import runs
from marketfeed.local.endpoints import Endpoints
from marketfeed.local.lookup import latest

DSN = "postgresql://marketfeed:hunter2@127.0.0.1:1/marketfeed"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETFEED_CACHE", str(tmp_path / "cache"))


def _save(number: int, folder: Path, proof: dict[str, object] | None = None) -> runs.Run:
    run = runs.Run(id=f"2026010{number}T000000-spot-1", feed="spot", folder=str(folder), kept=False, proof=proof)
    runs.save(run)
    return run


def test_a_running_database_comes_first(tmp_path: Path) -> None:
    """The database of a run that goes on is found, also when a later run has ended with a proof."""
    running = _save(1, tmp_path)
    _save(2, tmp_path / "gone", {"complete": True})
    Endpoints(postgres=DSN).write(tmp_path)
    with runs.lock(tmp_path), latest() as found:
        assert found.run == running
        assert found.dsn == DSN
        assert found.description == f"Run {running.id} of the feed spot, data in {tmp_path}"


def test_else_the_last_proof_is_found(tmp_path: Path) -> None:
    """When nothing runs and no data was kept, the proof of the latest run that has one is found."""
    _save(1, tmp_path / "gone", {"complete": False})
    proven = _save(2, tmp_path / "gone", {"complete": True})
    _save(3, tmp_path / "gone")
    with latest() as found:
        assert found.run == proven
        assert found.dsn is None
        assert "whose data was not kept" in found.description


def test_without_any_run_the_user_is_told_what_to_do() -> None:
    """On a machine without runs the error says what to name or to run."""
    with pytest.raises(ConfigurationError, match="marketfeed up"), latest():
        pass
