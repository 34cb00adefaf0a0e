"""The product's own processes, run as a deployment runs them: `marketfeed COMMAND`, settings in the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import urlopen

import psutil

from benchmarks.children import Failed, on_core
from marketfeed.settings import HttpSettings, Settings

LOCAL_HTTP = HttpSettings(host="127.0.0.1", port=0)

_ASK_EVERY_S = 0.05
_STOP_S = 30.0
_LAST_WORDS = 2_000


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float) -> None:
    """Wait until the condition holds; raises Failed saying `what` did not come."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {deadline_s:g} s")
        time.sleep(_ASK_EVERY_S)


class Service:
    """One `marketfeed` process with its log in `log`. Leaving the block drains it and demands exit code 0."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, core: int | None = None
    ) -> None:
        self.name = arguments[0]
        self._log = log
        marketfeed = Path(sys.executable).with_name("marketfeed")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                on_core([str(marketfeed), *arguments], core),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
            )
        self._usage = psutil.Process(self._process.pid)

    def listening(self, deadline_s: float = 30.0) -> dict[str, Any]:
        """Wait until the service says that it listens; return that record of its log."""
        found: dict[str, Any] = {}

        def look() -> bool:
            if self._process.poll() is not None:
                raise Failed(f"marketfeed {self.name} ended; {self._last_words()}")
            found.update(next((entry for entry in self._entries() if entry.get("action") == "listening"), {}))
            return bool(found)

        wait_for(look, f"`marketfeed {self.name}` listening", deadline_s)
        return found

    def stats(self) -> dict[str, Any]:
        """Return what the service says of itself at `/stats`."""
        url = self.listening()["url"]
        try:
            with urlopen(f"{url}/stats", timeout=5) as answer:  # noqa: S310 - our own http URL
                stats: dict[str, Any] = json.load(answer)
        except OSError as error:
            raise Failed(f"marketfeed {self.name} does not answer: {error}; {self._last_words()}") from None
        return stats

    def cpu_s(self) -> float:
        """Return the processor time used so far, user and system."""
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def memory_mib(self) -> float:
        """Return the resident memory: proportional set size where the system tells it, else resident set size."""
        usage = self._usage.memory_full_info() if psutil.LINUX else self._usage.memory_info()
        return float(getattr(usage, "pss", usage.rss)) / 2**20

    def _last_words(self) -> str:
        return f"its log ends: {self._log.read_text()[-_LAST_WORDS:]}"

    def _entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = -9
        if kind is None and code != 0:
            raise Failed(f"marketfeed {self.name} ended with {code}; {self._last_words()}")


def environment(settings: Settings, **secrets: str) -> dict[str, str]:
    """Return the variables for a process: the settings, and the secrets that settings never write out."""
    return {**settings.to_env(), **secrets}
