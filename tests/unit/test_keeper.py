"""How an embedded server is watched."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import ClassVar

from marketfeed.errors import MarketfeedError
from marketfeed.local.child import Entry
from marketfeed.local.embedded import START_TIMEOUT_S, EmbeddedServer
from marketfeed.local.keeper import Keeper
from marketfeed.local.supervisor import State


class _Server(EmbeddedServer):
    """A server without a process that starts when `may_start` is set."""

    name = "Slow"
    stop_signals: ClassVar[Sequence[signal.Signals]] = ()

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.may_start = Event()
        self.calls: list[str] = []

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        assert self.may_start.wait(timeout_s)
        self.calls.append("start")

    def stop(self, timeout_s: float = 0.0) -> None:
        assert timeout_s >= 0
        self.calls.append("stop")

    def answers(self) -> bool:
        return True


class _Quiet:
    """An observer that must not be told anything."""

    def listening(self, name: str, entry: Entry) -> None:
        raise AssertionError(name, entry)

    def trouble(self, name: str, text: str) -> None:
        raise AssertionError(name, text)

    def gave_up(self, name: str, error: MarketfeedError) -> None:
        raise AssertionError(name, error)


async def _stop_while_starting(server: _Server) -> Keeper:
    keeper = Keeper(server, _Quiet())
    both = asyncio.gather(keeper.start(), keeper.stop())
    await asyncio.sleep(0)
    server.may_start.set()
    await both
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return keeper


def test_a_server_stopped_while_it_starts_stays_stopped(tmp_path: Path) -> None:
    """Once stopped, nobody watches the server, calls its end a death, or starts it again."""
    server = _Server(tmp_path)
    keeper = asyncio.run(_stop_while_starting(server))
    assert server.calls == ["start", "stop"]
    assert keeper.state is State.STOPPED
