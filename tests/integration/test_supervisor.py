"""Keeping services running, with tiny processes in their place."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from marketfeed.errors import ConfigurationError, MarketfeedError
from marketfeed.local.child import Command, Entry
from marketfeed.local.supervisor import Service, State

LISTEN = (
    "import json, sys, time; print(json.dumps({'action': 'listening', 'url': 'http://x'}), file=sys.stderr, flush=True)"
)
STAY = f"import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); {LISTEN}; signal.pause()"
DEADLINE_S = 20.0


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.error: MarketfeedError | None = None

    def listening(self, name: str, entry: Entry) -> None:
        self.said.append(f"{name} listens at {entry['url']}")

    def trouble(self, name: str, text: str) -> None:
        self.said.append(f"{name}: {text}")

    def gave_up(self, name: str, error: MarketfeedError) -> None:
        self.said.append(f"{name} was given up")
        self.error = error


def _service(program: str, folder: Path, observer: Recorder, *, restart: bool = True) -> Service:
    command = Command(argv=(sys.executable, "-S", "-c", f"import sys; {program}"))
    return Service("service", lambda: command, folder, observer, restart=restart)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - a process's state has no event to wait for
            await asyncio.sleep(0.01)


def test_a_killed_service_is_started_again(tmp_path: Path) -> None:
    """After kill -9 the same service listens again with another process, and its death was told."""

    async def scenario() -> None:
        observer = Recorder()
        service = _service(STAY, tmp_path, observer)
        service.start()
        await _until(lambda: service.state is State.RUNNING)
        first = service.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await _until(lambda: service.state is State.RUNNING and service.pid != first)
        assert service.restarts == 1
        assert any("killed by SIGKILL" in text for text in observer.said)
        assert await service.stop(DEADLINE_S)

    asyncio.run(scenario())


def test_bad_configuration_is_not_tried_again(tmp_path: Path) -> None:
    """Exit code 2 gives the service up with the sentence that it printed."""

    async def scenario() -> None:
        observer = Recorder()
        service = _service("print('marketfeed: X is not set', file=sys.stderr); sys.exit(2)", tmp_path, observer)
        service.start()
        await _until(lambda: observer.error)
        assert isinstance(observer.error, ConfigurationError)
        assert str(observer.error) == "service: X is not set"
        assert service.restarts == 0
        assert not await service.stop(DEADLINE_S)

    asyncio.run(scenario())


def test_what_must_not_restart_is_given_up(tmp_path: Path) -> None:
    """A service that cannot be taken up again in its middle is given up at its first death."""

    async def scenario() -> None:
        observer = Recorder()
        service = _service("sys.exit(1)", tmp_path, observer, restart=False)
        service.start()
        await _until(lambda: observer.error)
        assert service.restarts == 0
        await service.stop(DEADLINE_S)

    asyncio.run(scenario())


def test_a_deaf_service_is_killed_after_its_grace(tmp_path: Path) -> None:
    """A process that ignores SIGTERM does not hold up the end, and its stop does not count as clean."""

    async def scenario() -> None:
        deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {LISTEN}; time.sleep(600)"
        service = _service(deaf, tmp_path, Recorder())
        service.start()
        await _until(lambda: service.state is State.RUNNING)
        assert not await service.stop(0.1)
        assert service.pid is None

    asyncio.run(scenario())


def test_the_whole_log_is_kept_and_warnings_are_told(tmp_path: Path) -> None:
    """Every line reaches the log file; warnings and errors reach the person."""

    async def scenario() -> None:
        observer = Recorder()
        warn = 'print(\'{\\"level\\": \\"warning\\", \\"action\\": \\"slow\\"}\', file=sys.stderr, flush=True)'
        service = _service(STAY.replace("signal.pause()", f"{warn}; signal.pause()"), tmp_path, observer)
        service.start()
        await _until(lambda: "service: slow" in observer.said)
        await service.stop(DEADLINE_S)
        assert '"slow"' in service.log_path.read_text()
        assert '"listening"' in service.log_path.read_text()

    asyncio.run(scenario())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_costs_the_log_alone(tmp_path: Path) -> None:
    """When the log cannot be written, the service is still watched: what it says is heard, its death is noticed."""

    async def scenario() -> None:
        observer = Recorder()
        (tmp_path / "service.log").symlink_to("/dev/full")
        service = _service(STAY, tmp_path, observer)
        service.start()
        await _until(lambda: service.state is State.RUNNING)
        assert service.pid is not None
        os.kill(service.pid, signal.SIGKILL)
        await _until(lambda: service.restarts == 1 and service.state is State.RUNNING)
        assert await service.stop(DEADLINE_S)

    asyncio.run(scenario())
