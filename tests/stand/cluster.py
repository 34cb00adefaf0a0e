"""A running cluster as a person at a terminal has it: kubectl, helm, and a way to a port inside.

What does not live here: what is installed in it (install), and what a scenario makes of it (scenario).
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from controlplane.client import helm_environment
from helpers import wait_until
from marketfeed.errors import MarketfeedError
from marketfeed.local.process import plain_environment

Value = TypeVar("Value")
Object = dict[str, Any]

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
_KUBECTL_S, _HELM_S = 120.0, 600.0
_LOG_LINES = 12
_LOOK_S = 0.5


class CommandFailed(MarketfeedError):
    """kubectl or helm ended with an error; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the programs are, and the administrator's kubeconfig."""

    kubeconfig: Path
    kubectl_program: Path
    helm_program: Path

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 - named as in subprocess
        check: bool = True,
        timeout_s: float = _KUBECTL_S,
    ) -> str:
        """Run kubectl; return what it printed. Raises CommandFailed unless `check` is False."""
        return self._run([*self._kubectl, *arguments], input, check=check, timeout_s=timeout_s).stdout

    def warnings(self, *arguments: str) -> str:
        """Run kubectl; return what the API server warned of. Raises CommandFailed."""
        return self._run([*self._kubectl, *arguments]).stderr

    def helm(self, *arguments: str, check: bool = True) -> str:
        """Run helm; return what it printed. Raises CommandFailed unless `check` is False."""
        return self._run([str(self.helm_program), *arguments], check=check, timeout_s=_HELM_S).stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects as a user would."""
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*objects]}))

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return an object, None where there is none."""
        found = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found", *_in(namespace))
        return json.loads(found) if found.strip() else None

    def items(self, kind: str, namespace: str = "", selector: str = "") -> list[Object]:
        """Return the objects of a kind; in all namespaces where none is named."""
        where = _in(namespace) or ["--all-namespaces"]
        found: list[Object] = json.loads(self.kubectl("get", kind, "-o", "json", *where, f"--selector={selector}"))[
            "items"
        ]
        return found

    def pods(self, namespace: str, selector: str = "") -> list[Object]:
        """Return the pods that are here to stay, the oldest first."""
        found = [pod for pod in self.items("pods", namespace, selector) if "deletionTimestamp" not in pod["metadata"]]
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def raw(self, path: str) -> str:
        """Return the API server's answer to a GET."""
        return self.kubectl("get", "--raw", path)

    def post(self, path: str, body: str = "") -> str:
        """Return the API server's answer to a POST."""
        return self.kubectl("create", "--raw", path, "-f", "-", input=body)

    @contextmanager
    def forward(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """Reach a port of a pod or service (`svc/postgresql`) on loopback until the block ends; yields its port."""
        command = [*self._kubectl, f"--namespace={namespace}", "port-forward", target, f":{port}"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=plain_environment()
        ) as process:
            try:
                yield _forwarded(process)
            finally:
                process.kill()

    def until(
        self, condition: Callable[[], Value], timeout_s: float, what: str, *namespaces: str, every_s: float = _LOOK_S
    ) -> Value:
        """Return the first true value of `condition()`; fail with what is to be seen in the namespaces."""
        try:
            return wait_until(condition, timeout_s, what, every_s=every_s)
        except pytest.fail.Exception as failure:
            seen = "\n".join(self.trouble(namespace) for namespace in namespaces)
            pytest.fail(f"{failure}\n{seen}")

    def trouble(self, namespace: str) -> str:
        """Return what a person would look at first: conditions, pods, the last events, and why pods are not ready."""
        looks = [
            _conditions(self.items("marketfeeds.marketfeed.dev", namespace)),
            self.kubectl("get", "pods", "-o", "wide", *_in(namespace), check=False),
            "\n".join(self.kubectl("get", "events", "--sort-by=.lastTimestamp", *_in(namespace)).splitlines()[-15:]),
            *(self._last_words(pod) for pod in self.items("pods", namespace) if not is_ready(pod)),
        ]
        return f"--- {namespace}\n" + "\n".join(looks)

    def _last_words(self, pod: Object) -> str:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        said = self.kubectl(
            "logs", name, "--all-containers", f"--tail={_LOG_LINES}", f"--namespace={namespace}", check=False
        )
        return f"{name} said:\n{said}"

    @property
    def _kubectl(self) -> list[str]:
        cache = self.kubeconfig.parent / "kubectl-cache"
        return [str(self.kubectl_program), f"--kubeconfig={self.kubeconfig}", f"--cache-dir={cache}"]

    def _run(
        self, command: list[str], text: str | None = None, *, check: bool = True, timeout_s: float = _KUBECTL_S
    ) -> subprocess.CompletedProcess[str]:
        answer = subprocess.run(
            command,
            input=text or "",
            capture_output=True,
            text=True,
            env=helm_environment(self.kubeconfig.parent / "helm", self.kubeconfig),
            timeout=timeout_s,
            check=False,
        )
        if check and answer.returncode:
            told = (answer.stderr.strip() or answer.stdout.strip())[-4000:]
            raise CommandFailed(f"{Path(command[0]).name} {' '.join(command[1:])}: {told}")
        return answer


def is_ready(pod: Object) -> bool:
    """Tell whether a pod is ready, or has done what it was there for."""
    status = pod.get("status") or {}
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    return status.get("phase") == "Succeeded" or conditions.get("Ready") == "True"


def restarts(pod: Object) -> int:
    """Return how often the kubelet has started the pod's containers again."""
    return sum(one["restartCount"] for one in (pod.get("status") or {}).get("containerStatuses") or ())


def uid(pod: Object) -> str:
    """Return the pod's identity."""
    return str(pod["metadata"]["uid"])


def _in(namespace: str) -> list[str]:
    return [f"--namespace={namespace}"] if namespace else []


def _conditions(feeds: list[Object]) -> str:
    return "\n".join(
        f"{feed['metadata']['name']}: {one['type']}={one['status']} {one['reason']}: {one['message']}"
        for feed in feeds
        for one in (feed.get("status") or {}).get("conditions", ())
    )


def _forwarded(process: subprocess.Popen[str]) -> int:
    """Return the port that kubectl says it listens on; the forward lives as long as the process."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        found = _FORWARDING.search(line)
        if found:
            return int(found[1])
        said.append(line)
    raise CommandFailed(f"kubectl port-forward: {''.join(said).strip()}")


def decoded(secret: Object, key: str) -> str:
    """Return a value of a Secret."""
    return base64.b64decode(secret["data"][key]).decode()
