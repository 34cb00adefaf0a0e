"""What is left running in the background: started once, found again by its state folder, ended in order.

One process serves it in a session of its own and holds a lock on the state folder as long as it lives, so that a folder
tells by itself whether something runs. What is served, and what it says of itself, is the caller's.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import gone
from marketfeed.errors import MarketfeedError
from marketfeed.local.files import write_atomically

_LOOK_EVERY_S = 0.1
_LOG_LINES = 20
_TESTS = Path(__file__).parents[1]


class NotUp(MarketfeedError):
    """What runs in the background could not be started or ended."""


def quiet(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """One that `python -m MODULE serve` serves in `state`, told by the environment's `variable` where that is.

    title: what it is, as "control plane"; start_timeout_s, stop_timeout_s: how long each may take.
    """

    title: str
    state: Path
    module: str
    variable: str
    start_timeout_s: float
    stop_timeout_s: float

    def description(self) -> dict[str, Any] | None:
        """Return what it says of itself; None when it does not run or is not ready."""
        try:
            content: dict[str, Any] = json.loads((self.state / "up.json").read_text())
        except FileNotFoundError:
            return None
        return content if self.held() else None

    def start(self, say: Callable[[str], None] = quiet) -> dict[str, Any]:
        """Start it, unless it is on its way, and return what it says of itself when it is ready.

        say: called with each line that it writes to standard output meanwhile. Raises NotUp with the end of its log.
        """
        return self._await_ready(None if self.held() else self._spawn(), say)

    def end(self) -> bool:
        """End it and wait until it has ended; tell whether it ran. Raises NotUp when it does not end."""
        if not (self.state.is_dir() and self.held()):
            return False
        pid = int((self.state / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + self.stop_timeout_s
        while not gone(pid):
            if time.monotonic() > deadline:
                raise NotUp(f"The {self.title} (process {pid}) did not end in {self.stop_timeout_s:g} s")
            time.sleep(_LOOK_EVERY_S)
        return True

    @contextmanager
    def hold(self) -> Iterator[Callable[[Mapping[str, object]], None]]:
        """Hold the state folder for this process, however it ends; yield what tells that all is ready, and how it is.

        Raises NotUp when another process holds it.
        """
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.state / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NotUp(f"Another {self.title} runs in {self.state}") from None
            (self.state / "up.json").unlink(missing_ok=True)  # left by one that was killed
            shutil.rmtree(self.state / "servers", ignore_errors=True)
            (self.state / "pid").write_text(str(os.getpid()))
            yield lambda content: write_atomically(self.state / "up.json", json.dumps(content))

    def held(self) -> bool:
        """Tell whether a process serves from this folder."""
        try:
            with (self.state / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start the process that serves, in a session of its own."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.state / "serve.log").open("wb") as log, (self.state / "steps.log").open("wb") as steps:
            return subprocess.Popen(
                [sys.executable, "-m", self.module, "serve"],
                stdin=subprocess.DEVNULL,
                stdout=steps,
                stderr=log,
                env={**os.environ, self.variable: str(self.state), "PYTHONPATH": str(_TESTS), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    def _await_ready(self, server: subprocess.Popen[bytes] | None, say: Callable[[str], None]) -> dict[str, Any]:
        """Wait until the process that serves, `server` where we started it, says that all is ready; else end it."""
        deadline = time.monotonic() + self.start_timeout_s
        said = 0
        while True:
            found = self.description()
            lines = _lines(self.state / "steps.log")
            for line in lines[said:]:
                say(line)
            said = len(lines)
            if found is not None:
                if server is not None:
                    threading.Thread(target=server.wait, daemon=True).start()  # collects it when it ends
                return found
            if (server is not None and server.poll() is not None) or time.monotonic() > deadline:
                if server is not None:
                    server.kill()
                    server.wait()
                last = "\n".join(_lines(self.state / "serve.log")[-_LOG_LINES:])
                raise NotUp(f"The {self.title} did not start; it said:\n{last}")
            time.sleep(_LOOK_EVERY_S)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
