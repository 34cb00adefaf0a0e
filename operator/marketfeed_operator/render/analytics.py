"""The streaming job as a SparkApplication, with the ConfigMap that it reads its thresholds from while it runs.

Everything about its pods stands in pod templates, which Spark itself applies: the Spark operator's webhook, which other
fields need, may not be there. What does not live here: whether the job does what it should (spark).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from marketfeed.settings import ConsumerSettings
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
PORT = 8083
SPARK_SETTINGS: Mapping[str, str] = {
    "spark.kubernetes.driver.ownPersistentVolumeClaim": "false",  # or it wants to delete volume claims at its end
    "spark.kubernetes.driver.service.deleteOnTermination": "false",  # the service goes with its owner, the driver
}
"""Settings that let the driver do with fewer rights, see access."""

_ALERTS_FILE = "alerts.json"
_ALERTS_FOLDER = "/etc/marketfeed/alerts"
_CHECKPOINT_FOLDER = "/var/lib/marketfeed/checkpoint"
_WORK_FOLDER = "/opt/spark/work-dir"  # where Spark's images start, and where its files are put
_EXECUTOR_ROLE = "executor"


def thresholds(context: Context, job: AnalyticsJob) -> Manifest:
    """Return the ConfigMap with the thresholds of the flags, which the running job takes over."""
    alerts = {"volatility": job.volatility, "volumeSpike": job.volume_spike, "spread": job.spread}
    text = json.dumps(alerts, separators=(",", ":"))
    return child(CONFIG_MAP, context.owner, job.name, _labels(context), data={_ALERTS_FILE: text})


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
        "arguments": _arguments(context, job),
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


def _arguments(context: Context, job: AnalyticsJob) -> list[str]:
    """Return how the job groups its input and where it keeps its progress, as options of its program."""
    claim = _wanted(context).checkpoint.volume_claim
    options = {
        "trade-window-ms": job.trade_window_ms,
        "spread-window-ms": job.spread_window_ms,
        "watermark-ms": job.watermark_ms,
        "trigger-ms": job.trigger_ms,
        "alerts": f"{_ALERTS_FOLDER}/{_ALERTS_FILE}",
        "checkpoint": job.checkpoint or (claim and _CHECKPOINT_FOLDER),
        "port": PORT,
    }
    return [f"--{name}={value}" for name, value in options.items() if value is not None]


def _driver(context: Context, job: AnalyticsJob) -> dict[str, Any]:
    role = _wanted(context).driver
    container = {
        **_container(context, job, "spark-kubernetes-driver"),
        "ports": [{"name": HTTP_PORT, "containerPort": PORT, "protocol": "TCP"}],
        # The pod is never restarted in place: a failed probe ends it, and the Spark operator starts the job again.
        "startupProbe": probe("/livez", period_s=5, failures=60),
        "livenessProbe": probe("/livez", period_s=10, failures=6),
    }
    template = _template(context, job, container, automountServiceAccountToken=True)
    return {
        **_size(role),
        "serviceAccount": job.name,
        "labels": _labels(context),
        **annotated(secrets_annotation(context, job.secrets)),
        "template": overlaid(template, role.pod_template),
    }


def _executor(context: Context, job: AnalyticsJob) -> dict[str, Any]:
    role = _wanted(context).executor
    apart = spread({FEED_LABEL: context.owner.name, "spark-role": _EXECUTOR_ROLE})
    template = _template(
        context,
        job,
        _container(context, job, "spark-kubernetes-executor"),
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


def _template(context: Context, job: AnalyticsJob, container: Mapping[str, Any], **pod: Any) -> dict[str, Any]:
    volumes = [
        scratch_volume("1Gi"),  # Spark unpacks what it was given there
        {"name": "work", "emptyDir": {}},
        {"name": "alerts", "configMap": {"name": job.name}},
        *secret_volumes(job.secrets),
    ]
    if (claim := _wanted(context).checkpoint.volume_claim) is not None:
        volumes.append({"name": "checkpoint", "persistentVolumeClaim": {"claimName": claim}})
    spec = {
        "securityContext": UNPRIVILEGED,
        "enableServiceLinks": False,
        **pod,
        "containers": [container],
        "volumes": volumes,
    }
    return {"spec": spec}


def _container(context: Context, job: AnalyticsJob, name: str) -> dict[str, Any]:
    """Return what both kinds of pods add to the container that Spark makes."""
    mounts = [
        scratch_mount(),
        {"name": "work", "mountPath": _WORK_FOLDER},
        {"name": "alerts", "mountPath": _ALERTS_FOLDER, "readOnly": True},
        *secret_mounts(job.secrets),
    ]
    if _wanted(context).checkpoint.volume_claim is not None:
        mounts.append({"name": "checkpoint", "mountPath": _CHECKPOINT_FOLDER})
    return {
        "name": name,
        "env": environment(_variables(context, job), job.secrets),
        "securityContext": CONFINED,
        "volumeMounts": mounts,
    }


def _variables(context: Context, job: AnalyticsJob) -> dict[str, str]:
    """Return what the job reads from its environment, under the names that a consumer reads it from."""
    kafka = context.plan.shards[0].settings.kafka
    consumer = next(consumer for consumer in context.plan.consumers if consumer.sink == job.sink)
    told = {name: getattr(consumer.settings, name) for name in ("feed", "sink", "sink_type")}
    return {
        **(kafka.to_env() if kafka is not None else {}),
        **{ConsumerSettings.variable(name): value for name, value in told.items()},
        ConsumerSettings.variable("topics"): ",".join(job.topics),
    }


def _size(role: Role) -> dict[str, Any]:
    return {"cores": role.cores, "memory": role.memory}


def _wanted(context: Context) -> Analytics:
    """Return the feed's section; a plan with a job has one."""
    return context.feed.spec.analytics or Analytics()


def _labels(context: Context) -> dict[str, str]:
    return labels(context.owner, COMPONENT_ANALYTICS)
