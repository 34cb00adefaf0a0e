"""How the Deployments of a feed are: rolled out, or not and why.

What does not live here: which of them make which condition (parts), and reading the pods' states (causes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from marketfeed_operator.causes import Cause, cause, presentable
from marketfeed_operator.objects import DEPLOYMENT, Key, Manifest, labels_of
from marketfeed_operator.observed import Observed, Sample
from marketfeed_operator.plan import SecretUse
from marketfeed_operator.status.symptoms import reason_of


@dataclass(frozen=True, slots=True)
class Workload:
    """One Deployment beside what it should be; `cause` says why it is not `ready`."""

    name: str
    desired: int
    available: int
    cause: Cause | None

    @property
    def ready(self) -> bool:
        """Whether the present generation of it runs in full."""
        return self.cause is None


def workload(observed: Observed, name: str, replicas: int) -> Workload:
    """Judge the Deployment of that name, which should have so many pods."""
    live = deployment(observed, name)
    if live is None:
        return Workload(name, replicas, 0, Cause("Waiting", f"Deployment {name} is being created"))
    status: Mapping[str, Any] = live.get("status") or {}
    available = min(int(status.get("availableReplicas") or 0), replicas)
    if _rolled_out(live, status, replicas):
        return Workload(name, replicas, available, None)
    return Workload(name, replicas, available, _why(observed, name, available, replicas))


def deployment(observed: Observed, name: str) -> Manifest | None:
    """Return the live Deployment of that name in the feed's namespace."""
    namespace = str(observed.feed["metadata"].get("namespace", ""))
    return observed.children.get(Key(DEPLOYMENT.group, DEPLOYMENT.kind, namespace, name))


def pods_of(observed: Observed, name: str) -> tuple[Manifest, ...]:
    """Return the pods that the Deployment selects and that are here to stay."""
    live = deployment(observed, name)
    wanted = {} if live is None else ((live.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return tuple(
        pod
        for pod in observed.pods
        if wanted and wanted.items() <= labels_of(pod).items() and "deletionTimestamp" not in pod["metadata"]
    )


def running(pod: Manifest) -> bool:
    """Tell whether a pod runs; one whose container waits to be started again does not, though its phase says so."""
    status: Mapping[str, Any] = pod.get("status") or {}
    states = [one.get("state") or {} for one in status.get("containerStatuses") or ()]
    return status.get("phase") == "Running" and (not states or any("running" in state for state in states))


def samples_of(observed: Observed, name: str) -> tuple[Sample, ...]:
    """Return what the Deployment's pods said of themselves; what one said before it ended counts no longer."""
    pods = (str(pod["metadata"]["name"]) for pod in pods_of(observed, name) if running(pod))
    return tuple(observed.samples[pod] for pod in pods if pod in observed.samples)


def missing_secret(observed: Observed, uses: Iterable[SecretUse]) -> Cause | None:
    """Return the first secret that the processes read and that is not there; a restart would end them."""
    wanted = list(dict.fromkeys((use.name, use.key) for use in uses))
    for name, _ in wanted:
        if name in observed.secrets and observed.secrets[name] is None:
            keys = [key for other, key in wanted if other == name]
            noun = "key" if len(keys) == 1 else "keys"
            return Cause("SecretMissing", f"Secret {name} is missing: create it with {noun} {' and '.join(keys)}")
    return None


def _rolled_out(live: Manifest, status: Mapping[str, Any], replicas: int) -> bool:
    """Tell whether all pods are of the present template and available, as `kubectl rollout status` does.

    A pod of the template before stays until its successor is available: it hides one that never comes.
    """
    seen = int(status.get("observedGeneration") or 0) >= int(live["metadata"].get("generation") or 0)
    names = ("replicas", "updatedReplicas", "availableReplicas")
    total, updated, available = (int(status.get(name) or 0) for name in names)
    wanted = int((live.get("spec") or {}).get("replicas", 1))
    return seen and wanted == replicas <= updated and total <= updated <= available


def _why(observed: Observed, name: str, available: int, replicas: int) -> Cause:
    """Return what the kubelet says, else what the service says of itself, else how far it has come."""
    found = cause(pods_of(observed, name))
    if found is not None:
        return found
    problem = next((sample.problem for sample in samples_of(observed, name) if sample.problem), None)
    if problem is None:
        return Cause("Progressing", f"{available} of {replicas} pods are ready")
    return Cause(reason_of(problem), presentable(problem))
