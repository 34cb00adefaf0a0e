"""Kubernetes objects as plain mappings: the kinds that we read and write, and the labels and annotations they carry.

What does not live here: what an object of ours holds (render) and talking to an API server (cluster).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

Manifest = Mapping[str, Any]
"""One object as JSON has it. Never changed in place."""

GROUP = "marketfeed.dev"
MANAGER = "marketfeed-operator"
"""Our field manager, and the value of the label that all our objects carry."""

MANAGED_BY = "app.kubernetes.io/managed-by"
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
INSTANCE = "app.kubernetes.io/instance"
FEED_LABEL = f"{GROUP}/feed"
UID_LABEL = f"{GROUP}/feed-uid"
SHARD_LABEL = f"{GROUP}/shard"
SINK_LABEL = f"{GROUP}/sink"
CLAIM_PREFIX = f"claim.{GROUP}/"
"""Label of what several feeds may want, one for each feed: `claim.marketfeed.dev/<uid>: <namespace>_<name>`."""

APPLIED = f"{GROUP}/applied"
"""Annotation: hash of what we applied last. It tells what we no longer want apart from what others added."""
SECRETS = f"{GROUP}/secrets"
"""Annotation of a pod template: versions of the secrets that its processes read at their start."""
STREAMS = f"{GROUP}/streams"
"""Annotation of a shard's pods: hash of its streams. Changing it makes the kubelet look at the ConfigMap at once."""
POLICY = f"{GROUP}/deletion-policy"
"""Annotation of a topic: what becomes of it when its last feed is gone, Retain or Delete."""
APPROVE = f"{GROUP}/approve"
"""Annotation that a person sets on a feed: hash of the destructive changes that may be made."""
PAUSED = f"{GROUP}/paused"
"""Annotation that a person sets on a feed: "true" keeps our hands off its objects."""
SPEC_HASH = f"{GROUP}/spec-hash"
"""Label of the streaming job's driver: hash of the job that it was started for."""
NUDGE = f"{GROUP}/nudge"
"""Annotation of the streaming job's driver: a new value makes the Spark operator start it again."""

COMPONENT_INGESTOR, COMPONENT_CONSUMER, COMPONENT_ANALYTICS = "ingestor", "consumer", "analytics"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object: `plural` is its name in URLs, as deployments; `group` is empty for the core API."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """Return `group/version` as objects write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL's path; `namespace` None means all namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, *(["namespaces", namespace] if namespace else []), self.plural]
        return "/".join(part for part in (*parts, name, subresource) if part)


MARKETFEED = Kind(GROUP, "v1alpha1", "MarketFeed", "marketfeeds")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
SERVICE = Kind("", "v1", "Service", "services")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
ROLE = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
DISRUPTION_BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
POD_MONITOR = Kind("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors")
KAFKA_TOPIC_V1 = Kind("kafka.strimzi.io", "v1", "KafkaTopic", "kafkatopics")
KAFKA_TOPIC_V1BETA2 = Kind("kafka.strimzi.io", "v1beta2", "KafkaTopic", "kafkatopics")
SPARK_APPLICATION = Kind("sparkoperator.k8s.io", "v1beta2", "SparkApplication", "sparkapplications")

POD = Kind("", "v1", "Pod", "pods")
SECRET = Kind("", "v1", "Secret", "secrets")
EVENT = Kind("events.k8s.io", "v1", "Event", "events")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
CUSTOM_RESOURCE = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")

ALWAYS_SERVED = (SERVICE_ACCOUNT, CONFIG_MAP, ROLE, ROLE_BINDING, SERVICE, DEPLOYMENT, DISRUPTION_BUDGET)
"""Kinds of children that every cluster has."""
SOMETIMES_SERVED = (KAFKA_TOPIC_V1, KAFKA_TOPIC_V1BETA2, SPARK_APPLICATION, POD_MONITOR)
"""Kinds of children whose API somebody has to install."""
KINDS = {(kind.group, kind.kind): kind for kind in (*ALWAYS_SERVED, *SOMETIMES_SERVED, MARKETFEED, POD)}
"""Group and kind of an object → its kind; the object itself says in which version it is."""


@dataclass(frozen=True, slots=True)
class Served:
    """Which of the APIs that somebody has to install this cluster has."""

    kafka_topic: Kind | None = None  # v1 where it is served, else v1beta2
    spark_application: bool = False
    spark_suspend: bool = False  # whether a SparkApplication has `spec.suspend` (spark-operator 2.4.0)
    pod_monitor: bool = False

    def __str__(self) -> str:
        """Return what there is in words, as KafkaTopic v1, PodMonitor."""
        topics = [f"{self.kafka_topic.kind} {self.kafka_topic.version}"] if self.kafka_topic else []
        job = f"{SPARK_APPLICATION.kind}{' with suspend' if self.spark_suspend else ''}"
        others = [job] * self.spark_application + [POD_MONITOR.kind] * self.pod_monitor
        return ", ".join([*topics, *others]) or "none"


class Key(NamedTuple):
    """Which object: a topic's key is the same in both versions of its API."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def key_of(manifest: Manifest) -> Key:
    """Return the key of an object."""
    group = str(manifest["apiVersion"]).rpartition("/")[0]
    metadata = manifest["metadata"]
    return Key(group, str(manifest["kind"]), str(metadata.get("namespace", "")), str(metadata["name"]))


def kind_of(manifest: Manifest) -> Kind:
    """Return the kind of an object, in the version that the object has."""
    group, _, version = str(manifest["apiVersion"]).rpartition("/")
    return replace(KINDS[group, str(manifest["kind"])], version=version)


def labels_of(manifest: Manifest) -> Mapping[str, str]:
    """Return the object's labels."""
    found: Mapping[str, str] = manifest["metadata"].get("labels") or {}
    return found


def annotations_of(manifest: Manifest) -> Mapping[str, str]:
    """Return the object's annotations."""
    found: Mapping[str, str] = manifest["metadata"].get("annotations") or {}
    return found


def claims_of(manifest: Manifest) -> dict[str, str]:
    """Return the feeds that want this object, uid → namespace/name (cut, with a hash, where both are long)."""
    return {
        label.removeprefix(CLAIM_PREFIX): feed.replace("_", "/", 1)
        for label, feed in labels_of(manifest).items()
        if label.startswith(CLAIM_PREFIX)
    }


def digest(value: Any) -> str:
    """Return a hash of plain data that no order of keys, process or version changes; fit for a label."""
    return sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:16]
