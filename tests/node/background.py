"""The node that is left running: started, found again, ended. `make cluster` puts its images and charts on it.

One process serves it and holds a lock on the state folder; all that it started ends with it, even by kill -9. What a
killed one leaves, its cgroups and its folder, goes with the next `up` or `down`.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from controlplane.daemon import Daemon, quiet
from marketfeed.local.components import cache_dir, exclusively
from node import needs, programs
from node.errors import NodeFailed
from node.node import Node, clean

STATE_VARIABLE = "MARKETFEED_CLUSTER"

_START_TIMEOUT_S = 360.0
_STOP_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Up:
    """A node that runs: the process that serves it, its folder, where it answers, and how to reach it."""

    pid: int
    directory: str
    url: str
    kubeconfig: str
    kubectl: str
    helm: str

    @property
    def node(self) -> Node:
        """The node itself, to be used from this process; it is started and ended by the one that serves it."""
        return Node(Path(self.directory))


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the node in the background: $MARKETFEED_CLUSTER, else one in the cache."""
    given = (os.environ if environ is None else environ).get(STATE_VARIABLE)
    return Path(given).absolute() if given else cache_dir(environ) / "cluster"


def find(state: Path) -> Up | None:
    """Return the node that runs and is ready; None when there is none."""
    content = _daemon(state).description()
    return None if content is None else Up(**content)


def up(state: Path, say: Callable[[str], None] = quiet) -> Up:
    """Start the node in the background, unless it runs, and return it when it is ready; `say` is called for each step.

    Installs and builds what is missing first, in the foreground. Raises NodeFailed, or NotUp with the end of the log.
    """
    refusal = needs.missing()
    if refusal:
        raise NodeFailed(refusal)
    with exclusively(state.with_name(f".{state.name}.lock")):
        found = find(state)
        if found:
            return found
        provide()
        return Up(**_daemon(state).start(say))


def provide() -> None:
    """Install and build what a node and its users need, as far as it is missing; raises MarketfeedError."""
    needs.install()
    programs.kubectl()
    programs.helm()
    programs.images()


def down(state: Path) -> bool:
    """End the node and remove what it held; tell whether one ran. Raises NotUp or NodeFailed when it does not end."""
    ran = _daemon(state).end()
    if state.is_dir():
        clean(state / "node")
        shutil.rmtree(state)
    return ran


def serve(state: Path) -> None:
    """Run the node until SIGTERM or Ctrl-C, or until one of its servers ends."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with _daemon(state).hold() as ready, Node(state / "node", say=_write) as node:
        ready(asdict(_description(node)))
        while node.is_whole and not ended.wait(_LOOK_EVERY_S):
            pass
        if not ended.is_set():
            raise NodeFailed(f"The node ended by itself; it said:\n{node.last_words()}")


def _description(node: Node) -> Up:
    return Up(
        pid=os.getpid(),
        directory=str(node.directory),
        url=node.url,
        kubeconfig=str(node.kubeconfig),
        kubectl=str(programs.kubectl()),
        helm=str(programs.helm()),
    )


def _write(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what `up` passes on


def _daemon(state: Path) -> Daemon:
    return Daemon(
        title="node",
        state=state,
        module="node",
        variable=STATE_VARIABLE,
        start_timeout_s=_START_TIMEOUT_S,
        stop_timeout_s=_STOP_TIMEOUT_S,
    )
