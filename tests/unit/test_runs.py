"""What is remembered of runs on this machine."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from marketfeed.errors import ConfigurationError
from marketfeed.local import runs


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETFEED_CACHE", str(tmp_path / "cache"))


def _run(number: int, folder: Path, *, kept: bool = True) -> runs.Run:
    return runs.Run(id=f"2026010{number}T000000-spot-1", feed="spot", folder=str(folder), kept=kept)


def test_what_was_saved_is_known_latest_first(tmp_path: Path) -> None:
    """Runs come back as they were saved, the latest first, with their proof."""
    first, second = _run(1, tmp_path), runs.with_proof(_run(2, tmp_path), {"complete": True})
    runs.save(first)
    runs.save(second)
    assert runs.known() == [second, first]


def test_records_are_for_the_owner_alone(tmp_path: Path) -> None:
    """Nobody else can read which runs there were."""
    runs.save(_run(1, tmp_path))
    (record,) = (tmp_path / "cache" / "runs").glob("*.json")
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


def test_an_unreadable_record_is_passed_over(tmp_path: Path) -> None:
    """One damaged file does not hide the other runs."""
    runs.save(_run(1, tmp_path))
    (tmp_path / "cache" / "runs" / "20260102T000000-x-1.json").write_text("{")
    assert [run.id for run in runs.known()] == ["20260101T000000-spot-1"]


def test_only_the_latest_records_are_kept(tmp_path: Path) -> None:
    """The records do not grow without bound."""
    for number in range(runs.KEPT_RECORDS + 5):
        runs.save(runs.Run(id=f"2026{number:04}", feed="spot", folder=str(tmp_path), kept=True))
    assert len(runs.known()) == runs.KEPT_RECORDS
    assert runs.known()[0].id == f"2026{runs.KEPT_RECORDS + 4:04}"


def test_a_run_is_running_while_its_folder_is_held(tmp_path: Path) -> None:
    """A run counts as running exactly as long as somebody holds its folder, and never when the folder is gone."""
    run = _run(1, tmp_path)
    with runs.folder(tmp_path):
        assert run.is_running()
    assert not run.is_running()
    assert not _run(2, tmp_path / "gone").is_running()


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    """A second run in the same folder is refused with a sentence that says what to do."""
    with runs.folder(tmp_path), pytest.raises(ConfigurationError, match="in use by another"), runs.folder(tmp_path):
        pass


def test_a_temporary_folder_goes_and_a_named_one_stays(tmp_path: Path) -> None:
    """What the user did not name is removed at the end; what he named stays."""
    with runs.folder(None) as temporary:
        assert temporary.is_dir()
    assert not temporary.exists()
    with runs.folder(tmp_path / "data"):
        pass
    assert (tmp_path / "data").is_dir()


def test_the_folder_of_a_killed_run_is_removed_by_the_next(tmp_path: Path) -> None:
    """A temporary folder whose runner was killed goes when the next run starts; a kept or running one stays."""
    killed, kept, running = (tmp_path / f"{runs.TEMPORARY}{name}" for name in ("killed", "kept", "running"))
    for number, (folder, keep) in enumerate([(killed, False), (kept, True), (running, False)]):
        folder.mkdir()
        runs.save(_run(number, folder, kept=keep))
    with runs.lock(running):
        runs.sweep()
    assert not killed.exists()
    assert kept.exists()
    assert running.exists()


def test_an_impossible_folder_is_refused(tmp_path: Path) -> None:
    """A folder that cannot be made is a configuration error that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file"), runs.folder(tmp_path / "file" / "data"):
        pass
