"""One child process: started so that it dies with us, its log kept in a file, its announcements read.

Services write one JSON object a line to stderr. Every line goes to the child's log file as it is; the lines that are
objects are also handed to whoever started the child. When to start one again is not decided here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from marketfeed.local.tie import RELEASE, tied

Entry = Mapping[str, Any]
"""One log record of a service: `level`, `action` and the record's own fields."""

_LAST_LINES = 30
_FRAME = " |+-"  # what Python draws around the traceback of an exception group
_LONGEST_LINE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run. Secrets belong in `env`: a command line can be read by every user of the machine."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # added to our own environment


def marketfeed(*arguments: str, env: Mapping[str, str] | None = None) -> Command:
    """Return the command that runs `marketfeed ARGUMENTS` with this very installation."""
    return Command(argv=(sys.executable, "-m", "marketfeed", *arguments), env=env or {})


class Child:
    """A running process in a group of its own that never outlives us. Make one with `Child.start`."""

    def __init__(self, child: asyncio.subprocess.Process, log: BinaryIO, on_entry: Callable[[Entry], None]) -> None:
        self._child = child
        self._log = log
        self._on_entry = on_entry
        self.pid = child.pid
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Command, log_path: Path, on_entry: Callable[[Entry], None]) -> Child:
        """Start the command; `on_entry` is called in the event loop for each log record.

        Stdout, where a service that has no broker writes its records, goes to a file beside the log.
        Raises OSError when the program or the files cannot be opened.
        """
        log = log_path.open("ab", buffering=0)
        try:
            with log_path.with_suffix(".stdout").open("ab") as stdout:
                child = await asyncio.create_subprocess_exec(
                    *tied(command.argv),
                    env={**os.environ, **command.env},
                    stdin=asyncio.subprocess.PIPE,
                    stdout=stdout,
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,  # a Ctrl-C in the terminal is ours to handle, not the child's
                )
        except BaseException:
            log.close()
            raise
        return cls(child, log, on_entry)

    async def wait(self) -> int:
        """Wait for the end; return the exit code, negative where a signal ended it. Its whole log is read by then."""
        code = await self._child.wait()
        self._release_watcher()
        await self._reader
        return code

    async def stop(self, grace_s: float) -> int:
        """Ask the child to end (SIGTERM), kill it after `grace_s`; return its exit code."""
        with suppress(ProcessLookupError):
            self._child.terminate()
        try:
            return await asyncio.wait_for(asyncio.shield(self.wait()), grace_s)
        except TimeoutError:
            self.kill()
            return await self.wait()

    def kill(self) -> None:
        """Kill the child and all that it started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _release_watcher(self) -> None:
        tie = self._child.stdin
        if tie is not None and not tie.is_closing():
            tie.write(RELEASE)
            tie.close()

    async def _read(self) -> None:
        stream = self._child.stderr
        assert stream is not None  # noqa: S101 - we asked for a pipe
        rest = b""
        with self._log:
            while chunk := await stream.read(65_536):
                with suppress(OSError):  # a full disk costs the log, never the watch over the child
                    self._log.write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(line)
                rest = rest[-_LONGEST_LINE_BYTES:]
            self._take(rest)

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if not text:
            return
        self.last_lines.append(text)
        entry = parse_entry(text)
        if entry is not None:
            self._on_entry(entry)


def parse_entry(line: str) -> Entry | None:
    """Return a log line's record; None for a line that is none, as a traceback's."""
    if not line.startswith("{"):
        return None
    try:
        entry: Entry = json.loads(line)
    except ValueError:
        return None
    return entry


def reason(last_lines: Sequence[str]) -> str:
    """Return the sentence in which a child that ended said why: its last words outside of its structured log."""
    for line in reversed(last_lines):
        entry = parse_entry(line)
        if entry is None:
            words = line.strip(_FRAME)
            if words:
                return words.removeprefix("marketfeed: ")
        elif entry.get("level") == "error":
            return str(entry.get("error") or entry.get("action"))
    return "it said nothing"
