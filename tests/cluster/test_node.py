"""The node is a real one: probes, names, services, storage and access from outside; and it ends without a trace."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import debian
from helpers import gone, wait_until
from node import Node, NodeFailed, archive, background, cgroups, missing, needs

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

WAIT_S = 90.0
IMAGE = "localhost/marketfeed/toolbox:1"
APPLETS = ("sh", "httpd", "wget", "nslookup", "nc", "cat", "sleep", "timeout", "touch", "rm", "echo", "id", "kill")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def _toolbox(archive_path: Path) -> Path:
    links = {f"bin/{applet}": "busybox" for applet in APPLETS}
    archive.write(archive_path, IMAGE, {"bin/busybox": needs.busybox()}, ["/bin/sh", "-c"], links)
    return archive_path


@pytest.fixture(scope="module")
def own_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Return a node of this file's own, with an image of small tools."""
    folder = tmp_path_factory.mktemp("node")
    with Node(folder / "node") as node:
        node.load(_toolbox(folder / "toolbox.tar"))
        yield node


@pytest.fixture
def space(own_node: Node) -> Iterator[str]:
    """Return a namespace of the test's own that admits only restricted pods; it goes after the test."""
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    _apply(own_node, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    own_node.kubectl("delete", "namespace", name, "--wait=false")


def _apply(node: Node, *objects: dict[str, Any], namespace: str = "default") -> None:
    node.kubectl("apply", f"--namespace={namespace}", "--filename=-", input=yaml.safe_dump_all(objects))


def _pod(name: str, script: str, **container: Any) -> dict[str, Any]:
    volumes = container.pop("volumes", [])
    content = {"name": "main", "image": IMAGE, "args": [script], "securityContext": RESTRICTED, **container}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [content], "volumes": volumes, "terminationGracePeriodSeconds": 1},
    }


def _web(name: str, said: str) -> dict[str, Any]:
    """Return a pod that serves one file on port 8080, once /tmp/open is there it says so to its readiness probe."""
    script = f"cd /tmp && echo {said} > index.html && echo started && exec httpd -f -p 8080 -h /tmp"
    ready = {"exec": {"command": ["cat", "/tmp/open"]}, "periodSeconds": 1}  # noqa: S108 - the container's own
    return _pod(name, script, readinessProbe=ready, ports=[{"containerPort": 8080}])


def _service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def _await(node: Node, namespace: str, pod: str, condition: str = "condition=Ready") -> None:
    node.kubectl("wait", f"pod/{pod}", f"--namespace={namespace}", f"--for={condition}", f"--timeout={WAIT_S:g}s")


def _exec(node: Node, namespace: str, pod: str, *command: str) -> str:
    return node.kubectl("exec", pod, f"--namespace={namespace}", "--", *command).stdout


def test_a_pod_is_ready_when_its_probe_says_so_and_is_then_reached_by_name(own_node: Node, space: str) -> None:
    """A failing readiness probe keeps a pod out of its Service; a passing one lets another pod reach it by name."""
    _apply(own_node, _web("web", "hello"), _service("web"), _pod("client", "exec sleep 600"), namespace=space)
    _await(own_node, space, "client")
    _await(own_node, space, "web", "jsonpath={.status.containerStatuses[0].started}=true")
    assert _addresses(own_node, space, "web") == []
    _exec(own_node, space, "web", "touch", "/tmp/open")  # noqa: S108 - the container's own
    _await(own_node, space, "web")
    wait_until(lambda: _addresses(own_node, space, "web"), WAIT_S, "the pod to be the Service's")
    assert f"web.{space}.svc.cluster.local" in _exec(
        own_node, space, "client", "nslookup", f"web.{space}.svc.cluster.local"
    )

    def fetch(url: str) -> str:
        command = ("exec", "client", f"--namespace={space}", "--", "wget", "-q", "-O-", url)
        return own_node.kubectl(*command, check=False).stdout

    wait_until(lambda: fetch("http://web/") == "hello\n", WAIT_S, "the Service's answer", every_s=0.2)
    assert fetch(f"http://web.{space}:80/") == "hello\n"
    assert (
        "bad address"
        in own_node.kubectl(
            "exec",
            "client",
            f"--namespace={space}",
            "--",
            "wget",
            "-q",
            "-O-",
            "http://elsewhere.example/",
            check=False,
        ).stderr
    )


