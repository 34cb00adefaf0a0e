"""The judge of pods: it lets a restricted pod pass, and finds each thing that makes one unrestricted."""

import copy
from typing import Any

import pytest

from restricted import loose_ends, violations

SOUND = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "one",
                "ports": [{"containerPort": 80}],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}
CONTAINER = "spec.containers.0"


def changed(path: str, value: Any) -> Any:
    """Return the sound pod with one value set, or taken out."""
    pod: Any = copy.deepcopy(SOUND)
    *outer, last = path.split(".")
    parent = pod
    for part in outer:
        parent = parent[int(part)] if part.isdigit() else parent.setdefault(part, {})
    parent[last] = value
    return pod


def test_a_restricted_pod_passes() -> None:
    """Nothing is found in it."""
    assert violations(SOUND) == []
    assert loose_ends(SOUND) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.hostNetwork", True),
        ("spec.hostPID", True),
        ("spec.volumes", [{"name": "root", "hostPath": {"path": "/"}}]),
        ("spec.securityContext.runAsNonRoot", False),
        ("spec.securityContext", {"runAsNonRoot": True}),
        ("spec.securityContext.runAsUser", 0),
        ("spec.securityContext.seccompProfile", {"type": "Unconfined"}),
        ("spec.securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}]),
        ("spec.initContainers", [{"name": "bare"}]),
        (f"{CONTAINER}.securityContext.privileged", True),
        (f"{CONTAINER}.securityContext.allowPrivilegeEscalation", True),
        (f"{CONTAINER}.securityContext.capabilities", {"drop": ["NET_RAW"]}),
        (f"{CONTAINER}.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        (f"{CONTAINER}.securityContext.runAsUser", 0),
        (f"{CONTAINER}.securityContext.procMount", "Unmasked"),
        (f"{CONTAINER}.ports", [{"containerPort": 80, "hostPort": 80}]),
        (f"{CONTAINER}.livenessProbe", {"httpGet": {"host": "169.254.169.254", "port": 80}}),
    ],
)
def test_what_the_standard_forbids_is_found(path: str, value: Any) -> None:
    """Each of these alone is enough."""
    assert violations(changed(path, value))


def test_a_root_file_system_that_can_be_written_to_is_found() -> None:
    """The standard allows it, we do not."""
    assert loose_ends(changed(f"{CONTAINER}.securityContext.readOnlyRootFilesystem", value=False))
