"""Server processes that never outlive the process that started them.

What does not live here: what the servers are (kafka, postgres) and when to start one again.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from marketfeed.errors import MarketfeedError
from marketfeed.local.tie import RELEASE, tied

_LOG_TAIL_BYTES = 20_000
_LOG_TAIL_LINES = 20


class ServerFailed(MarketfeedError):
    """A server on this machine did not start or stopped by itself."""


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system's user that a server runs as."""

    name: str
    uid: int
    gid: int


class TiedProcess:
    """A server process in a session of its own, tied to the life of this process; started by building it.

    arguments: the program and its arguments; no secret belongs there.
    log: the file that standard output and error are appended to.
    account: whom to run as, when this process is root; None runs as the present user.
    orphan_signal: what the server gets when this process is gone, as "KILL".
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        log: Path,
        directory: Path,
        environment: Mapping[str, str],
        account: Account | None = None,
        orphan_signal: str = "KILL",
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                tied(arguments, orphan_signal=orphan_signal, hold_stdout=True),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=directory,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C reaches the starting process alone, which stops its servers in order
                **as_account(account),
            )

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def running(self) -> bool:
        """Tell whether the server runs."""
        if self._process.poll() is None:
            return True
        self._let_watcher_go()
        return False

    def stop(self, signals: Sequence[signal.Signals], timeout_s: float) -> None:
        """Send each signal in turn, waiting up to `timeout_s` after each, then SIGKILL; returns when all are gone."""
        for number in signals:
            if not self.running():
                break
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill(timeout_s)

    def kill(self, timeout_s: float = 10.0) -> None:
        """End the server with SIGKILL and wait until its own children have noticed and are gone too.

        Raises ServerFailed when a child is still there after `timeout_s`.
        """
        self._process.kill()  # does nothing once the process has been waited for
        self._process.wait()
        self._let_watcher_go()
        if not self._children_gone(timeout_s):
            raise ServerFailed(f"Children of process {self.pid} still run {timeout_s:g} s after its end")

    def log_tail(self) -> str:
        """Return the end of the log without Java's stack frames, for a message that says why the server failed."""
        with self.log.open("rb") as text:
            text.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
            lines = text.read().decode(errors="replace").splitlines()
        return "\n".join([line for line in lines if not line.startswith("\tat ")][-_LOG_TAIL_LINES:])

    def _children_gone(self, timeout_s: float) -> bool:
        """Wait for the end of the pipe that the server's children hold."""
        output = self._process.stdout
        if output is None or output.closed:
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            gone = bool(selector.select(timeout_s))
        output.close()
        return gone

    def _let_watcher_go(self) -> None:
        """Tell the watcher that the server is gone: its process id may soon be somebody else's."""
        tie = self._process.stdin
        if tie is not None and not tie.closed:
            with contextlib.suppress(BrokenPipeError), tie:
                tie.write(RELEASE)


class _Identity(TypedDict, total=False):
    """The arguments of `subprocess` that say whom a program runs as."""

    user: int
    group: int
    extra_groups: list[int]


def as_account(account: Account | None) -> _Identity:
    """Return the arguments of `subprocess` that run a program as `account`; none for the present user."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def plain_environment() -> dict[str, str]:
    """Return the environment for a server: nothing of ours but where programs are; no secret can slip in."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
