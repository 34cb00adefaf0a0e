"""The parts of the node that need none: images from files, cgroups, the door, and what a machine is told it lacks."""

from __future__ import annotations

import json
import socket
import tarfile
import threading
from pathlib import Path
from typing import IO

import pytest
import yaml

import debian
from node import archive, background, cgroups, door, needs, programs, servers
from node.__main__ import usage
from node.errors import NodeFailed

FILES = servers.FILES


def _program(path: Path) -> Path:
    path.write_bytes(b"program")
    return path


def test_an_image_archive_is_the_same_every_time_and_holds_what_it_was_given(tmp_path: Path) -> None:
    """Its layer has the files, executable, and the links; its configuration names the entry point and no root."""
    program = _program(tmp_path / "program")
    for name in ("one.tar", "two.tar"):
        archive.write(tmp_path / name, "localhost/tool:1", {"bin/tool": program}, ["/bin/tool"], {"bin/other": "tool"})
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert not list(tmp_path.glob("*.layer"))
    with tarfile.open(tmp_path / "one.tar") as whole:
        (image,) = json.load(_member(whole, "manifest.json"))
        configuration = json.load(_member(whole, image["Config"]))
        with tarfile.open(fileobj=_member(whole, image["Layers"][0])) as layer:
            assert layer.getmember("bin/tool").mode & 0o111 == 0o111
            assert layer.getmember("bin/other").linkname == "tool"
            assert layer.getmember("tmp").mode == 0o1777
    assert image["RepoTags"] == ["localhost/tool:1"]
    assert configuration["config"]["Entrypoint"] == ["/bin/tool"]
    assert configuration["config"]["User"] == "65532:65532"


def _member(whole: tarfile.TarFile, name: str) -> IO[bytes]:
    found = whole.extractfile(name)
    assert found is not None
    return found


def _hierarchy(root: Path, *controllers: str) -> Path:
    for controller in controllers:
        top = root / controller
        top.mkdir(parents=True)
        (top / "cgroup.procs").touch()
        if controller == "cpuset":
            (top / "cpuset.cpus").write_text("0-1")
            (top / "cpuset.mems").write_text("0")
    return root


def test_a_cgroup_is_made_in_every_hierarchy_of_the_first_version(tmp_path: Path) -> None:
    """In the one for processors it takes over what the machine has: an empty one takes no process."""
    root = _hierarchy(tmp_path, "cpuset", "memory")
    cgroups.create("node", root)
    assert (root / "memory" / "node").is_dir()
    assert (root / "cpuset" / "node" / "cpuset.cpus").read_text() == "0-1"


def test_a_cgroup_is_made_once_in_the_second_version(tmp_path: Path) -> None:
    """There is one hierarchy, and folders in it are no hierarchies."""
    (tmp_path / "cgroup.controllers").touch()
    _hierarchy(tmp_path, "system.slice")
    cgroups.create("node", tmp_path)
    assert (tmp_path / "node").is_dir()
    assert not (tmp_path / "system.slice" / "node").exists()


def test_a_cgroup_goes_with_all_that_was_made_in_it(tmp_path: Path) -> None:
    """Kubelets leave folders of pods; once more does no harm."""
    root = _hierarchy(tmp_path, "memory", "pids")
    (root / "memory" / "node" / "kubepods" / "pod").mkdir(parents=True)
    cgroups.remove("node", root)
    assert not (root / "memory" / "node").exists()
    cgroups.remove("node", root)


def test_a_cgroup_that_does_not_go_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ended the node hears which folder still has a process."""
    monkeypatch.setattr(cgroups, "_REMOVE_WITHIN_S", 0.0)
    root = _hierarchy(tmp_path, "memory")
    (root / "memory" / "node").mkdir()
    (root / "memory" / "node" / "busy").touch()
    with pytest.raises(NodeFailed, match="memory/node cannot be removed"):
        cgroups.remove("node", root)


def test_a_containers_processes_are_found_by_its_id(tmp_path: Path) -> None:
    """Wherever its pod's class of service has put it; of one that is not there, there are none."""
    root = _hierarchy(tmp_path, "memory")
    folder = root / "memory" / "node" / "kubepods" / "burstable" / "pod1" / "abc"
    folder.mkdir(parents=True)
    (folder / "cgroup.procs").write_text("17\n18\n")
    assert cgroups.processes("node", "abc", root) == [17, 18]
    assert cgroups.processes("node", "xyz", root) == []


def test_two_folders_have_two_cgroups(tmp_path: Path) -> None:
    """Nodes run side by side; one folder's name is the same at every start, so that what was left is found."""
    assert cgroups.name(tmp_path / "one") != cgroups.name(tmp_path / "two")
    assert cgroups.name(tmp_path / "one") == cgroups.name(tmp_path / "one")


