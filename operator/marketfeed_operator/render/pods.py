"""Pod templates of our services: hardened, probed, told what to do by their environment, overlaid by the feed's owner.

What does not live here: which processes there are (ingestors, consumers) and the streaming job's pods (analytics).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import PurePosixPath
from typing import Any

from marketfeed_operator import names
from marketfeed_operator.objects import COMPONENT, FEED_LABEL, SECRETS, digest
from marketfeed_operator.plan import SecretFile, SecretUse, SecretVariable
from marketfeed_operator.render.context import Context
from marketfeed_operator.render.overlay import merged
from marketfeed_operator.render.quantities import canonical_resources

HTTP_PORT = "http"
"""Name of the port that services answer on."""
_AFTER_DRAIN_S = 10  # left to a process for its end, after the longest drain that it allows itself

CONFINED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
"""Security context of every container: the *restricted* pod security standard, and nothing written but to volumes."""
UNPRIVILEGED: Mapping[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
"""Security context of every pod; the user is the image's own, a number."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One of our processes in a pod: its command, its environment, and what a person lays over it."""

    name: str  # of its container
    command: tuple[str, ...]
    variables: Mapping[str, str]
    secrets: tuple[SecretUse, ...]
    port: int
    drain_s: float
    resources: Mapping[str, Any]
    overlay: Mapping[str, Any]


def pod_template(
    context: Context,
    service: Service,
    labels: Mapping[str, str],
    *,
    volumes: Iterable[Mapping[str, Any]] = (),
    mounts: Iterable[Mapping[str, Any]] = (),
    init: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the pod template of a service, overlaid; volumes and mounts come beside those of its secrets."""
    spec = {
        "serviceAccountName": names.service_account(context.owner.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service called `http` would set HTTP_PORT
        "securityContext": UNPRIVILEGED,
        "terminationGracePeriodSeconds": ceil(service.drain_s) + _AFTER_DRAIN_S,
        "topologySpreadConstraints": [spread({label: labels[label] for label in (FEED_LABEL, COMPONENT)})],
        **pull_secrets(context),
        **({"initContainers": found} if (found := list(init)) else {}),
        "containers": [_container(context, service, mounts)],
        "volumes": [scratch_volume(), *secret_volumes(service.secrets), *volumes],
    }
    return overlaid({"metadata": _metadata(context, service, labels), "spec": spec}, service.overlay)


def _metadata(context: Context, service: Service, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"labels": dict(labels), **annotated(secrets_annotation(context, service.secrets))}


def annotated(annotations: Mapping[str, str]) -> dict[str, Any]:
    """Return the annotations as metadata has them: left out where there are none."""
    return {"annotations": dict(annotations)} if annotations else {}


def _container(context: Context, service: Service, mounts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        **plain_container(context, service.name, service.command, environment(service.variables, service.secrets)),
        "ports": [{"name": HTTP_PORT, "containerPort": service.port, "protocol": "TCP"}],
        # A dependency that is away makes a pod unready and never restarts it: /livez knows nothing of them.
        "startupProbe": probe("/livez", period_s=2, failures=60),
        "livenessProbe": probe("/livez", period_s=10, failures=3),
        "readinessProbe": probe("/readyz", period_s=5, failures=2),
        "resources": service.resources,
        "volumeMounts": [scratch_mount(), *secret_mounts(service.secrets), *mounts],
    }


def plain_container(
    context: Context, name: str, command: Iterable[str], variables: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return a container of the services' image that writes nothing and answers nothing."""
    return {
        "name": name,
        "image": context.installation.services_image,
        "imagePullPolicy": context.installation.image_pull_policy,
        "command": list(command),
        "env": variables,
        "securityContext": CONFINED,
    }


def environment(variables: Mapping[str, str], secrets: Iterable[SecretUse] = ()) -> list[dict[str, Any]]:
    """Return the variables sorted by name. An empty one is an unset one to a service, and is left out."""
    found: dict[str, dict[str, Any]] = {name: {"value": value} for name, value in variables.items() if value}
    for use in secrets:
        if isinstance(use, SecretVariable):
            found[use.variable] = {"valueFrom": {"secretKeyRef": {"name": use.name, "key": use.key}}}
    return [{"name": name, **found[name]} for name in sorted(found)]


def probe(path: str, *, period_s: int, failures: int) -> dict[str, Any]:
    """Return an HTTP probe of the service's port."""
    return {
        "httpGet": {"path": path, "port": HTTP_PORT},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def scratch_volume(limit: str = "64Mi") -> dict[str, Any]:
    """Return the volume behind /tmp, the one place where a process may write."""
    return {"name": "tmp", "emptyDir": {"sizeLimit": limit}}


def scratch_mount() -> dict[str, Any]:
    """Return its mount."""
    return {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - a volume of the pod's own


def secret_volumes(uses: Iterable[SecretUse]) -> list[dict[str, Any]]:
    """Return a volume for each directory that holds files from a secret."""
    return [
        {"name": PurePosixPath(folder).name, "secret": {"secretName": secret, "items": items}}
        for (folder, secret), items in _files(uses).items()
    ]


def secret_mounts(uses: Iterable[SecretUse]) -> list[dict[str, Any]]:
    """Return their mounts: whole directories, because a file that is mounted alone never changes."""
    return [{"name": PurePosixPath(folder).name, "mountPath": folder, "readOnly": True} for folder, _ in _files(uses)]


def _files(uses: Iterable[SecretUse]) -> dict[tuple[str, str], list[dict[str, str]]]:
    """Return (directory, secret) → items."""
    found: defaultdict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for use in uses:
        if isinstance(use, SecretFile):
            path = PurePosixPath(use.path)
            found[str(path.parent), use.name].append({"key": use.key, "path": path.name})
    return dict(found)


def secrets_annotation(context: Context, uses: Iterable[SecretUse]) -> dict[str, str]:
    """Return the annotation that changes when a secret does that the pod's processes read at their start."""
    versions = {use.name: context.secrets.get(use.name) for use in uses}
    return {SECRETS: digest(versions)} if versions else {}


def spread(labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the wish that pods with these labels stand on different nodes, as far as there are such."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(labels)},
    }


def pull_secrets(context: Context) -> dict[str, Any]:
    """Return the secrets with registry credentials, as a pod names them."""
    found = [{"name": name} for name in context.installation.image_pull_secrets]
    return {"imagePullSecrets": found} if found else {}


def overlaid(template: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template with a person's overlay, which may change all but our own labels and annotations.

    Selectors, and rolling pods for a changed secret, live by those.
    """
    ours = template.get("metadata", {})
    whole = merged(merged(template, overlay), {"metadata": ours} if ours else {})
    return {**whole, "spec": _canonical(whole["spec"])} if isinstance(whole.get("spec"), Mapping) else dict(whole)


def _canonical(spec: Mapping[str, Any]) -> dict[str, Any]:
    lists = {name: spec[name] for name in ("containers", "initContainers") if isinstance(spec.get(name), list)}
    return {**spec, **{name: [_canonical_container(item) for item in items] for name, items in lists.items()}}


def _canonical_container(container: Any) -> Any:
    if not isinstance(container, Mapping) or "resources" not in container:
        return container
    return {**container, "resources": canonical_resources(container["resources"])}


def resources(wanted: Mapping[str, Any], cpu: str, memory: str, most_memory_mib: int) -> Mapping[str, Any]:
    """Return what a feed asks for, else these; processors are not limited, because a throttled process falls behind."""
    return wanted or {
        "requests": {"cpu": cpu, "memory": memory},
        "limits": {"memory": f"{most_memory_mib}Mi"},
    }
