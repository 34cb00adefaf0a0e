"""A Kubernetes node of one's own, from outside: started, used, ended without a trace.

What runs in its namespaces, and how, is in `inside`; leaving one running is in `background`.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import debian
from controlplane.client import Client, helm_environment
from marketfeed.local.files import write_atomically
from marketfeed.local.ports import free_port
from marketfeed.local.process import plain_environment
from node import cgroups, door, needs, programs
from node.errors import NodeFailed
from node.servers import FILES, NAME, READY, SOCKET

VOLUMES = 12

_TESTS = Path(__file__).parents[1]
_START_TIMEOUT_S = 180.0
_READY_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 30.0
_LOAD_TIMEOUT_S = 600
_HELM_TIMEOUT_S = 600
_LOG_LINES = 20
_NAMESPACES = ("--net", "--mount", "--pid", "--ipc", "--uts")


def quiet(_: str) -> None:
    """Say nothing."""


class Node(Client):
    """One Kubernetes node with its control plane in namespaces of its own; it ends with this process at the latest.

    A context manager, or `start()` and `stop()`. Nothing is taken up again: each start is a new, empty cluster.
    One that another process runs is used by a Node of the same directory, without a start.
    directory: where all of it is kept while it runs; after `stop` only its logs are left. say: called with a line for
    each step of the start.
    """

    def __init__(self, directory: Path, say: Callable[[str], None] = quiet) -> None:
        self.directory = directory.absolute()
        self._servers = self.directory / "servers"
        super().__init__(self.directory / "admin.kubeconfig", programs.kubectl())
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the API server answers from the host: the door."""
        content = json.loads(self.kubeconfig.read_text())
        return str(content["clusters"][0]["cluster"]["server"])

    @property
    def ca_file(self) -> Path:
        """The certificate (PEM) that clients trust."""
        return self._servers / "apiserver" / "certificates" / "ca.crt"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: one JSON event a line, without contents of objects."""
        return self._servers / "apiserver" / "audit.log"

    @property
    def logs(self) -> Path:
        """The folder with the logs of the node's containers: pods/NAMESPACE_NAME_UID/CONTAINER/N.log."""
        return self.directory / "var" / "log"

    @property
    def is_whole(self) -> bool:
        """Whether all its servers run: with one of them all end."""
        return self._init() is not None

    def start(self) -> None:
        """Start it and wait until it is Ready and answers names; raises NodeFailed with the end of a log."""
        refusal = needs.missing() or needs.hidden({"The node's folder": self.directory, "Python": Path(sys.prefix)})
        if refusal:
            raise NodeFailed(refusal)
        needs.install()
        programs.images()
        clean(self.directory)
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            self._enter()
            self._furnish()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and all that runs on it; only logs are left. Does nothing when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None and process.stdout is not None  # noqa: PT018 - both are pipes
            process.stdin.close()  # process 1 of the namespaces ends, and everything inside with it
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            clean(self.directory)

    def helm(
        self, *arguments: str | Path, check: bool = True, timeout_s: float = _HELM_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run Helm as the administrator; raises NodeFailed with what it said unless `check` is False."""
        answer = subprocess.run(
            [programs.helm(), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=helm_environment(self._servers / "helm", self.kubeconfig),
            timeout=timeout_s,
            check=False,
        )
        if check and answer.returncode:
            raise NodeFailed(f"helm {' '.join(map(str, arguments))}: {answer.stderr.strip()}")
        return answer

    def load(self, archive: Path) -> None:
        """Give the node the images of an archive, as `docker save` writes it; raises NodeFailed."""
        with archive.open("rb") as content:
            answer = self.run_inside(
                "ctr", f"--address={SOCKET}", "--namespace=k8s.io", "images", "import", "-", stdin=content.fileno()
            )
        if answer.returncode:
            raise NodeFailed(f"The node refused the image archive {archive}: {answer.stderr.strip()}")

    def container_pid(self, namespace: str, pod: str, container: str) -> int:
        """Return the number that the host knows a running container's first process by; raises NodeFailed."""
        content = json.loads(self.kubectl("get", "pod", pod, f"--namespace={namespace}", "--output=json").stdout)
        for status in content["status"].get("containerStatuses", []):
            if status["name"] == container and "running" in status["state"]:
                return self._first_process(status["containerID"].rpartition("/")[2])
        raise NodeFailed(f"No container {container} runs in the pod {namespace}/{pod}")

    def run_inside(self, *command: str | Path, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine in the node's namespaces, as root; the caller looks at the return code."""
        return subprocess.run(
            [
                debian.on_path("nsenter"),
                f"--target={self.init_pid}",
                "--net",
                "--mount",
                "--pid",
                "--ipc",
                "--uts",
                *command,
            ],
            stdin=stdin,
            capture_output=True,
            text=True,
            env={**plain_environment(), "PATH": debian.PATH},
            timeout=_LOAD_TIMEOUT_S,
            check=False,
        )

    @property
    def init_pid(self) -> int:
        """The number that the host knows process 1 of the node by; raises NodeFailed when it does not run."""
        found = self._init()
        if found is None:
            raise NodeFailed(f"No node runs in {self.directory}")
        return found

    def _init(self) -> int | None:
        try:
            pid = int((self.directory / "pid").read_text())
        except FileNotFoundError:
            return None
        is_first = _status(pid).get("NSpid", "").split()[1:] == ["1"]
        return pid if is_first and str(self.directory) in _told(pid, "cmdline").split("\0") else None

    def last_words(self) -> str:
        """Return what the inside said last: why the node ended by itself."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def _first_process(self, container: str) -> int:
        for pid in cgroups.processes(cgroups.name(self.directory), container):
            inner = _status(pid).get("NSpid", "").split()
            if inner[-1:] == ["1"]:
                return pid
        raise NodeFailed(f"The container {container} has no first process: it has just ended")

    def _enter(self) -> None:
        """Start the servers in namespaces of their own and wait until they answer."""
        started = time.monotonic()
        port = free_port()
        cgroups.create(cgroups.name(self.directory))
        command = [
            debian.on_path("unshare"),
            *_NAMESPACES,
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation=private",
        ]
        with door.listen(port) as listening, self._log.open("wb") as log:
            inside = [sys.executable, "-m", "node.inside", self.directory, listening.fileno()]
            self._process = subprocess.Popen(
                [*command, *map(str, inside)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PATH": debian.PATH, "PYTHONPATH": str(_TESTS)},
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )
        self._await(self._process, started + _START_TIMEOUT_S)
        self._write_access(port)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        (self.directory / "pid").write_text(children.split()[0])

    def _write_access(self, port: int) -> None:
        """Write the administrator's access for the host: the one for the inside, by way of the door."""
        content = json.loads((self._servers / "admin.kubeconfig").read_text())
        content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        write_atomically(self.kubeconfig, json.dumps(content, indent=1))

    def _await(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        """Pass on what the inside says until it says that it is ready."""
        assert process.stdout is not None
        said = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise NodeFailed(
                        f"The node did not start in {_START_TIMEOUT_S:g} s; its logs are in {self._servers}"
                    )
                chunk = os.read(process.stdout.fileno(), 4096)
                if not chunk:
                    raise NodeFailed(f"The node did not start; it said:\n{self.last_words()}")
                *lines, said = (said + chunk).split(b"\n")
                for line in lines:
                    if line.decode() == READY:
                        return
                    self._say(line.decode())

    def _furnish(self) -> None:
        """Give the cluster what every cluster has, and wait until the node takes pods and names are answered."""
        started = time.monotonic()
        self.kubectl("apply", "--server-side", f"--filename={FILES / 'cluster.yaml'}")
        volumes = [self._volume(number) for number in range(VOLUMES)]
        self.kubectl("apply", "--server-side", "--filename=-", input=yaml.safe_dump_all(volumes))
        limit = f"--timeout={_READY_TIMEOUT_S}s"
        self.kubectl("wait", f"node/{NAME}", "--for=condition=Ready", limit, timeout_s=_READY_TIMEOUT_S + 10)
        rollout = ("rollout", "status", "deployment/coredns", "--namespace=kube-system", limit)
        self.kubectl(*rollout, timeout_s=_READY_TIMEOUT_S + 10)
        self._say(f"node and CoreDNS Ready: {time.monotonic() - started:.1f} s")

    def _volume(self, number: int) -> dict[str, Any]:
        """Make a folder that any pod may write to; return the volume that stands for it."""
        folder = self.directory / "volumes" / f"{number:02}"
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"standard-{number:02}"},
            "spec": {
                "storageClassName": "standard",
                "capacity": {"storage": "100Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder), "type": "Directory"},
            },
        }

    @property
    def _log(self) -> Path:
        return self.directory / "node.log"


def clean(directory: Path) -> None:
    """Remove what a node that has ended left, in whichever way: its cgroups, and all of its folder but logs."""
    cgroups.remove(cgroups.name(directory))
    for name in ("pid", "admin.kubeconfig"):
        (directory / name).unlink(missing_ok=True)
    for name in ("var/lib", "volumes", "kubectl-cache", "servers/etcd", "servers/helm"):
        shutil.rmtree(directory / name, ignore_errors=True)


def _status(pid: int) -> dict[str, str]:
    """Return what the kernel tells of a process, by name; nothing when it has ended."""
    lines = _told(pid, "status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _told(pid: int, file: str) -> str:
    """Return one of the kernel's files on a process; nothing when it has ended, be it while it is read."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
