"""Files that other processes read while the runner writes them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from marketfeed.local.endpoints import Endpoints, Simulator
from marketfeed.local.files import write_atomically, write_streams


def test_endpoints_are_for_the_owner_alone(tmp_path: Path) -> None:
    """The file holds the database's password: nobody else may read it, also after it was written again."""
    path = Endpoints(kafka="127.0.0.1:1").write(tmp_path)
    Endpoints(kafka="127.0.0.1:2").write(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_endpoints_say_where_everything_is(tmp_path: Path) -> None:
    """The JSON names broker, database, simulator and services; what a run does not have is null."""
    endpoints = Endpoints(
        kafka="127.0.0.1:19092",
        simulator=Simulator("ws://127.0.0.1:1", "http://127.0.0.1:2"),
        services={"spot-0": "http://127.0.0.1:3"},
    )
    assert json.loads(endpoints.write(tmp_path).read_text()) == {
        "kafka": "127.0.0.1:19092",
        "postgres": None,
        "simulator": {"websocket": "ws://127.0.0.1:1", "rest": "http://127.0.0.1:2"},
        "services": {"spot-0": "http://127.0.0.1:3"},
    }


def test_the_password_is_not_shown() -> None:
    """A logged Endpoints object does not give the DSN away."""
    assert "hunter2" not in repr(Endpoints(postgres="postgresql://marketfeed:hunter2@127.0.0.1/marketfeed"))


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    """When the text cannot be written, the old file stays whole and no temporary file stays behind."""
    path = tmp_path / "streams.json"
    write_streams(path, ["BTCUSDT@trade"])
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\udc80")
    assert json.loads(path.read_text()) == {"streams": ["BTCUSDT@trade"]}
    assert list(tmp_path.iterdir()) == [path]
