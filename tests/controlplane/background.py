"""The control plane that `make control-plane` leaves running: started, found again, ended.

One process serves it in a session of its own and holds a lock on the state folder as long as it lives; all that it
started ends with it, even by kill -9. Beside it run the operator, under its own account's permissions, and stand-ins
for what is not here: nodes, Strimzi's and Spark's operators. The examples' secrets are there, with nothing behind them.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from controlplane import binaries, crds
from controlplane.daemon import Daemon, NotUp
from controlplane.install import grant, install, own
from controlplane.plane import ControlPlane
from controlplane.servers import get
from marketfeed.local.components import cache_dir, exclusively
from marketfeed.local.ports import free_port
from marketfeed.local.process import TiedProcess, plain_environment

STATE_VARIABLE = "MARKETFEED_CONTROL_PLANE"

_START_TIMEOUT_S = 180.0
_OPERATOR_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_LOOK_EVERY_S = 0.1
_LOG_LINES = 20
_SERVE_LOOK_S = 1.0
_START_AGAIN_S = 10.0  # after the last start
_TOKEN_VALID = "8760h"  # longer than anybody leaves it running
_TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Companion:
    """A Python module that runs beside the control plane where it is installed, with KUBECONFIG set.

    account: the service account of the namespace `marketfeed` whose permissions it has; None is the administrator's.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    account: str | None = None

    @property
    def is_there(self) -> bool:
        """Whether the module can be run."""
        try:
            return find_spec(f"{self.module}.__main__") is not None
        except ModuleNotFoundError:
            return False


# Where the operator keeps its Lease, and where its default Kafka cluster lives: there before anything is installed.
NAMESPACE = "marketfeed"
NAMESPACES = (NAMESPACE, "kafka")

# What acts for the parts of a cluster that are not here: nodes, Strimzi's and Spark's operators. Then the operator.
OPERATOR = Companion("operator", "marketfeed", ("operator",), account="marketfeed-operator")
COMPANIONS = (Companion("stand-ins", "standins"), OPERATOR)

# What the examples name: a feed can only become ready where its secrets are. Nothing is behind them here.
SECRETS: Mapping[str, Mapping[str, str]] = {
    "timescale": {"dsn": "postgresql://user:password@nowhere:5432/marketfeed"},
    "postgres": {"dsn": "postgresql://user:password@nowhere:5432/marketfeed"},
    "kafka-user": {"username": "user", "password": "password"},
    "kafka-cluster-ca-cert": {"ca.crt": "nothing"},
}


@dataclass(frozen=True, slots=True)
class Up:
    """A control plane that runs: the process that serves it, where it answers, and how to reach it."""

    pid: int
    url: str
    kubeconfig: str
    kubectl: str
    companions: tuple[str, ...]
    logs: str  # the folder with a log for each companion
    operator_url: str


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the control plane in the background: $MARKETFEED_CONTROL_PLANE, else one in the cache."""
    given = (os.environ if environ is None else environ).get(STATE_VARIABLE)
    return Path(given).absolute() if given else cache_dir(environ) / "control-plane"


def find(state: Path) -> Up | None:
    """Return the control plane that runs and is ready; None when there is none."""
    content = _daemon(state).description()
    return None if content is None else parse(content)


def parse(content: Mapping[str, Any]) -> Up:
    """Read what `serve` tells when all is ready."""
    return Up(**{**content, "companions": tuple(content["companions"])})


def up(state: Path) -> Up:
    """Start the control plane in the background, unless it runs, and return it when it is ready.

    Builds and fetches what is missing first, in the foreground. Raises NotUp with the end of the log.
    """
    with exclusively(state.with_name(f".{state.name}.lock")):
        found = find(state)
        if found:
            return found
        binaries.provide()
        crds.third_party()
        return parse(_daemon(state).start())


def down(state: Path) -> bool:
    """End the control plane and remove what it held; tell whether one ran. Raises NotUp when it does not end."""
    ran = _daemon(state).end()
    shutil.rmtree(state, ignore_errors=True)
    return ran


def serve(state: Path) -> None:
    """Run the control plane and its companions until SIGTERM or Ctrl-C, or until one of its servers ends."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with _daemon(state).hold() as ready, ControlPlane(state / "servers") as plane, ExitStack() as stack:
        _furnish(plane)
        url = f"http://127.0.0.1:{free_port()}"
        beside = [_Beside(each, plane, state, url) for each in COMPANIONS if each.is_there]
        for each in beside:
            stack.callback(each.stop)
        _await_operator(url, state)
        names = tuple(each.name for each in beside)
        ready(asdict(_description(plane, names, state, url)))
        while plane.is_whole and not ended.wait(_SERVE_LOOK_S):
            for each in beside:
                each.keep()
        if not ended.is_set():
            raise NotUp(f"A server of the control plane ended; the logs are in {plane.directory}")


