"""What the embedded broker and the embedded database have in common: how such a server starts, is asked, and ends."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from marketfeed.local.process import ServerFailed, TiedProcess

START_TIMEOUT_S = 120.0

_STOP_TIMEOUT_S = 15.0
_ASK_EVERY_S = 0.05


class EmbeddedServer(ABC):
    """A server whose data and log live in `directory`; it ends with this process at the latest.

    Use it as a context manager, or call `start()` and `stop()`. Nothing happens before `start()`. A directory that
    holds data of an earlier run is taken up again.
    """

    name: ClassVar[str]
    stop_signals: ClassVar[Sequence[signal.Signals]]

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.log = self.directory / f"{self.name.lower()}.log"
        self._process: TiedProcess | None = None

    @abstractmethod
    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start and wait until clients are answered; fetches and creates what is missing first.

        Raises ServerFailed with the end of the log when the server ends or does not answer in `timeout_s`, and
        ComponentMissing when something could not be fetched.
        """

    @abstractmethod
    def answers(self) -> bool:
        """Ask the server, as a client would, whether it is ready."""

    @property
    def pid(self) -> int | None:
        """The process id while the server runs."""
        return self._process.pid if self._process is not None and self._process.running() else None

    def running(self) -> bool:
        """Tell whether the server's process lives."""
        return self.pid is not None

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """Shut down in order, after `timeout_s` by force; does nothing when the server does not run."""
        if self._process is not None:
            self._process.stop(self.stop_signals, timeout_s)
            self._process = None

    def kill(self) -> None:
        """End the server with SIGKILL and wait until its own children are gone too."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """Stop, if it runs, and start again on the same port with the same data."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, process: TiedProcess, timeout_s: float) -> None:
        """Take over a process that was just started and wait until it answers; one that does not is ended."""
        self._process = process
        try:
            self._wait(process, timeout_s)
        except BaseException:
            self.kill()
            raise

    def _wait(self, process: TiedProcess, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if not process.running():
                raise ServerFailed(f"{self.name} ended while starting; the end of {self.log}:\n{process.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{self.name} did not answer in {timeout_s:g} s; the end of {self.log}:\n{process.log_tail()}"
                )
            time.sleep(_ASK_EVERY_S)
