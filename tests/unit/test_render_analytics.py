"""The streaming job: what makes it another one, and what it takes over while it runs."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from feeds import SECURITY
from marketfeed_operator.objects import NUDGE, SECRETS, SPEC_HASH
from rendered_objects import EVERYTHING, named, objects_with, of_kind, without

CHANGES: Mapping[str, Any] = {"spec.analytics.enabled": True}
DENIED = ("master", "image", "serviceAccountName", "oauth", "namespace")


def job(changes: Mapping[str, Any] = CHANGES, **options: Any) -> Any:
    """Return the job of the usual document with analytics and these changes."""
    return named(objects_with({**CHANGES, **changes}, **options), "SparkApplication", "spot-analytics")


def marks(made: Any) -> set[str]:
    """Return the hashes on the job's pods."""
    return {made["spec"][role]["labels"][SPEC_HASH] for role in ("driver", "executor")}


@pytest.mark.parametrize(
    "changes",
    [
        {"spec.analytics.tradeWindow": "5m"},
        {"spec.analytics.executor": {"instances": 3}},
        {"spec.analytics.driver": {"podTemplate": {"spec": {"nodeSelector": {"disk": "ssd"}}}}},
        {"spec.channels": ["trade", "bookTicker"]},
        {"spec.kafka.bootstrapServers": "other:9092"},
        {"spec.kafka.security": SECURITY[1]},
        {"spec.analytics.checkpoint": {"volumeClaim": "progress"}},
        {"spec.analytics.checkpoint": {"location": "s3a://bucket"}},
    ],
)
def test_what_a_running_job_cannot_take_over_is_another_job(changes: Mapping[str, Any]) -> None:
    """Driver and executors carry the job's hash, which changes with it."""
    assert len(marks(job(changes))) == 1
    assert marks(job(changes)) != marks(job())


@pytest.mark.parametrize(
    "changes",
    [
        {"spec.analytics.alerts": {"spread": 9.0}},
        {"spec.symbols": ["ETHUSDT"]},
        {"spec.suspend": True},
        {"spec.deletionPolicy": "Delete"},
    ],
)
def test_what_a_running_job_takes_over_leaves_it_the_same(changes: Mapping[str, Any]) -> None:
    """Thresholds are in its ConfigMap, symbols come with the records, and a pause changes nothing about it."""
    assert marks(job(changes)) == marks(job())


def test_a_changed_secret_is_another_job() -> None:
    """The driver reads its secrets at its start, and carries their versions."""
    before, after = (job(secrets={"timescale": version}) for version in ("a:1", "a:2"))
    assert before["spec"]["driver"]["annotations"][SECRETS] != after["spec"]["driver"]["annotations"][SECRETS]
    assert marks(before) != marks(after)


def test_a_nudge_starts_the_same_job_again() -> None:
    """The annotation is the only difference."""
    nudged, usual = job(nudge="2"), job()
    assert nudged["spec"]["driver"]["annotations"].pop(NUDGE) == "2"
    assert nudged == usual


def test_thresholds_stand_in_the_config_map() -> None:
    """The job reads them anew while it runs: the file is mounted as a directory."""
    objects = objects_with({"spec.analytics": {"alerts": {"volatility": 0.01, "volumeSpike": 4, "spread": 2}}})
    thresholds = named(objects, "ConfigMap", "spot-analytics")["data"]["alerts.json"]
    assert json.loads(thresholds) == {"volatility": 0.01, "volumeSpike": 4, "spread": 2}
    for role in ("driver", "executor"):
        spec = named(objects, "SparkApplication", "spot-analytics")["spec"][role]["template"]["spec"]
        assert {"name": "alerts", "configMap": {"name": "spot-analytics"}} in spec["volumes"]
        mount = {"name": "alerts", "mountPath": "/etc/marketfeed/alerts", "readOnly": True}
        assert mount in spec["containers"][0]["volumeMounts"]


def test_a_job_is_suspended_where_its_kind_knows_that_and_left_out_elsewhere() -> None:
    """An older Spark operator would run it: then there is none, and its progress is in the checkpoint."""
    older = without(EVERYTHING, spark_suspend=False)
    assert job({"spec.suspend": True})["spec"]["suspend"] is True
    assert job()["spec"]["suspend"] is False
    assert "suspend" not in job(served=older)["spec"]
    assert of_kind(objects_with({**CHANGES, "spec.suspend": True}, served=older), "SparkApplication") == []


@pytest.mark.parametrize(
    ("changes", "served"),
    [({"spec.analytics": {"enabled": False}}, EVERYTHING), (CHANGES, without(EVERYTHING, spark_application=False))],
)
def test_without_a_job_nothing_of_it_is_there(changes: Mapping[str, Any], served: Any) -> None:
    """No account, role, ConfigMap or application."""
    names = [item["metadata"]["name"] for item in objects_with(dict(changes), served=served)]
    assert not [name for name in names if "analytics" in name]


def test_the_job_is_restarted_for_ever_and_never_at_once() -> None:
    """Other policies count over the job's whole life, and give up one day."""
    assert job()["spec"]["restartPolicy"] == {
        "type": "Always",
        "onFailureRetryInterval": 10,
        "onSubmissionFailureRetryInterval": 20,
    }


def test_no_setting_is_one_that_the_spark_operator_refuses() -> None:
    """Since 2.5.2 it refuses a job that sets its master, images, accounts or tokens by itself."""
    settings = job()["spec"]["sparkConf"]
    assert not [key for key in settings for part in DENIED if part.lower() in key.lower()]


def test_executors_hold_no_token() -> None:
    """Only the driver starts pods; the executors run under the account that may ask nothing."""
    spec = job()["spec"]
    tokens = {role: spec[role]["template"]["spec"]["automountServiceAccountToken"] for role in ("driver", "executor")}
    assert tokens == {"driver": True, "executor": False}
    assert (spec["driver"]["serviceAccount"], spec["executor"]["serviceAccount"]) == ("spot-analytics", "spot-services")


def test_a_driver_that_makes_no_progress_is_ended() -> None:
    """Spark knows a pod's phase alone: a failed probe ends the pod, and the Spark operator starts the job again."""
    (container,) = job()["spec"]["driver"]["template"]["spec"]["containers"]
    assert container["name"] == "spark-kubernetes-driver"
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["ports"] == [{"name": "http", "containerPort": 8083, "protocol": "TCP"}]


def test_progress_is_kept_where_the_feed_says() -> None:
    """On the claim's volume, in the object store, or nowhere."""
    claimed = job({"spec.analytics.checkpoint": {"volumeClaim": "progress"}})["spec"]
    volume = {"name": "checkpoint", "persistentVolumeClaim": {"claimName": "progress"}}
    assert volume in claimed["driver"]["template"]["spec"]["volumes"]
    assert "--checkpoint=/var/lib/marketfeed/checkpoint" in claimed["arguments"]
    stored = job({"spec.analytics.checkpoint": {"location": "s3a://bucket"}})["spec"]
    assert "--checkpoint=s3a://bucket" in stored["arguments"]
    assert "checkpoint" not in json.dumps(job()["spec"])


def test_an_overlay_reaches_the_pods_that_it_is_for() -> None:
    """The driver's overlay changes the driver alone."""
    overlay = {"podTemplate": {"spec": {"tolerations": [{"key": "spark"}]}}}
    spec = job({"spec.analytics.driver": overlay})["spec"]
    assert spec["driver"]["template"]["spec"]["tolerations"] == [{"key": "spark"}]
    assert "tolerations" not in spec["executor"]["template"]["spec"]
