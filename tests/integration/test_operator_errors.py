"""`marketfeed operator` where something is wrong from its start: what it says, and how it ends or goes on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers import wait_until
from marketfeed.local.ports import free_port
from operators import OperatorProcess

SOON_S = 30.0
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: here, cluster: {server: "http://127.0.0.1:%d"}}]
users: [{name: me, user: {token: t0pSecret}}]
contexts: [{name: here, context: {cluster: here, user: me}}]
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """Return how to reach a port at which nobody listens."""
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG % free_port())
    return path


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process that finds no cluster by itself."""
    clean = {name: text for name, text in os.environ.items() if name not in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")}
    return clean | {"HOME": "/nonexistent", "HTTP_HOST": "127.0.0.1", "HTTP_PORT": "0"} | changes


def ended(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the operator until it ends by itself."""
    command = [sys.executable, "-m", "marketfeed", "operator", *map(str, arguments)]
    return subprocess.run(
        command, env=environment(**variables), capture_output=True, text=True, timeout=SOON_S, check=False
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "no usable way to the API server: "),
        ("just text", "no usable way to the API server: {path} is not a kubeconfig"),
        ("", "no usable way to the API server: {path} is not a kubeconfig"),
        ("apiVersion: v1\nkind: Config\n", "no usable way to the API server: "),
        (KUBECONFIG.replace("current-context: here", "current-context: gone") % 1, "no usable way to the API server: "),
    ],
    ids=["no YAML", "no mapping", "empty", "nothing in it", "a context that is not there"],
)
def test_a_kubeconfig_that_cannot_be_used_ends_it_with_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """One line that says what is wrong, exit code 2, no traceback and no token."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    answer = ended("--kubeconfig", path)
    assert answer.returncode == 2, answer.stderr
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"marketfeed: {sentence.format(path=path)}")
    assert "t0pSecret" not in line


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A path that leads nowhere is a wrong option; without any path, no cluster can be found."""
    answer = ended("--kubeconfig", tmp_path / "gone")
    assert answer.returncode == 2
    assert f"{tmp_path}/gone' does not exist" in answer.stderr
    answer = ended()
    assert answer.returncode == 2
    assert answer.stderr == (
        "marketfeed: no usable way to the API server: there is no kubeconfig ~/.kube/config; name one with KUBECONFIG\n"
    )


def test_a_context_that_is_not_there_is_named(kubeconfig: Path) -> None:
    """`--context` must be one of the file's."""
    answer = ended("--kubeconfig", kubeconfig, "--context", "elsewhere")
    assert answer.returncode == 2
    assert "elsewhere" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_wrong_variables_end_it_with_all_of_them(kubeconfig: Path) -> None:
    """Exit code 2, every wrong variable in one line, with what would be right."""
    answer = ended("--kubeconfig", kubeconfig, OPERATOR_WORKERS="0", OPERATOR_IMAGE_PULL_POLICY="sometimes")
    assert answer.returncode == 2
    assert "OPERATOR_WORKERS: 0 is below 1" in answer.stderr
    assert "OPERATOR_IMAGE_PULL_POLICY: 'sometimes' is not one of Always, IfNotPresent, Never" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_port_that_is_taken_ends_it_with_a_sentence(kubeconfig: Path) -> None:
    """Exit code 2 and the variables that name the port, after an orderly end: no connection is left open."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        answer = ended("--kubeconfig", kubeconfig, HTTP_PORT=str(port))
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"marketfeed: HTTP_HOST and HTTP_PORT: cannot listen on 127.0.0.1:{port}: ")


@pytest.fixture
def lonely(kubeconfig: Path, tmp_path: Path) -> Iterator[OperatorProcess]:
    """Run an operator whose cluster is away."""
    arguments = ["operator", "--kubeconfig", str(kubeconfig)]
    with OperatorProcess("operator", arguments, environment(OPERATOR_REQUEST_TIMEOUT="1"), tmp_path) as process:
        process.listening()
        yield process


def test_a_cluster_that_is_away_is_waited_for(lonely: OperatorProcess) -> None:
    """It lives, it is not ready and says why, it holds no lease; SIGTERM ends it with 0, its token in no log."""
    wait_until(lambda: "cannot be reached" in (lonely.reason() or ""), SOON_S, "the reason", every_s=0.1)
    assert (lonely.reason() or "").startswith("starting: the API server cannot be reached: ")
    assert lonely.get("/livez")[0] == 200
    assert not lonely.leads()
    assert lonely.entries("waiting")
    assert lonely.terminate() == 0
    assert "t0pSecret" not in lonely.log
    assert "Traceback" not in lonely.log