def _addresses(node: Node, namespace: str, service: str) -> list[str]:
    command = ("get", "endpointslices", f"--namespace={namespace}", f"-lkubernetes.io/service-name={service}", "-ojson")
    slices = json.loads(node.kubectl(*command).stdout)["items"]
    ends = [end for each in slices for end in each["endpoints"] or [] if end["conditions"]["ready"]]
    return [end["addresses"][0] for end in ends]


def test_a_pod_reaches_its_own_service_and_the_api_server(own_node: Node, space: str) -> None:
    """Traffic that comes back to where it started is let through; the API server is found and listens."""
    _apply(own_node, _web("web", "hello"), _service("web"), namespace=space)
    _await(own_node, space, "web", "jsonpath={.status.containerStatuses[0].started}=true")
    _exec(own_node, space, "web", "touch", "/tmp/open")  # noqa: S108 - the container's own
    _await(own_node, space, "web")
    own = ("wget", "-q", "-O-", f"http://web.{space}/")  # `web` alone is the pod's own host name
    command = ("exec", "web", f"--namespace={space}", "--", *own)
    wait_until(lambda: own_node.kubectl(*command, check=False).stdout == "hello\n", WAIT_S, "its own answer")
    assert "10.96.0.1\n" in _exec(own_node, space, "web", "nslookup", "kubernetes.default.svc.cluster.local")
    _exec(own_node, space, "web", "nc", "-w", "5", "10.96.0.1", "443")


