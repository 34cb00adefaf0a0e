"""Processes that are tied to the one that started them, with real processes and real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helpers import gone, wait_until
from marketfeed.local.process import ServerFailed, TiedProcess, plain_environment

PARENT = """
import sys, time
from pathlib import Path
from marketfeed.local.process import TiedProcess, plain_environment
folder = Path(sys.argv[1])
server = TiedProcess(["sleep", "600"], log=folder / "log", directory=folder, environment=plain_environment())
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def started() -> Iterator[list[TiedProcess]]:
    """Collect the processes of a test, which all end with it."""
    processes: list[TiedProcess] = []
    yield processes
    for process in processes:
        process.kill()


def _start(script: str, folder: Path, started: list[TiedProcess]) -> TiedProcess:
    """Run a shell script as the server and wait until it says that it is ready."""
    process = TiedProcess(
        ["/bin/sh", "-c", script], log=folder / "log", directory=folder, environment=plain_environment()
    )
    started.append(process)
    wait_until(lambda: "ready" in process.log_tail(), 10, "the script to get ready")
    return process


def _session(pid: int) -> list[int]:
    """Return the processes in the server's session, the watcher included."""
    return [other for other in psutil.pids() if _session_of(other) == pid and not gone(other)]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_server_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """A server, and what watches over it, is gone after kill -9 of the process that started it."""
    with subprocess.Popen([sys.executable, "-c", PARENT, tmp_path], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    wait_until(lambda: not _session(pid), 10, "the server and its watcher to end")


def test_server_outlives_the_thread_that_started_it(tmp_path: Path, started: list[TiedProcess]) -> None:
    """The tie is to the process: a worker thread may start a server and end."""
    thread = threading.Thread(target=_start, args=("echo ready; exec sleep 600", tmp_path, started))
    thread.start()
    thread.join(10)
    assert started[0].running()


def test_stop_asks_first(tmp_path: Path, started: list[TiedProcess]) -> None:
    """The first signal is enough for a server that heeds it, and no process of its session is left."""
    process = _start('trap "echo asked; exit 0" TERM; echo ready; while :; do sleep 0.01; done', tmp_path, started)
    process.stop([signal.SIGTERM], 10)
    assert process.log_tail().splitlines() == ["ready", "asked"]
    wait_until(lambda: not _session(process.pid), 10, "the watcher to end")


def test_stop_ends_in_force(tmp_path: Path, started: list[TiedProcess]) -> None:
    """A server that ignores the signal is killed when its time is over."""
    process = _start('trap "" TERM; echo ready; exec sleep 600', tmp_path, started)
    process.stop([signal.SIGTERM], 0.1)
    assert not process.running()


def test_kill_waits_for_children(tmp_path: Path, started: list[TiedProcess]) -> None:
    """After `kill` the server's own children are gone too: a restart meets none of them."""
    process = _start("(sleep 0.3; echo gone) & echo ready; exec sleep 600", tmp_path, started)
    process.kill()
    assert process.log_tail().splitlines() == ["ready", "gone"]


def test_child_that_stays_is_reported(tmp_path: Path, started: list[TiedProcess]) -> None:
    """A child that does not end within the limit is an error, not a surprise for the next start."""
    process = _start("sleep 600 & echo ready $!; exec sleep 600", tmp_path, started)
    child = int(process.log_tail().split()[1])
    with pytest.raises(ServerFailed, match="still run"):
        process.kill(0.1)
    os.kill(child, signal.SIGKILL)


def test_interrupt_does_not_reach_the_server(tmp_path: Path, started: list[TiedProcess]) -> None:
    """Ctrl-C goes to a terminal's foreground group, which the server is not in."""
    process = _start("echo ready; exec sleep 600", tmp_path, started)
    assert os.getpgid(process.pid) != os.getpgrp()


def test_environment_is_not_inherited(
    tmp_path: Path, started: list[TiedProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No secret of the parent's environment gets into the server's."""
    monkeypatch.setenv("MARKETFEED_DSN", "postgresql://user:secret@host/db")
    process = _start("env; echo ready", tmp_path, started)
    assert "secret" not in process.log_tail()