def _furnish(plane: ControlPlane) -> None:
    """Make what is to be there before a feed: kinds, namespaces, the operator's permissions, secrets."""
    install(plane, [*own(), *crds.third_party()])
    for namespace in NAMESPACES:
        plane.kubectl("create", "namespace", namespace)
    grant(plane, str(OPERATOR.account), NAMESPACE)
    for name, values in SECRETS.items():
        plane.kubectl("create", "secret", "generic", name, *(f"--from-literal={key}={values[key]}" for key in values))


class _Beside:
    """A companion's process, started again when it ends by itself, as a kubelet would."""

    def __init__(self, companion: Companion, plane: ControlPlane, state: Path, http: str) -> None:
        self.name = companion.name
        kubeconfig = plane.kubeconfig
        if companion.account is not None:
            path = state / f"{companion.name}.kubeconfig"
            kubeconfig = plane.service_account_kubeconfig(NAMESPACE, companion.account, path, valid=_TOKEN_VALID)
        self._command = [sys.executable, "-m", companion.module, *companion.arguments]
        self._state = state
        self._environment = plain_environment() | {
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": str(_TESTS),
            "PYTHONUNBUFFERED": "1",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": http.rpartition(":")[2],
        }
        self._process = self._start()

    def keep(self) -> None:
        """Start it again when it has ended, some time after its last start."""
        if not self._process.running() and time.monotonic() - self._started > _START_AGAIN_S:
            self._process = self._start()

    def stop(self) -> None:
        """End it."""
        self._process.stop([signal.SIGTERM], 5.0)

    def _start(self) -> TiedProcess:
        self._started = time.monotonic()
        log = self._state / f"{self.name}.log"
        return TiedProcess(self._command, log=log, directory=self._state, environment=self._environment)


def _await_operator(url: str, state: Path) -> None:
    """Wait until the operator has seen the cluster; raises NotUp with the end of its log when it does not."""
    deadline = time.monotonic() + _OPERATOR_TIMEOUT_S
    while get(f"{url}/readyz") is None:
        if time.monotonic() > deadline:
            last = (state / f"{OPERATOR.name}.log").read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise NotUp("The operator does not become ready; it said:\n" + "\n".join(last))
        time.sleep(_LOOK_EVERY_S)


def _description(plane: ControlPlane, companions: tuple[str, ...], state: Path, operator_url: str) -> Up:
    return Up(
        pid=os.getpid(),
        url=plane.url,
        kubeconfig=str(plane.kubeconfig),
        kubectl=str(plane.programs.kubectl),
        companions=companions,
        logs=str(state),
        operator_url=operator_url,
    )


def _daemon(state: Path) -> Daemon:
    return Daemon(
        title="control plane",
        state=state,
        module="controlplane",
        variable=STATE_VARIABLE,
        start_timeout_s=_START_TIMEOUT_S,
        stop_timeout_s=_STOP_TIMEOUT_S,
    )
