"""Child processes of a benchmark: each measured side runs alone, in a fresh process, on a core of its own if possible.

A child is a module of this package. Its job is a line of JSON on stdin; it answers with lines of JSON on stdout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

DEADLINE_S = 60.0
"""How long one answer of a child may take before the benchmark counts as failed."""

_STOP_S = 20.0


class Failed(Exception):
    """A benchmark could not be measured; the message says which part and why."""


def two_cores() -> tuple[int | None, int | None]:
    """Return the core for what is measured and the core for everything else; None where cores cannot be chosen."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


@contextmanager
def pinned(process: int, core: int | None) -> Iterator[None]:
    """Keep all threads of a running process on one core for the time of the block."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(process)
    try:
        _move(process, {core})
        yield
    finally:
        _move(process, before)


def _move(process: int, cores: set[int]) -> None:
    """Move all threads; one that ends meanwhile needs no moving."""
    for path in Path(f"/proc/{process}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(path.name), cores)


def on_core(argv: Sequence[str], core: int | None) -> list[str]:
    """Return the command that runs `argv` on one core: the choice is made before its first thread starts."""
    if core is None:
        return list(argv)
    choose = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execv(sys.argv[2], sys.argv[2:])"
    return [sys.executable, "-c", choose, str(core), *argv]


class Child:
    """A module of this package, running; `answer` reads its next line. Leaving the block ends it."""

    def __init__(
        self, module: str, job: Mapping[str, Any], core: int | None = None, secrets: Mapping[str, str] | None = None
    ) -> None:
        self._module = module
        self._process = subprocess.Popen(
            on_core([sys.executable, "-m", f"benchmarks.{module}"], core),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(secrets or {})},
        )
        self.tell(job)

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def answer(self, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """Return the child's next line; raises Failed when it ended, or said nothing within the deadline."""
        assert self._process.stdout is not None
        watchdog = Timer(deadline_s, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise Failed(f"{self._module} ended or said nothing within {deadline_s:g} s; its words are above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate(timeout=_STOP_S)


def job() -> dict[str, Any]:
    """Return the next line from the parent; for a child's use."""
    message: dict[str, Any] = json.loads(sys.stdin.readline())
    return message


def reply(**message: object) -> None:
    """Send one line to the parent; for a child's use."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
