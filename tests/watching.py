"""What an API server tells about objects, event by event: for claims about an order of steps that a look would miss.

What does not live here: who asked for a change (controlplane.audit).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from controlplane import ControlPlane
from helpers import wait_until
from marketfeed.local.process import plain_environment

_START_S = 10.0


class Event(NamedTuple):
    """One event of a watch: ADDED, MODIFIED or DELETED, and the object as it was then."""

    type: str
    object: dict[str, Any]


class Watching:
    """What a watch has told so far."""

    def __init__(self, output: Path) -> None:
        self._output = output

    @property
    def events(self) -> list[Event]:
        """Return the events so far, the oldest first."""
        text, decoder, at = self._output.read_text(), json.JSONDecoder(), 0
        found = []
        while (at := _next(text, at)) < len(text):
            try:
                event, at = decoder.raw_decode(text, at)
            except json.JSONDecodeError:
                break  # it is being written
            found.append(Event(event["type"], event["object"]))
        return found


@contextmanager
def watching(plane: ControlPlane, folder: Path, kind: str, name: str, namespace: str) -> Iterator[Watching]:
    """Watch one object that is there until the block ends."""
    output = folder / f"{kind}-{name}.events"
    command = [str(plane.programs.kubectl), f"--kubeconfig={plane.kubeconfig}", f"--namespace={namespace}"]
    command += [f"--cache-dir={plane.directory / 'kubectl-cache'}", "get", kind, name]
    command += ["--watch", "--output=json", "--output-watch-events"]
    with output.open("wb") as file, subprocess.Popen(command, stdout=file, env=plain_environment()) as process:
        try:
            found = Watching(output)
            wait_until(lambda: found.events, _START_S, f"the watch of {kind} {name}", every_s=0.1)
            yield found
        finally:
            process.kill()


def _next(text: str, at: int) -> int:
    """Return where the next event begins."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at
