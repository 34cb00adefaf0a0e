"""What runs inside the node's namespaces: `python -m node.inside DIRECTORY DOOR`, started by `unshare`.

Process 1 of the namespaces collects orphans, and ends as soon as its standard input does: with it everything inside
ends. Its child makes the machine that the servers find: an address, and a /run, /var/lib and /var/log of its own. It
starts them, writes a line for each step to standard output and `READY` when all answer.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import debian
from controlplane import kubeconfig
from controlplane.plane import ControlPlane, Setting
from controlplane.servers import Server
from marketfeed.errors import MarketfeedError
from marketfeed.local.files import write_atomically
from node import certificates, cgroups, door, needs, policies, programs
from node.errors import NodeFailed
from node.servers import (
    ADDRESS,
    API_PORT,
    FILES,
    NAME,
    PODS,
    READY,
    RUN,
    SERVICES,
    Containerd,
    Kubelet,
    KubeProxy,
    Scheduler,
)
from node.servers import import_image as load

# Who asks the API server from here, by the names that Kubernetes' own roles are bound to.
ACCOUNTS: Mapping[str, tuple[str, str]] = {
    "kubelet": (f"system:node:{NAME}", "system:nodes"),
    "kube-proxy": ("system:kube-proxy", "system:authenticated"),
    "kube-scheduler": ("system:kube-scheduler", "system:authenticated"),
    "kube-router": (policies.USER, "system:authenticated"),
}

# The kubelet insists on these, which belong to the whole machine. It is shown the values that it wants to see.
_SHOWN = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
# Of this network namespace. A redirect would tell a pod that calls its own Service to send to itself.
_OWN = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
}
_LOOK_EVERY_S = 1.0
_REGISTERED_S = 60.0
_ASK_EVERY_S = 0.2


def main(arguments: list[str]) -> int:
    """Be process 1: run the node in a child, collect whatever ends here, and end when the starting process does."""
    directory, descriptor = Path(arguments[0]), int(arguments[1])
    child = os.fork()
    if child == 0:
        os._exit(_run(directory, descriptor))
    os.close(descriptor)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status)


def _end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


def _run(directory: Path, descriptor: int) -> int:
    try:
        _machine(directory)
        _serve(directory, socket.socket(fileno=descriptor))
    except MarketfeedError as error:
        sys.stderr.write(f"{error}\n")
    except BaseException:  # noqa: BLE001 - the child never returns into process 1's code
        sys.excepthook(*sys.exc_info())
    sys.stderr.flush()
    return 1


def _machine(directory: Path) -> None:
    """Make this namespace the machine that a node is: mounts, files, an address."""
    os.environ["PATH"] = debian.PATH
    _mount("--make-rshared", "/")
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for name in ("lib", "log"):
        (directory / "var" / name).mkdir(parents=True, exist_ok=True)
        _mount("--bind", directory / "var" / name, f"/var/{name}")
    for folder in (RUN, Path("/run/cni/bin"), Path("/run/cni/net.d"), Path("/run/lock")):
        folder.mkdir(parents=True)
    _mount("--bind", needs.cni_folder(), "/run/cni/bin")
    (RUN / "resolv.conf").write_bytes((FILES / "resolv.conf").read_bytes())
    Path("/run/cni/net.d/10-pods.conflist").write_bytes((FILES / "10-pods.conflist").read_bytes())
    for name, value in _SHOWN.items():
        _show(Path("/proc/sys") / name, value)
    for command in ("link set lo up", f"address add {ADDRESS}/32 dev lo"):
        _call("ip", *command.split())
    for name, value in _OWN.items():
        (Path("/proc/sys/net") / name).write_text(value)
    socket.sethostname(NAME)


def _show(file: Path, value: str) -> None:
    """Put a plain file over one of the kernel's, in this mount namespace alone."""
    if file.exists():
        shown = RUN / file.name
        shown.write_text(f"{value}\n")
        _mount("--bind", shown, file)


