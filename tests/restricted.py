"""Pods held against the *restricted* pod security standard, version 1.35, and against our own rules beyond it.

Source: kubernetes.io/docs/concepts/security/pod-security-standards; the baseline is part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_PROFILES = ("RuntimeDefault", "Localhost")
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)


def violations(template: Mapping[str, Any]) -> list[str]:
    """Return what in a pod template the standard forbids; nothing for a restricted pod."""
    spec = template["spec"]
    found = [*_pod(spec), *_annotations(template)]
    for container in _containers(spec):
        found.extend(f"{container['name']}: {problem}" for problem in _container(container, spec))
    return found


def loose_ends(template: Mapping[str, Any]) -> list[str]:
    """Return what the standard allows and we do not: a root file system that can be written to."""
    return [
        f"{container['name']}: its root file system can be written to"
        for container in _containers(template["spec"])
        if not container.get("securityContext", {}).get("readOnlyRootFilesystem")
    ]


def _containers(spec: Mapping[str, Any]) -> list[Any]:
    return [
        container
        for field in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(field, [])
    ]


def _pod(spec: Mapping[str, Any]) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set"
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= _VOLUMES:
            yield f"volume {volume['name']} is of a forbidden type"
    context = spec.get("securityContext", {})
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    yield from _identity("pod", context)


def _annotations(template: Mapping[str, Any]) -> Iterator[str]:
    for name in template.get("metadata", {}).get("annotations", {}):
        if "apparmor" in name:
            yield f"annotation {name}"


def _container(container: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    own, pod = container.get("securityContext", {}), spec.get("securityContext", {})
    yield from _identity("container", own)
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if own.get("procMount", "Default") != "Default":
        yield "procMount is not the default"
    yield from _capabilities(own.get("capabilities", {}))
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") not in _PROFILES:
        yield "seccompProfile is not RuntimeDefault or Localhost"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort is set"
    for name, handler in _handlers(container):
        if handler.get("host"):
            yield f"{name} names a host"


def _capabilities(capabilities: Mapping[str, Any]) -> Iterator[str]:
    if "ALL" not in capabilities.get("drop", []):
        yield "not all capabilities are dropped"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"


def _identity(place: str, context: Mapping[str, Any]) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield f"{place} runs as user 0"
    if context.get("runAsNonRoot", True) is not True:
        yield f"{place} may run as root"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in _PROFILES:
        yield f"{place} is unconfined by seccomp"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in _PROFILES:
        yield f"{place} is unconfined by AppArmor"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{place} is a host process"
    selinux = context.get("seLinuxOptions", {})
    types = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
    if selinux.get("type", "") not in types or selinux.get("user") or selinux.get("role"):
        yield f"{place} sets SELinux options"


def _handlers(container: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    probes = {name: container.get(name, {}) for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    hooks = container.get("lifecycle", {})
    for name, handler in {**probes, **hooks}.items():
        yield name, handler.get("httpGet", handler.get("tcpSocket", {}))
