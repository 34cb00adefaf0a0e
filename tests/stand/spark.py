"""Kubeflow's Spark operator on the node, by its own chart and as `make kind` sets it: for the scenario that runs a job.

Everybody else does without: its image and the job's are by far the largest. What does not live here: the feed whose job
it runs (feeds), and building images (images).
"""

from __future__ import annotations

import json
from pathlib import Path

from controlplane import crds
from images.catalog import SPARK_OPERATOR
from marketfeed.local.files import write_atomically
from stand import background, install
from stand.background import Stand
from stand.cluster import Object
from stand.steps import Steps, Tell

NAMESPACE, RELEASE = "spark", "spark-operator"
IMAGES = ("analytics", SPARK_OPERATOR)
PATIENCE_S = 30
"""How long our operator waits for the Spark operator here, before it starts a job again."""

_VALUES = Path(__file__).with_name("values") / "spark.yaml"
_AS_ON_KIND = Path(__file__).parents[2] / "manifests" / "kind" / "values-spark.yaml"


def set_up(stand: Stand, namespace: str, tell: Tell) -> None:
    """Load the images, install the Spark operator for jobs in `namespace`, and tell our operator of both."""
    steps = Steps(tell)
    with steps("Spark's images"):
        background.load(stand, IMAGES)
    with steps("Spark operator"):
        stand.make_namespace(NAMESPACE)
        _install(stand, namespace)
    with steps("operator, once more"):
        places = f"{{{install.FEED_NAMESPACE},{namespace}}}"
        install.operator(
            stand.cluster,
            background.loaded(stand.folder),
            stand.folder,
            f"--set=networkPolicies.feedNamespaces={places}",
            f"--set-string=settings.OPERATOR_ANALYTICS_PATIENCE={PATIENCE_S}",
        )


def take_down(stand: Stand) -> None:
    """Uninstall the Spark operator and take its settings from ours; the definitions of its kinds stay."""
    stand.cluster.helm("uninstall", RELEASE, f"--namespace={NAMESPACE}", "--ignore-not-found", "--wait", "--timeout=2m")
    stand.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
    install.operator(stand.cluster, background.loaded(stand.folder), stand.folder)


def job(stand: Stand, namespace: str) -> Object:
    """Return the only SparkApplication of a namespace; empty where there is none."""
    return next(iter(stand.cluster.items("sparkapplications.sparkoperator.k8s.io", namespace)), {})


def _install(stand: Stand, namespace: str) -> None:
    registry, _, rest = background.loaded(stand.folder)[SPARK_OPERATOR].partition("/")
    repository, _, tag = rest.rpartition(":")
    values = {
        "image": {"registry": registry, "repository": repository, "tag": tag, "pullPolicy": "Never"},
        "spark": {"jobNamespaces": [namespace]},
    }
    path = stand.folder / "spark.json"
    write_atomically(path, json.dumps(values))
    chosen = (f"--values={each}" for each in (_AS_ON_KIND, _VALUES, path))
    place = f"--namespace={NAMESPACE}"
    stand.cluster.helm(
        *("upgrade", "--install", RELEASE, str(crds.spark_operator_chart()), place, *chosen, "--wait", "--timeout=3m")
    )