def test_logs_exec_and_port_forward_work_from_the_host(own_node: Node, space: str) -> None:
    """What people do with kubectl passes the door: streams too."""
    _apply(own_node, _web("web", "hello"), namespace=space)
    _await(own_node, space, "web", "jsonpath={.status.containerStatuses[0].started}=true")
    assert own_node.kubectl("logs", "web", f"--namespace={space}").stdout == "started\n"
    assert _exec(own_node, space, "web", "id", "-u") == "65532\n"
    said = own_node.kubectl("exec", "-i", "web", f"--namespace={space}", "--", "cat", input="to and fro").stdout
    assert said == "to and fro"
    command: list[str | Path] = [
        own_node._kubectl,
        f"--kubeconfig={own_node.kubeconfig}",
        "port-forward",
        "pod/web",
        ":8080",
    ]
    with subprocess.Popen([*command, f"--namespace={space}"], stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            port = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert port is not None
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            assert opener.open(f"http://127.0.0.1:{port[1]}/", timeout=10).read() == b"hello\n"
        finally:
            forward.kill()


def test_a_container_that_stops_answering_its_liveness_probe_is_started_again(own_node: Node, space: str) -> None:
    """Halted from outside by its number on the host, a process is killed by its kubelet and comes back."""
    live = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 1}
    web = _web("web", "hello")
    web["spec"]["containers"][0]["livenessProbe"] = live
    _apply(own_node, web, namespace=space)
    _await(own_node, space, "web", "jsonpath={.status.containerStatuses[0].started}=true")
    pid = own_node.container_pid(space, "web", "main")
    assert "httpd" in psutil.Process(pid).cmdline()
    os.kill(pid, signal.SIGSTOP)
    _await(own_node, space, "web", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    assert gone(pid)
    with pytest.raises(NodeFailed, match="No container other runs"):
        own_node.container_pid(space, "web", "other")


def test_a_claim_gets_a_volume_that_any_user_may_write_to(own_node: Node, space: str) -> None:
    """The default class binds a claim when a pod uses it; what one pod wrote another reads."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    mounted = {
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    _apply(own_node, claim, _pod("writer", "echo kept > /data/file; exec sleep 600", **mounted), namespace=space)
    _await(own_node, space, "writer")
    own_node.kubectl("delete", "pod", "writer", f"--namespace={space}")
    _apply(own_node, _pod("reader", "cat /data/file; exec sleep 600", **_copy(mounted)), namespace=space)
    _await(own_node, space, "reader")
    wait_until(
        lambda: own_node.kubectl("logs", "reader", f"--namespace={space}").stdout == "kept\n", WAIT_S, "the file's text"
    )


def _copy(value: dict[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(value))
    return copied


def test_a_pod_that_asks_for_too_much_is_refused_where_a_namespace_is_restricted(own_node: Node, space: str) -> None:
    """Pod security is checked by the API server, as in a real cluster."""
    pod = _pod("root", "exec sleep 600", securityContext={"privileged": True})
    answer = own_node.kubectl("apply", f"--namespace={space}", "--filename=-", input=yaml.safe_dump(pod), check=False)
    assert answer.returncode
    assert "violates PodSecurity" in answer.stderr


def test_a_network_policy_holds(own_node: Node, space: str) -> None:
    """What no policy allows is refused, in and out; the usual rule for names, port 53 of any pod, lets them through."""
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "web"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": 8080}]}],
            "egress": [{"ports": [{"protocol": "UDP", "port": 53}], "to": [{"namespaceSelector": {}}]}],
        },
    }
    _apply(own_node, policy, _service("web"), _web("web", "hello"), namespace=space)
    _apply(own_node, *(_pod(name, "exec sleep 600") for name in ("friend", "stranger")), namespace=space)
    for name in ("friend", "stranger"):
        _await(own_node, space, name)
    _await(own_node, space, "web", "jsonpath={.status.containerStatuses[0].started}=true")
    _exec(own_node, space, "web", "touch", "/tmp/open")  # noqa: S108 - the container's own
    _await(own_node, space, "web")

    def answers(pod: str, url: str) -> bool:
        command = ("exec", pod, f"--namespace={space}", "--", "timeout", "5", "wget", "-q", "-O-", url)
        return own_node.kubectl(*command, check=False).returncode == 0

    url = f"http://web.{space}/"
    # First that names and the Service work at all: a stranger without an answer proves nothing before.
    wait_until(lambda: answers("friend", url), WAIT_S, "the friend to be let in", every_s=0.2)
    wait_until(lambda: not answers("stranger", url), WAIT_S, "the stranger to be refused", every_s=0.2)
    assert answers("friend", url)
    api_server = ("nc", "-w", "5", "10.96.0.1", "443")
    _exec(own_node, space, "stranger", *api_server)
    out = own_node.kubectl("exec", "web", f"--namespace={space}", "--", *api_server, check=False)
    assert out.returncode
    found = "kubernetes.default.svc.cluster.local"
    assert "10.96.0.1\n" in _exec(own_node, space, "web", "nslookup", found)


def test_what_was_asked_of_the_api_server_is_in_the_audit_log(own_node: Node) -> None:
    """Who wrote what can be told afterwards: the kubelet registers its node and renews its lease as itself."""
    writes = own_node.writes("system:node:marketfeed-node")
    assert {"nodes", "leases"} <= {request.resource for request in writes}


# Where programs of a node keep things by default, and what the kernel of the whole machine is told by a kubelet.
USUAL_PLACES = (
    "/etc/cni/net.d",
    "/opt/cni",
    "/opt/containerd",
    "/run/cni",
    "/run/containerd",
    "/run/marketfeed",
    "/run/netns",
    "/run/xtables.lock",
    "/usr/libexec/kubernetes/kubelet-plugins/volume/exec",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
SETTINGS = (
    *("kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
    *("vm/overcommit_memory", "vm/panic_on_oom", "net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max"),
    "kernel/hostname",
)


def _traces(directory: Path) -> dict[str, object]:
    """Return what a node in `directory` could leave on this machine, outside of that folder."""
    name = cgroups.name(directory)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "processes": [
            each.pid for each in psutil.process_iter() if each.status() != "zombie" and _mentions(each, str(directory))
        ],
        "mounts": [line for line in mounts if any(each in line for each in (str(directory), *USUAL_PLACES))],
        "addresses": _output("ip", "-oneline", "address", "show", "to", "10.77.0.0/16"),
        "routes": _output("ip", "route", "show", "root", "10.88.0.0/16"),
        "rules": [line for line in _output("iptables-save").splitlines() if "KUBE" in line or "CNI" in line],
        "cgroups": [str(top / name) for top in cgroups.hierarchies() if (top / name).exists()],
        "files": [each for each in USUAL_PLACES if Path(each).exists()],
        "settings": [(each, path.read_text()) for each in SETTINGS if (path := Path("/proc/sys", each)).exists()],
    }


def _mentions(process: psutil.Process, text: str) -> bool:
    try:
        return any(text in each for each in process.cmdline())
    except psutil.Error:
        return False


def _output(*command: str) -> str:
    found = [debian.on_path(command[0]), *command[1:]]
    return subprocess.run(found, capture_output=True, text=True, check=True).stdout


def _inside(init: int) -> list[int]:
    """Return every process of a node by its first one, containers' too, by the host's numbers."""
    return [init, *(each.pid for each in psutil.Process(init).children(recursive=True))]


def _python_node(command: str, state: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, background.STATE_VARIABLE: str(state), "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-m", "node", command], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Return a folder for a node in the background, which is ended after the test."""
    yield tmp_path / "state"
    background.down(tmp_path / "state")


def test_a_node_in_the_background_is_found_again_and_leaves_no_trace(state: Path, tmp_path: Path) -> None:
    """What is printed works from the host; twice is as good as once; after `down` the machine is as it was before."""
    before = _traces(state)
    first = _python_node("up", state)
    assert first.returncode == 0, first.stderr
    for step in ("API server", "containerd", "kubelet", "CoreDNS"):
        assert re.search(rf"{step}.*: \d+\.\d s", first.stdout), first.stdout
    kubeconfig = re.search(r"export KUBECONFIG=(\S+)", first.stdout)
    running = background.find(state)
    assert kubeconfig is not None
    assert running is not None
    assert kubeconfig[1] == running.kubeconfig
    assert "up already" in _python_node("up", state).stdout
    assert "coredns" in _python_node("status", state).stdout

    node = running.node
    node.load(_toolbox(tmp_path / "toolbox.tar"))
    _apply(node, _pod("sleeper", "exec sleep 600"))
    _await(node, "default", "sleeper")
    account = node.service_account_kubeconfig("default", "default", tmp_path / "account.kubeconfig")
    assert "forbidden" in node.kubectl("get", "pods", kubeconfig=account, check=False).stderr
    assert "deployed" not in node.helm("list", "--all-namespaces").stdout
    processes = [running.pid, *_inside(node.init_pid)]
    assert node.container_pid("default", "sleeper", "main") in processes
    during = _traces(state)
    assert (during["cgroups"], during["processes"]) != (before["cgroups"], before["processes"])
    assert {key: during[key] for key in ("mounts", "addresses", "routes", "rules", "settings", "files")} == {
        key: before[key] for key in ("mounts", "addresses", "routes", "rules", "settings", "files")
    }

    assert "The node is down." in _python_node("down", state).stdout
    assert all(gone(pid) for pid in processes)
    assert _traces(state) == before
    assert not state.exists()
    assert "No node was up." in _python_node("down", state).stdout
    assert _python_node("status", state).returncode == 1


def test_a_killed_node_leaves_no_process_and_the_next_command_cleans_the_rest(state: Path) -> None:
    """After kill -9 of the process that serves, everything that ran on the node ends; `down` removes what is left."""
    before = _traces(state)
    running = background.up(state)
    processes = _inside(running.node.init_pid)
    assert len(processes) > 10
    os.kill(running.pid, signal.SIGKILL)
    wait_until(lambda: all(gone(pid) for pid in processes), WAIT_S, "every process of the node to end")
    assert background.find(state) is None
    assert not running.node.is_whole
    assert background.down(state) is False
    assert _traces(state) == before
    assert not state.exists()


def test_a_node_whose_server_ends_is_down_as_a_whole(tmp_path: Path) -> None:
    """Half a node is none: when the kubelet ends, everything does, and what is asked of it says so."""
    with Node(tmp_path / "node") as node:
        (kubelet,) = (each for each in _inside(node.init_pid) if _name(each) == "kubelet")
        os.kill(kubelet, signal.SIGKILL)
        wait_until(lambda: not node.is_whole, WAIT_S, "the node to end")
        assert "kubelet ended, and the node with it" in node.last_words()
        with pytest.raises(NodeFailed, match="No node runs in"):
            node.load(_toolbox(tmp_path / "toolbox.tar"))


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return ""