def _serve(directory: Path, outer: socket.socket) -> None:
    """Start everything, say so, and return when a server has ended."""
    tokens = {name: secrets.token_urlsafe(24) for name in ACCOUNTS}
    plane = ControlPlane(directory / "servers", setting=_setting(directory, tokens))
    certificates.make(plane.apiserver.certificates)
    own = programs.node()
    folder = plane.directory
    containerd = Containerd(folder / "containerd", Path("containerd"))
    agents: list[Server] = [
        Scheduler(folder / "kube-scheduler", own.scheduler),
        Kubelet(folder / "kubelet", own.kubelet, cgroups.name(directory)),
        KubeProxy(folder / "kube-proxy", own.proxy),
    ]
    enforcer = policies.Policies(folder / "kube-router", own.router, RUN / "kube-router.kubeconfig", NAME, SERVICES)
    # None is ever stopped: all end with process 1.
    loading = _Loading(containerd, programs.images())
    say = _Steps()
    plane.start()
    say("API server and controller manager")
    for name, token in tokens.items():
        _write_access(plane, name, token)
    (RUN / "ca.crt").write_bytes(plane.ca_file.read_bytes())
    door.open_door(outer, ("127.0.0.1", API_PORT))
    loading.join()
    say("containerd, with the images of its own")
    for agent in agents:
        agent.start()
    say("scheduler, kubelet and kube-proxy")
    plane.kubectl("apply", "--server-side", f"--filename={policies.ACCESS}")
    _await_node(plane)
    enforcer.start()
    say("network policies")
    print(READY, flush=True)  # noqa: T201 - the starting process waits for it
    servers = [plane.etcd, plane.apiserver, plane.controller_manager, containerd, *agents, enforcer]
    while not (ended := [each.name for each in servers if not each.running()]):
        time.sleep(_LOOK_EVERY_S)
    raise NodeFailed(f"{' and '.join(ended)} ended, and the node with it; the logs are in {folder}")


def _await_node(plane: ControlPlane) -> None:
    """Wait until the kubelet has registered the node; raises NodeFailed when it does not."""
    deadline = time.monotonic() + _REGISTERED_S
    while plane.kubectl("get", "node", NAME, check=False).returncode:
        if time.monotonic() > deadline:
            raise NodeFailed(f"The kubelet registered no node in {_REGISTERED_S:g} s; see {plane.directory}/kubelet")
        time.sleep(_ASK_EVERY_S)


def _setting(directory: Path, tokens: Mapping[str, str]) -> Setting:
    """Return what the control plane of a node has beyond one that stands alone."""
    folder = directory / "servers" / "apiserver" / "certificates"
    client = certificates.Pair.named(folder, "kubelet-client")
    return Setting(
        port=API_PORT,
        tokens={token: ACCOUNTS[name] for name, token in tokens.items()},
        apiserver={
            "bind-address": "0.0.0.0",  # in a network namespace with no way in but the door
            "advertise-address": ADDRESS,
            "endpoint-reconciler-type": None,
            "service-cluster-ip-range": SERVICES,
            "kubelet-preferred-address-types": "InternalIP",
            "kubelet-client-certificate": client.certificate,
            "kubelet-client-key": client.key,
            "service-account-key-file": folder / certificates.ACCOUNTS_CERTIFICATE,
            "enable-admission-plugins": "NodeRestriction",
        },
        controller_manager={
            "controllers": None,
            "allocate-node-cidrs": "true",
            "cluster-cidr": PODS,
            "node-cidr-mask-size": PODS.partition("/")[2],
            "service-cluster-ip-range": SERVICES,
        },
    )


def _write_access(plane: ControlPlane, name: str, token: str) -> None:
    text = kubeconfig.render(plane.url, plane.ca_file.read_text(), token)
    write_atomically(RUN / f"{name}.kubeconfig", text)


class _Loading:
    """containerd starts and takes the node's own images while the control plane starts."""

    def __init__(self, containerd: Containerd, archives: list[Path]) -> None:
        self._containerd = containerd
        self._archives = archives
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._load, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until it has them; raises what went wrong."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _load(self) -> None:
        try:
            self._containerd.start()
            for archive in self._archives:
                load(archive)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error


class _Steps:
    """Says what has been done, with the seconds that it took."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, what: str) -> None:
        now = time.monotonic()
        print(f"{what}: {now - self._last:.1f} s", flush=True)  # noqa: T201 - the starting process reads it
        self._last = now


def _mount(*arguments: str | Path) -> None:
    _call("mount", *arguments)


def _call(*command: str | Path) -> None:
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if answer.returncode:
        raise NodeFailed(f"`{' '.join(map(str, command))}` failed: {answer.stderr.strip()}")


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # past the thread that reads