def test_the_door_carries_both_ways_and_passes_on_the_end_of_each() -> None:
    """What a client says reaches the server whole; after the client's last word the server can still answer."""
    with socket.create_server(("127.0.0.1", 0)) as server, door.listen(0) as entrance:
        door.open_door(entrance.dup(), server.getsockname())
        content = bytes(range(256)) * 4096

        def answer() -> None:
            visitor, _ = server.accept()
            with visitor:
                heard = b"".join(iter(lambda: visitor.recv(65536), b""))
                visitor.sendall(heard[::-1])

        answering = threading.Thread(target=answer)
        answering.start()
        with socket.create_connection(entrance.getsockname(), timeout=10) as client:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: client.recv(65536), b"")) == content[::-1]
        answering.join(10)
        assert not answering.is_alive()


def test_a_server_that_does_not_listen_closes_the_door_again() -> None:
    """A client is not left waiting while the API server is down."""
    with door.listen(0) as entrance, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        door.open_door(entrance.dup(), nobody.getsockname())
        with socket.create_connection(entrance.getsockname(), timeout=10) as client:
            assert client.recv(1) == b""


def test_what_a_node_would_hide_from_itself_is_refused() -> None:
    """It has folders of its own in place of some of the machine's: what lies there would not be found."""
    refusal = needs.hidden({"The node's folder": Path("/var/lib/jenkins/node"), "Python": Path("/usr")})
    assert refusal is not None
    assert "The node's folder is /var/lib/jenkins/node, below /var/lib" in refusal
    assert needs.hidden({"The node's folder": Path("/var/cache/marketfeed/cluster")}) is None


def test_without_root_a_node_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what would be right."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.platform", "linux")
    assert needs.missing() == "A node needs root, for its namespaces and mounts: run as root, or use `make kind`."


def test_missing_programs_are_named_by_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no apt-get knows what to install; each package is named once."""
    monkeypatch.setattr(debian, "PATH", str(tmp_path))
    monkeypatch.setattr(needs, "CNI_FOLDERS", (tmp_path,))
    packages = needs.missing_packages()
    assert packages == sorted({*needs.PROGRAMS.values(), needs.CNI_PACKAGE})


def test_addresses_are_the_same_wherever_they_are_written() -> None:
    """Servers read files; the code names the same node, pods and services."""
    kubelet = yaml.safe_load((FILES / "kubelet.yaml").read_text())
    proxy = yaml.safe_load((FILES / "kube-proxy.yaml").read_text())
    network = json.loads((FILES / "10-pods.conflist").read_text())
    cluster = list(yaml.safe_load_all((FILES / "cluster.yaml").read_text()))
    (dns,) = (each["spec"]["clusterIP"] for each in cluster if each["kind"] == "Service")
    assert kubelet["address"] == proxy["bindAddress"] == servers.ADDRESS
    assert kubelet["clusterDNS"] == [dns]
    assert proxy["hostnameOverride"] == servers.NAME
    assert proxy["clusterCIDR"] == servers.PODS
    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": servers.PODS}]]
    certificate = (FILES / "openssl.cnf").read_text()
    assert f"IP:{servers.ADDRESS}" in certificate
    assert "IP:127.0.0.1" in certificate


def test_the_nodes_own_images_are_named_where_they_are_used() -> None:
    """The runtime starts pods with the one, CoreDNS's Deployment runs the other."""
    assert f'"{programs.PAUSE}"' in (FILES / "containerd.toml").read_text()
    assert f"image: {programs.COREDNS}\n" in (FILES / "cluster.yaml").read_text()


def test_the_folder_of_a_node_in_the_background(tmp_path: Path) -> None:
    """The environment names it, else it is in the cache; nothing there is no node, and ending it is no error."""
    assert background.state_dir({background.STATE_VARIABLE: str(tmp_path)}) == tmp_path
    assert background.state_dir({"MARKETFEED_CACHE": str(tmp_path)}) == tmp_path / "cluster"
    assert background.find(tmp_path / "nothing") is None
    assert background.down(tmp_path / "nothing") is False


@pytest.mark.parametrize(("on_path", "shown"), [(None, True), ("/usr/bin/kubectl", False)], ids=["none", "there"])
def test_what_is_printed_can_be_pasted(on_path: str | None, shown: bool) -> None:  # noqa: FBT001
    """The access comes first, then kubectl where the PATH has none."""
    running = background.Up(
        pid=1,
        directory="/state/node",
        url="https://127.0.0.1:1",
        kubeconfig="/state/node/admin.kubeconfig",
        kubectl="/cache/plane/kubectl",
        helm="/cache/helm/helm",
    )
    text = usage(running, on_path)
    assert "export KUBECONFIG=/state/node/admin.kubeconfig" in text
    assert ("export PATH=$PATH:/cache/plane:/cache/helm" in text) is shown
    assert running.node.directory == Path("/state/node")
