"""The streaming job as a SparkApplication, with the ConfigMap that it reads its thresholds from while it runs.

Everything about its pods stands in pod templates, which Spark itself applies: the Spark operator's webhook, which other
fields need, may not be there. What does not live here: whether the job does what it should (spark).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from marketfeed_operator import names
from marketfeed_operator.models import Analytics, Role
from marketfeed_operator.objects import (
    COMPONENT_ANALYTICS,
    CONFIG_MAP,
    FEED_LABEL,
    NUDGE,
    SPARK_APPLICATION,
    SPEC_HASH,
    Manifest,
    digest,
)
from marketfeed_operator.plan import AnalyticsJob
from marketfeed_operator.render.context import Context
from marketfeed_operator.render.metadata import child, labels
from marketfeed_operator.render.pods import (
    CONFINED,
    HTTP_PORT,
    UNPRIVILEGED,
    annotated,
    environment,
    overlaid,
    probe,
    scratch_mount,
    scratch_volume,
    secret_mounts,
    secret_volumes,
    secrets_annotation,
    spread,
)

SPARK_VERSION = "4.3.0"
PROGRAM = "local:///opt/marketfeed/analytics.py"
SPARK_SETTINGS: Mapping[str, str] = {
    # Heap is not all that a process needs; without these two Spark adds 40 % of it, and at least 384 MiB.
    "spark.driver.minMemoryOverhead": "512m",  # Python runs beside Java
    "spark.executor.minMemoryOverhead": "512m",
    # A Java without memory must end: the Spark operator starts another.
    "spark.driver.defaultJavaOptions": "-XX:+ExitOnOutOfMemoryError",
    # Else the submission makes a policy itself, which the Spark operator's account may not: the chart brings one.
    "spark.kubernetes.driver.pod.excludedFeatureSteps": (
        "org.apache.spark.deploy.k8s.features.NetworkPolicyFeatureStep"
    ),
    "spark.kubernetes.driver.ownPersistentVolumeClaim": "false",  # or it wants to delete volume claims at its end
    "spark.kubernetes.driver.service.deleteOnTermination": "false",  # the service goes with its owner, the driver
    "spark.ui.enabled": "false",  # what is to be seen of the job is in its metrics
}
"""Settings of every job. Two of them let the driver do with fewer rights, see access."""

_WORK_FOLDER = "/opt/spark/work-dir"  # where Spark's images start, and where its files are put
_EXECUTOR_ROLE = "executor"
_GROUP: Mapping[str, Any] = {"fsGroup": 65532, "fsGroupChangePolicy": "OnRootMismatch"}  # that of the image's user


def thresholds(context: Context, job: AnalyticsJob) -> Manifest:
    """Return the ConfigMap with the thresholds of the flags, which the running job takes over."""
    alerts = {"volatility": job.volatility, "volumeSpike": job.volume_spike, "spread": job.spread}
    text = json.dumps(alerts, separators=(",", ":"))
    return child(CONFIG_MAP, context.owner, job.name, _labels(context), data={_thresholds_file(job).name: text})


def spark_applications(context: Context, nudge: str | None) -> tuple[Manifest, ...]:
    """Return the job; none where nobody serves its API, or where a suspended one could only be left out."""
    job, served = context.plan.analytics, context.served
    if job is None or not served.spark_application or (context.plan.suspended and not served.spark_suspend):
        return ()
    spec = _marked(_spec(context, job), nudge)
    suspend = {"suspend": context.plan.suspended} if served.spark_suspend else {}
    return (child(SPARK_APPLICATION, context.owner, job.name, _labels(context), spec={**spec, **suspend}),)


def _marked(spec: Manifest, nudge: str | None) -> Manifest:
    """Return the job with its own hash on its pods, and with the value that makes it start again."""
    mark = {SPEC_HASH: digest(spec)}
    nudged = {NUDGE: nudge} if nudge is not None else {}
    driver, executor = spec["driver"], spec["executor"]
    return {
        **spec,
        "driver": {
            **driver,
            "labels": {**driver["labels"], **mark},
            **annotated({**driver.get("annotations", {}), **nudged}),
        },
        "executor": {**executor, "labels": {**executor["labels"], **mark}},
    }


def _spec(context: Context, job: AnalyticsJob) -> Manifest:
    """Return all that makes the job what it is: another value here is another job, and starts it again."""
    installation = context.installation
    pulls = {"imagePullSecrets": list(found)} if (found := installation.image_pull_secrets) else {}
    return {
        "type": "Python",
        "pythonVersion": "3",
        "mode": "cluster",
        "sparkVersion": SPARK_VERSION,
        "image": installation.analytics_image,
        "imagePullPolicy": installation.image_pull_policy,
        **pulls,
        "mainApplicationFile": PROGRAM,
        "sparkConf": dict(SPARK_SETTINGS),
        # For ever: a streaming job has no good end. The counts that other policies keep are over its whole life.
        "restartPolicy": {
            "type": "Always",
            "onFailureRetryInterval": 10,
            "onSubmissionFailureRetryInterval": 20,
        },
        "driver": _driver(context, job),
        "executor": _executor(context, job),
    }


def _driver(context: Context, job: AnalyticsJob) -> dict[str, Any]:
    role, thresholds_mount = _wanted(context).driver, _thresholds_mount(job)
    container = {
        **_container("spark-kubernetes-driver"),
        "env": environment(job.settings.to_env(), job.secrets),
        "ports": [{"name": HTTP_PORT, "containerPort": job.settings.http.port, "protocol": "TCP"}],
        # The pod is never restarted in place: a failed probe ends it, and the Spark operator starts the job again. None
        # asks whether it is ready: executors find it by a service, which leaves out what is not.
        "startupProbe": probe("/livez", period_s=5, failures=60),
        "livenessProbe": probe("/livez", period_s=10, failures=6),
        "volumeMounts": [*_mounts(context, job), thresholds_mount, *secret_mounts(job.secrets)],
    }
    volumes = [
        *_volumes(context),
        {"name": thresholds_mount["name"], "configMap": {"name": job.name}},
        *secret_volumes(job.secrets),
    ]
    template = _template(context, container, volumes, automountServiceAccountToken=True)
    return {
        **_size(role),
        "serviceAccount": job.name,
        "labels": _labels(context),
        **annotated(secrets_annotation(context, job.secrets)),
        "template": overlaid(template, role.pod_template),
    }


def _executor(context: Context, job: AnalyticsJob) -> dict[str, Any]:
    """Return the executors. The driver tells them all that they need: they hold no secret and know no database."""
    role = _wanted(context).executor
    apart = spread({FEED_LABEL: context.owner.name, "spark-role": _EXECUTOR_ROLE})
    template = _template(
        context,
        {**_container("spark-kubernetes-executor"), "volumeMounts": _mounts(context, job)},
        _volumes(context),
        automountServiceAccountToken=False,
        topologySpreadConstraints=[apart],
    )
    return {
        **_size(role),
        "instances": job.executors,
        "serviceAccount": names.service_account(context.owner.name),
        "labels": _labels(context),
        "template": overlaid(template, role.pod_template),
    }


def _template(
    context: Context, container: Mapping[str, Any], volumes: Iterable[Mapping[str, Any]], **pod: Any
) -> dict[str, Any]:
    # A claim's volume belongs to root until it is given to a group.
    grouped = {} if _wanted(context).checkpoint.volume_claim is None else _GROUP
    spec = {
        "securityContext": {**UNPRIVILEGED, **grouped},
        "enableServiceLinks": False,
        **pod,
        "containers": [container],
        "volumes": list(volumes),
    }
    return {"spec": spec}


def _container(name: str) -> dict[str, Any]:
    """Return what both kinds of pods add to the container that Spark makes."""
    return {"name": name, "securityContext": CONFINED}


def _volumes(context: Context) -> list[dict[str, Any]]:
    """Return the volumes of both kinds of pods; what is written outside of them is refused."""
    scratch = [scratch_volume("1Gi"), {"name": "work", "emptyDir": {}}]  # Spark unpacks what it was given in the first
    if _in_object_store(context):
        return scratch
    claim = _wanted(context).checkpoint.volume_claim
    kept = {"emptyDir": {}} if claim is None else {"persistentVolumeClaim": {"claimName": claim}}
    return [*scratch, {"name": "checkpoint", **kept}]


def _mounts(context: Context, job: AnalyticsJob) -> list[dict[str, Any]]:
    scratch = [scratch_mount(), {"name": "work", "mountPath": _WORK_FOLDER}]
    if _in_object_store(context):
        return scratch
    return [*scratch, {"name": "checkpoint", "mountPath": job.settings.checkpoint}]


def _in_object_store(context: Context) -> bool:
    """Return whether progress is kept at a URL, so that no pod needs a folder for it."""
    return _wanted(context).checkpoint.location is not None


def _thresholds_mount(job: AnalyticsJob) -> dict[str, Any]:
    """Return the mount of a whole directory, because a file that is mounted alone never changes."""
    return {"name": "thresholds", "mountPath": str(_thresholds_file(job).parent), "readOnly": True}


def _thresholds_file(job: AnalyticsJob) -> PurePosixPath:
    return PurePosixPath(job.settings.thresholds_file or "")


def _size(role: Role) -> dict[str, Any]:
    asked = {} if role.core_request is None else {"coreRequest": role.core_request}
    return {"cores": role.cores, **asked, "memory": role.memory}


def _wanted(context: Context) -> Analytics:
    """Return the feed's section; a plan with a job has one."""
    return context.feed.spec.analytics or Analytics()


def _labels(context: Context) -> dict[str, str]:
    return labels(context.owner, COMPONENT_ANALYTICS)
