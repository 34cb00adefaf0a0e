"""Keeps one service's process running: starts it, learns its URL, starts it again with backoff when it dies.

What must not be tried again is said by exit code 2 (bad configuration): the service is given up and its owner told.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from marketfeed.errors import ConfigurationError, MarketfeedError
from marketfeed.local.child import Child, Command, Entry, reason
from marketfeed.policies import backoff_s

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
SETTLED_AFTER_S = 60.0  # a process that ran this long starts its backoff afresh
BAD_CONFIGURATION = 2
LOG_ONLY = frozenset({"client_said"})  # the Kafka client's own words, on every retry while a broker starts


class State(StrEnum):
    """Where a service stands."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    FAILED = "failed"


class Observer(Protocol):
    """Who is told what happens to services, by their names; called in the event loop, must not block."""

    def listening(self, name: str, entry: Entry) -> None:
        """Take note that the service answers; `entry` holds its URLs. Called again after each restart."""

    def trouble(self, name: str, text: str) -> None:
        """Show a person a warning or an error from the log, or a death."""

    def gave_up(self, name: str, error: MarketfeedError) -> None:
        """Take note that the service will not be started again."""


def next_attempt(attempt: int, ran_s: float) -> int:
    """Return the number of the coming restart (0 is the first) after one numbered `attempt` that ran `ran_s`."""
    return 0 if ran_s >= SETTLED_AFTER_S else attempt + 1


class Service:
    """One supervised process. `start` it once, `stop` it once; `url` is None until it listens."""

    def __init__(
        self, name: str, command: Callable[[], Command], logs: Path, observer: Observer, *, restart: bool = True
    ) -> None:
        """Prepare the service `name`; `command` is asked anew for each start, `logs` is the folder of its log.

        Without `restart`, its first death is its last.
        """
        self.name = name
        self.log_path = logs / f"{name}.log"
        self.state = State.STARTING
        self.url: str | None = None
        self.pid: int | None = None
        self.restarts = 0
        self._command = command
        self._observer = observer
        self._restart = restart
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._grace_s = 0.0
        self._clean = False
        self._listening = asyncio.Event()

    def start(self) -> None:
        """Start, and keep running until `stop`."""
        self._task = asyncio.create_task(self._keep_running(), name=self.name)

    async def listening(self) -> None:
        """Wait until the service answers."""
        await self._listening.wait()

    async def stop(self, grace_s: float) -> bool:
        """Ask it to end, kill it after `grace_s`; return whether it was running and ended with exit code 0."""
        self._grace_s = grace_s
        self._stop.set()
        if self._task is not None:
            await asyncio.wait([self._task])  # which, unlike `await`, leaves the task alone when we are cancelled
        if self.state is not State.FAILED:
            self.state = State.STOPPED
        return self._clean

    def kill(self) -> None:
        """Kill the process at once; for the second Ctrl-C, which waits for nothing."""
        self._stop.set()
        if self._child is not None:
            self._child.kill()

    async def _keep_running(self) -> None:
        attempt = -1
        while True:
            started = time.monotonic()
            code, words = await self._run_once()
            if self._stop.is_set():
                self._clean = code == 0
                return
            if code == BAD_CONFIGURATION:
                self._give_up(ConfigurationError(f"{self.name}: {words}"))
                return
            if not self._restart:
                self._give_up(MarketfeedError(f"{self.name}: {ending(code)} ({words}); its log is {self.log_path}"))
                return
            attempt = next_attempt(attempt, time.monotonic() - started)
            delay_s = backoff_s(attempt, BACKOFF_FIRST_S, BACKOFF_MAX_S, random.random())  # noqa: S311 - jitter
            self.state = State.RESTARTING
            self.restarts += 1
            self._observer.trouble(self.name, f"{ending(code)} ({words}); starting it again in {delay_s:.1f} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay_s)
                return

    async def _run_once(self) -> tuple[int, str]:
        """Run the process to its end, or until `stop`; return its exit code and its last words."""
        try:
            child = await Child.start(self._command(), self.log_path, self._take)
        except OSError as error:
            return 1, f"it could not be started: {error}"
        self._child, self.pid = child, child.pid
        ended = asyncio.create_task(child.wait())
        asked = asyncio.create_task(self._stop.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not ended.done():
            await child.stop(self._grace_s)
        code = await ended
        self._child, self.url, self.pid = None, None, None
        self._listening.clear()
        return code, reason(child.last_lines)

    def _give_up(self, error: MarketfeedError) -> None:
        self.state = State.FAILED
        self._observer.gave_up(self.name, error)

    def _take(self, entry: Entry) -> None:
        if entry.get("action") == "listening":
            self.state, self.url = State.RUNNING, entry.get("url") or entry.get("rest")
            self._listening.set()
            self._observer.listening(self.name, entry)
        elif entry.get("level") in ("warning", "error") and entry.get("action") not in LOG_ONLY:
            self._observer.trouble(self.name, readable(entry))


def ending(code: int) -> str:
    """Return how a process ended, in words."""
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"


def readable(entry: Entry) -> str:
    """Return a log record as a person reads it: the action, then those of its fields that say something."""
    hidden = {"time", "level", "logger", "action", "traceback"}
    details = ", ".join(
        f"{key}={value}" for key, value in entry.items() if key not in hidden and value not in (None, "")
    )
    action = str(entry.get("action", "")).replace("_", " ")
    return f"{action}: {details}" if details else action
