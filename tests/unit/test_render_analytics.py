"""The streaming job: what makes it another one, and what it takes over while it runs."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from feeds import SECURITY
from marketfeed.analytics import thresholds
from marketfeed.settings import AnalyticsSettings
from marketfeed_operator.objects import NUDGE, SECRETS, SPEC_HASH
from rendered_objects import EVERYTHING, named, objects_with, of_kind, without

CHANGES: Mapping[str, Any] = {"spec.analytics.enabled": True}
DENIED = ("master", "image", "serviceAccountName", "oauth", "namespace")


def job(changes: Mapping[str, Any] = CHANGES, **options: Any) -> Any:
    """Return the job of the usual document with analytics and these changes."""
    return named(objects_with({**CHANGES, **changes}, **options), "SparkApplication", "spot-analytics")


def pod(made: Any, role: str) -> Any:
    """Return the spec of the role's pods."""
    return made["spec"][role]["template"]["spec"]


def variables(spec: Any) -> dict[str, Any]:
    """Return the variables of the pod's container: their values, or where these come from."""
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in spec["containers"][0].get("env", ())}


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
    written = named(objects, "ConfigMap", "spot-analytics")["data"]["thresholds.json"]
    assert json.loads(written) == {"volatility": 0.01, "volumeSpike": 4, "spread": 2}
    spec = pod(named(objects, "SparkApplication", "spot-analytics"), "driver")
    assert {"name": "thresholds", "configMap": {"name": "spot-analytics"}} in spec["volumes"]
    mount = {"name": "thresholds", "mountPath": "/etc/marketfeed/thresholds", "readOnly": True}
    assert mount in spec["containers"][0]["volumeMounts"]
    assert variables(spec)["MARKETFEED_THRESHOLDS_FILE"] == "/etc/marketfeed/thresholds/thresholds.json"


def test_the_thresholds_are_those_that_the_job_can_read() -> None:
    """What the ConfigMap holds is read back by the job's own reader."""
    objects = objects_with({"spec.analytics": {"alerts": {"volatility": 0.01, "volumeSpike": 4, "spread": 2}}})
    read = thresholds.parse(named(objects, "ConfigMap", "spot-analytics")["data"]["thresholds.json"])
    assert read == thresholds.Thresholds(Decimal("0.01"), Decimal(4), Decimal(2))


def test_the_driver_is_told_what_its_settings_read() -> None:
    """Its environment is the plan's settings, and the connection string from the secret."""
    told = variables(pod(job(), "driver"))
    assert told.pop("MARKETFEED_DSN") == {"secretKeyRef": {"name": "timescale", "key": "dsn"}}
    read = AnalyticsSettings.from_env({**told, "MARKETFEED_DSN": "postgresql://"}, pytest.fail)
    assert read.to_env() == told
    assert (read.feed, read.trade_topic, read.http.port) == ("spot", "binance.trades", 8083)


def test_executors_hold_no_secret() -> None:
    """The driver tells them where the brokers are and how connections are secured; the database is the driver's."""
    spec = pod(job({"spec.kafka.security": SECURITY[-1]}), "executor")
    assert variables(spec) == {}
    assert not [volume for volume in spec["volumes"] if "secret" in volume]


def test_a_role_asks_for_the_processor_that_the_feed_says() -> None:
    """A driver waits most of the time; without a word it asks for whole cores."""
    spec = job({"spec.analytics.driver": {"coreRequest": "200m"}})["spec"]
    assert (spec["driver"]["coreRequest"], spec["driver"]["cores"]) == ("200m", 1)
    assert "coreRequest" not in spec["executor"]


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


@pytest.mark.parametrize(
    ("checkpoint", "folder", "source"),
    [
        (
            {"volumeClaim": "progress"},
            "/var/lib/marketfeed/checkpoint",
            {"persistentVolumeClaim": {"claimName": "progress"}},
        ),
        ({"location": "s3a://bucket"}, "s3a://bucket", None),
        ({}, "/var/lib/marketfeed/checkpoint", {"emptyDir": {}}),
    ],
)
def test_progress_is_kept_where_the_feed_says(
    checkpoint: dict[str, str], folder: str, source: dict[str, Any] | None
) -> None:
    """On the claim's volume, in the object store, or as long as the pod; executors keep their part of it there too."""
    made = job({"spec.analytics.checkpoint": checkpoint})
    assert variables(pod(made, "driver"))["MARKETFEED_CHECKPOINT"] == folder
    for role in ("driver", "executor"):
        spec = pod(made, role)
        volumes = [volume for volume in spec["volumes"] if volume["name"] == "checkpoint"]
        assert volumes == ([] if source is None else [{"name": "checkpoint", **source}])
        mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounts.get("checkpoint") == (None if source is None else folder)


def test_the_claims_volume_is_writable_for_the_pods() -> None:
    """A new volume belongs to root: its group becomes the one of the image's user."""
    claimed = job({"spec.analytics.checkpoint": {"volumeClaim": "progress"}})
    for role in ("driver", "executor"):
        assert pod(claimed, role)["securityContext"]["fsGroup"] == 65532
        assert "fsGroup" not in pod(job(), role)["securityContext"]


def test_an_overlay_reaches_the_pods_that_it_is_for() -> None:
    """The driver's overlay changes the driver alone."""
    overlay = {"podTemplate": {"spec": {"tolerations": [{"key": "spark"}]}}}
    spec = job({"spec.analytics.driver": overlay})["spec"]
    assert spec["driver"]["template"]["spec"]["tolerations"] == [{"key": "spark"}]
    assert "tolerations" not in spec["executor"]["template"]["spec"]
