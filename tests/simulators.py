"""The simulated venue as a process for tests, and what an independent client needs to talk to it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from websockets.asyncio.client import ClientConnection

from helpers import wait_until

DEADLINE_S = 20.0


class Simulator:
    """A running `marketfeed simulate`, its addresses and its truth."""

    def __init__(self, process: subprocess.Popen[str], log: Path, truth: Path) -> None:
        self.process, self.truth, self._log = process, truth, log
        listening = wait_until(lambda: self.logged("listening"), DEADLINE_S, "the simulator to listen") or {}
        self.websocket: str = listening["websocket"]
        self.rest: str = listening["rest"]

    def logged(self, action: str) -> dict[str, Any] | None:
        """Return the log record of an action, once there is one."""
        lines = self._log.read_text().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return next((entry for entry in entries if entry["action"] == action), None)

    def get(self, path: str, body: str | None = None) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and JSON body of a GET (of a POST where there is a body)."""
        request = Request(self.rest + path, None if body is None else body.encode())  # noqa: S310 - our own loopback
        try:
            with urlopen(request, timeout=DEADLINE_S) as response:  # noqa: S310
                return response.status, dict(response.headers), json.loads(response.read())
        except HTTPError as error:
            with error:
                return error.code, dict(error.headers), json.loads(error.read())

    def state(self) -> dict[str, Any]:
        """Return `/simulator/state`."""
        found: dict[str, Any] = self.get("/simulator/state")[2]
        return found

    def lines(self, stream: str) -> list[bytes]:
        """Return the truth of a stream, whole lines only."""
        return (self.truth / f"{stream}.jsonl").read_bytes().split(b"\n")[:-1]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


Start = Callable[..., AbstractContextManager[Simulator]]


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Simulator]:
    """Run a simulator with these options, and its truth in `folder/truth`."""
    log = folder / "log"
    arguments = [sys.executable, "-m", "marketfeed", "simulate", "--truth", str(folder / "truth"), *options]
    with log.open("w") as sink, subprocess.Popen(arguments, stderr=sink, text=True) as process:
        try:
            yield Simulator(process, log, folder / "truth")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(DEADLINE_S)


def run(work: Any) -> Any:
    """Run a client to its end, in bounded time."""

    async def bounded() -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await work

    return asyncio.run(bounded())


async def receive(client: ClientConnection, count: int) -> list[bytes]:
    """Return the next messages."""
    return [await client.recv(decode=False) for _ in range(count)]


async def answer(client: ClientConnection, request: dict[str, Any]) -> Any:
    """Send a request and return its answer, passing over data."""
    await client.send(json.dumps(request))
    while True:
        message = json.loads(await client.recv())
        if "result" in message or "error" in message:
            return message
