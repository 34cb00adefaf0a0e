"""An operator that may look after one namespace alone, and writes KafkaTopics where others do too."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from controlplane import ControlPlane
from helpers import wait_until
from marketfeed_operator import rbac
from operators import Feeds, OperatorProcess, operator
from replicas import KAFKA, LATE_S


class Tenant:
    """A namespace with its own operator, which shares the topics' namespace with others."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.feeds = Feeds(plane, namespace, KAFKA)
        self.user = f"system:serviceaccount:{namespace}:{namespace}"

    def __enter__(self) -> None:
        self.plane.kubectl("create", "namespace", self.namespace)
        self.feeds.secret()
        documents = rbac.manifests(self.namespace, self.namespace, [self.namespace], [KAFKA])
        self.plane.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))

    def __exit__(self, *_: object) -> None:
        self.plane.kubectl("delete", "namespace", self.namespace, "--wait=false")

    @property
    def settings(self) -> dict[str, Any]:
        """Return what the tenant's operator is told of its namespaces, by the names of its settings."""
        return {"namespace": self.namespace, "namespaces": (self.namespace,), "topic_namespaces": (KAFKA,)}

    def kubeconfig(self, folder: Path) -> Path:
        """Return a kubeconfig of the tenant's account."""
        folder.mkdir(exist_ok=True)
        return self.plane.service_account_kubeconfig(
            self.namespace, self.namespace, folder / f"{self.namespace}-{secrets.token_hex(2)}.account"
        )

    @contextmanager
    def operator(self, folder: Path) -> Iterator[OperatorProcess]:
        """Run the tenant's operator."""
        name = f"{self.namespace}-{secrets.token_hex(2)}"
        kubeconfig = self.kubeconfig(folder)
        with operator(self.plane, folder, name=name, kubeconfig=kubeconfig, lease_s=10.0, **self.settings) as process:
            wait_until(process.leads, LATE_S, "the tenant's operator to lead", every_s=0.1)
            yield process
            process.terminate()

    def topics(self) -> dict[str, str]:
        """Return name → uid of the KafkaTopics of this tenant's feeds."""
        found = [item["metadata"] for item in self.feeds.items("kafkatopics", namespace=KAFKA)]
        return {each["name"]: each["uid"] for each in found if each["name"].startswith(self.namespace)}
