"""Rendered objects: what each part of a feed becomes in a cluster."""

import json
from typing import Any

import pytest

from documents import SINK
from feeds import SECURITY
from marketfeed.settings import ConsumerSettings, IngestorSettings
from marketfeed_operator.objects import (
    APPLIED,
    CLAIM_PREFIX,
    FEED_LABEL,
    KAFKA_TOPIC_V1BETA2,
    POLICY,
    SECRETS,
    SHARD_LABEL,
    SINK_LABEL,
    STREAMS,
    Served,
)
from marketfeed_operator.plan import plan
from marketfeed_operator.render import Installation
from rendered_objects import EVERYTHING, UID, feed_with, named, objects_with, of_kind, without

BUSY = {"spec.symbols": ["BTCUSDT", "ETHUSDT", "BNBUSDT"], "spec.ingest": {"streamsPerShard": 1}}
SECURED = {"spec.kafka.security": SECURITY[3]}


def deployment(changes: dict[str, Any], name: str = "spot-ingestor-0", **options: Any) -> Any:
    """Return one Deployment of the usual document with these changes."""
    return named(objects_with(changes, **options), "Deployment", name)


def pod(changes: dict[str, Any], name: str = "spot-ingestor-0", **options: Any) -> Any:
    """Return the pods' spec of one Deployment."""
    return deployment(changes, name, **options)["spec"]["template"]["spec"]


def variables(container: Any) -> dict[str, str]:
    """Return the variables of a container that stand in its environment as they are."""
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}


def test_objects_come_before_what_needs_them() -> None:
    """Accounts, roles, ConfigMaps and topics stand before the pods that use them."""
    kinds = [item["kind"] for item in objects_with({**BUSY, "spec.analytics": {}})]
    assert list(dict.fromkeys(kinds)) == [
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ConfigMap",
        "KafkaTopic",
        "Service",
        "Deployment",
        "PodDisruptionBudget",
        "SparkApplication",
        "PodMonitor",
    ]


def test_a_feeds_own_objects_go_with_it() -> None:
    """Each object in the feed's namespace names the feed as its controller; topics name nobody."""
    for item in objects_with({"spec.analytics": {}}):
        owners = item["metadata"].get("ownerReferences")
        if item["kind"] == "KafkaTopic":
            assert owners is None
        else:
            assert [(owner["uid"], owner["controller"]) for owner in owners] == [(UID, True)]


def test_a_shards_process_reads_the_planned_settings_from_its_pod() -> None:
    """The container's variables, with those of its secrets, are the plan's settings."""
    feed = feed_with({**BUSY, **SECURED, "spec.kafka.producer": {"headers": ["a=b"]}})
    for shard in plan(feed).shards:
        made = pod({**BUSY, **SECURED, "spec.kafka.producer": {"headers": ["a=b"]}}, shard.name)
        assert IngestorSettings.from_env(variables(made["containers"][0]), str) == shard.settings


def test_no_variable_is_empty() -> None:
    """The API server drops an empty value, and a service takes it for an unset one: it is not written."""
    assert "" not in variables(pod({})["containers"][0]).values()
    assert IngestorSettings.from_env(variables(pod({})["containers"][0]), str) == plan(feed_with({})).shards[0].settings


def test_a_consumers_process_reads_the_planned_settings_from_its_pod() -> None:
    """With the connection string, which comes from the secret, they are complete."""
    made = pod({}, "spot-consumer-timescale")["containers"][0]
    assert {"name": "MARKETFEED_DSN", "valueFrom": {"secretKeyRef": {"name": "timescale", "key": "dsn"}}} in made["env"]
    read = ConsumerSettings.from_env({**variables(made), "MARKETFEED_DSN": "postgresql://db"}, str)
    assert read.topics == ("binance.trades",)


def test_secrets_are_mounted_as_directories_and_named_in_the_environment() -> None:
    """A file from a secret stands in a read-only directory, which follows the secret; a variable names its key."""
    made = pod(SECURED)
    assert {
        "name": "kafka-ca",
        "secret": {"secretName": "kafka.user", "items": [{"key": "authority.pem", "path": "ca.crt"}]},
    } in made["volumes"]
    mounts = made["containers"][0]["volumeMounts"]
    assert {"name": "kafka-ca", "mountPath": "/etc/marketfeed/kafka-ca", "readOnly": True} in mounts
    assert all("subPath" not in mount for mount in mounts)
    assert {
        "name": "KAFKA_SASL_PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "kafka.user", "key": "password"}},
    } in made["containers"][0]["env"]


def test_a_changed_secret_rolls_exactly_the_pods_that_read_it() -> None:
    """The pod template of the consumer changes with its own secret's version, and no other object does."""
    changes = {"spec.sinks": [SINK, {**SINK, "name": "other", "secretRef": {"name": "other", "key": "dsn"}}]}
    before = objects_with(changes, secrets={"timescale": "a:1", "other": "b:1"})
    after = objects_with(changes, secrets={"timescale": "a:1", "other": "b:2"})
    differing = [old for old, new in zip(before, after, strict=True) if old != new]
    assert [item["metadata"]["name"] for item in differing] == ["spot-consumer-other"]


def test_a_secret_that_appears_counts_as_changed() -> None:
    """A pod that waited for its secret is replaced once it is there; one without secrets says nothing of them."""
    before, after = (
        deployment({}, "spot-consumer-timescale", secrets=secrets)["spec"]["template"]["metadata"]["annotations"]
        for secrets in ({}, {"timescale": "a:1"})
    )
    assert before[SECRETS] != after[SECRETS]
    assert "annotations" not in deployment({})["spec"]["template"]["metadata"]


def test_a_shards_streams_stand_sorted_in_its_config_map() -> None:
    """The file is where the ingestor looks for it, and mounted as a directory, so that it follows the ConfigMap."""
    objects = objects_with({"spec.symbols": ["ETHUSDT", "BTCUSDT"]})
    streams = named(objects, "ConfigMap", "spot-ingestor-0")
    assert json.loads(streams["data"]["streams.json"]) == {"streams": ["BTCUSDT@trade", "ETHUSDT@trade"]}
    made = named(objects, "Deployment", "spot-ingestor-0")["spec"]["template"]
    assert {"name": "streams", "configMap": {"name": "spot-ingestor-0"}} in made["spec"]["volumes"]
    mount = {"name": "streams", "mountPath": "/etc/marketfeed/streams", "readOnly": True}
    assert mount in made["spec"]["containers"][0]["volumeMounts"]
    assert STREAMS not in made["metadata"].get("annotations", {})


def test_a_shard_that_leaves_is_rendered_like_the_others() -> None:
    """It has a Deployment and a ConfigMap with what it still holds, and differs from the others in its name alone."""
    holdings = {"spot-ingestor-0": frozenset({"BTCUSDT@trade"}), "spot-ingestor-7": frozenset({"ETHUSDT@trade"})}
    objects = objects_with({}, holdings=holdings)
    streams = named(objects, "ConfigMap", "spot-ingestor-7")["data"]["streams.json"]
    assert json.loads(streams) == {"streams": ["ETHUSDT@trade"]}
    stays, leaves = (named(objects, "Deployment", name) for name in holdings)
    assert json.dumps(leaves) == json.dumps(stays).replace("spot-ingestor-0", "spot-ingestor-7")


def test_a_shard_without_holdings_is_not_run() -> None:
    """What is to run is what the hand-over says, whatever the plan has."""
    objects = objects_with(BUSY, holdings={"spot-ingestor-1": frozenset({"BTCUSDT@trade"})})
    ingestors = [item["metadata"]["name"] for item in of_kind(objects, "Deployment")]
    assert ingestors == ["spot-ingestor-1", "spot-consumer-timescale"]


def test_selectors_know_no_uid() -> None:
    """A feed that is made anew takes over the Deployments of before, whose selectors cannot be changed."""
    shard, consumer = deployment({}), deployment({}, "spot-consumer-timescale")
    assert shard["spec"]["selector"]["matchLabels"] == {FEED_LABEL: "spot", SHARD_LABEL: "spot-ingestor-0"}
    assert consumer["spec"]["selector"]["matchLabels"] == {FEED_LABEL: "spot", SINK_LABEL: "timescale"}


@pytest.mark.parametrize("name", ["spot-ingestor-0", "spot-consumer-timescale"])
def test_a_pod_whose_dependencies_are_away_is_unready_and_never_restarted(name: str) -> None:
    """Startup and liveness ask whether the loop turns, readiness alone asks for more, all by the port's name."""
    container = pod({}, name)["containers"][0]
    asked = {kind: container[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {
        "startupProbe": {"path": "/livez", "port": "http"},
        "livenessProbe": {"path": "/livez", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }
    assert container["ports"][0]["name"] == "http"
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 120


@pytest.mark.parametrize("name", ["spot-ingestor-0", "spot-consumer-timescale"])
def test_a_pod_has_time_to_drain(name: str) -> None:
    """The grace period is longer than the longest drain that a service allows itself, 20 s."""
    assert pod({}, name)["terminationGracePeriodSeconds"] > 20


def test_a_new_pod_is_up_before_the_old_one_goes() -> None:
    """Rolling keeps a gap out of the streams."""
    assert deployment({})["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert deployment({})["spec"]["replicas"] == 1


def test_a_consumer_migrates_its_database_first() -> None:
    """The step gets the connection string and nothing else, under the consumer's own limits."""
    made = pod(SECURED, "spot-consumer-timescale")
    (step,) = made["initContainers"]
    assert step["command"] == ["marketfeed", "migrate"]
    assert [variable["name"] for variable in step["env"]] == ["MARKETFEED_DSN"]
    assert step["resources"] == made["containers"][0]["resources"]


def test_resources_have_defaults_that_grow_with_what_a_feed_buffers() -> None:
    """An ingestor's limit follows its queue, a consumer's its batch; processors are never limited."""
    usual = pod({})["containers"][0]["resources"]
    assert usual == {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    wide = pod({"spec.kafka.producer": {"queueBytes": 1 << 30}})["containers"][0]["resources"]
    assert wide["limits"] == {"memory": "2240Mi"}
    consumers = [
        pod({"spec.sinks.0.batch": {"rows": rows}}, "spot-consumer-timescale")["containers"][0]["resources"]
        for rows in (500, 100_000)
    ]
    assert [made["limits"] for made in consumers] == [{"memory": "512Mi"}, {"memory": "647Mi"}]


def test_resources_of_the_feed_replace_the_defaults() -> None:
    """No part of the defaults is left beside them, and quantities are written as the API server stores them."""
    made = pod({"spec.ingest.resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}})["containers"][0]
    assert made["resources"] == {"limits": {"cpu": "1", "memory": "1Gi"}}


def test_an_overlay_changes_pods_and_never_what_selects_them() -> None:
    """It adds and replaces what it names; the labels that we set stay, and so does the annotation of secrets."""
    labels = {FEED_LABEL: "another", "team": "market-data"}
    overlay = {
        "metadata": {"labels": labels, "annotations": {SECRETS: "none", "a": "b"}},
        "spec": {
            "priorityClassName": "high",
            "containers": [{"name": "consumer", "resources": {"limits": {"cpu": 2}}}],
        },
    }
    made = deployment({"spec.sinks.0.podTemplate": overlay}, "spot-consumer-timescale")
    template, usual = made["spec"]["template"], deployment({}, "spot-consumer-timescale")["spec"]["template"]
    assert template["metadata"]["labels"] == {**usual["metadata"]["labels"], "team": "market-data"}
    assert template["metadata"]["annotations"] == {**usual["metadata"]["annotations"], "a": "b"}
    assert template["spec"]["priorityClassName"] == "high"
    assert template["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "512Mi"}
    assert made["metadata"] == deployment({}, "spot-consumer-timescale")["metadata"]


@pytest.mark.parametrize("overlay", [{"spec": "x"}, {"metadata": []}, {"spec": {"containers": [1]}}, {"spec": None}])
def test_an_overlay_that_makes_no_sense_is_passed_on(overlay: Any) -> None:
    """The API server says what is wrong with it; rendering does not fail, and the labels stay."""
    template = deployment({"spec.ingest.podTemplate": overlay})["spec"]["template"]
    assert template["metadata"]["labels"][FEED_LABEL] == "spot"


def test_a_suspended_feed_runs_nothing_and_keeps_everything_else() -> None:
    """Replicas are 0, the streaming job is suspended, and no other object differs."""
    changes = {**BUSY, "spec.analytics": {}}
    running, suspended = objects_with(changes), objects_with({**changes, "spec.suspend": True})
    differing = [(old["kind"], new) for old, new in zip(running, suspended, strict=True) if old != new]
    assert [kind for kind, _ in differing] == ["Deployment"] * 4 + ["SparkApplication"]
    assert [new["spec"].get("replicas", new["spec"].get("suspend")) for _, new in differing] == [0, 0, 0, 0, True]


def test_topics_are_shared_by_feeds_and_claimed_by_each() -> None:
    """Nothing but the claim says whose a topic is; what becomes of it is an annotation."""
    topic = named(objects_with({}), "KafkaTopic", "binance.trades")
    assert topic["metadata"]["labels"].pop(CLAIM_PREFIX + UID).endswith("spot")
    assert topic["metadata"] == {
        "name": "binance.trades",
        "namespace": "kafka",
        "labels": {
            "app.kubernetes.io/managed-by": "marketfeed-operator",
            "app.kubernetes.io/name": "marketfeed",
            "app.kubernetes.io/component": "topic",
            "strimzi.io/cluster": "kafka",
        },
        "annotations": {POLICY: "Retain"},
    }
    assert topic["spec"] == {
        "partitions": 3,
        "replicas": 3,
        "config": {"retention.ms": 604_800_000, "min.insync.replicas": 2},
    }


def test_two_replicas_are_not_both_asked_for() -> None:
    """With fewer than three replicas, two in sync would stop the feed whenever one broker is away."""
    (topic, _) = of_kind(objects_with({"spec.kafka.topics": {"replicas": 2}}), "KafkaTopic")
    assert topic["spec"]["config"] == {"retention.ms": 604_800_000}


def test_a_topic_whose_name_is_no_resource_name_is_named_in_its_spec() -> None:
    """The resource has a legal name, and the topic the one that was asked for."""
    objects = objects_with({"spec.channels": ["bookTicker"]})
    (topic, _) = of_kind(objects, "KafkaTopic")
    assert (topic["metadata"]["name"], topic["spec"]["topicName"]) == (
        "binance.book-ticker-5e7053c4",
        "binance.book_ticker",
    )


def test_topics_are_written_in_the_version_that_is_served() -> None:
    """v1beta2 where Strimzi does not serve v1 yet."""
    older = objects_with({}, served=without(EVERYTHING, kafka_topic=KAFKA_TOPIC_V1BETA2))
    assert {item["apiVersion"] for item in of_kind(older, "KafkaTopic")} == {"kafka.strimzi.io/v1beta2"}


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({}, without(EVERYTHING, kafka_topic=None)),
        ({"spec.kafka.topics": {"provisioner": "direct"}}, EVERYTHING),
        ({"spec.kafka.enabled": False, "spec.sinks": []}, EVERYTHING),
    ],
)
def test_no_topic_is_written_where_strimzi_does_not_make_it(changes: dict[str, Any], served: Served) -> None:
    """Not without its API, not when the brokers are asked themselves, and not without Kafka."""
    assert of_kind(objects_with(changes, served=served), "KafkaTopic") == []


def test_a_cluster_without_any_added_api_gets_what_every_cluster_has() -> None:
    """Nothing is rendered that this API server does not know."""
    groups = {item["apiVersion"].rpartition("/")[0] for item in objects_with({"spec.analytics": {}}, served=Served())}
    assert groups == {"", "apps", "policy"}


def test_disruption_budgets_never_hold_up_a_drain() -> None:
    """One ready pod at a time may go, of all ingestors and of a sink's several replicas; unready ones at any time."""
    objects = objects_with({**BUSY, "spec.sinks": [{**SINK, "replicas": 2}, {**SINK, "name": "single"}]})
    budgets = of_kind(objects, "PodDisruptionBudget")
    assert [item["metadata"]["name"] for item in budgets] == ["spot-ingestor", "spot-consumer-timescale"]
    assert [item["spec"]["maxUnavailable"] for item in budgets] == [1, 1]
    assert all("minAvailable" not in item["spec"] for item in budgets)
    assert {item["spec"]["unhealthyPodEvictionPolicy"] for item in budgets} == {"AlwaysAllow"}


def test_services_find_every_pod_of_a_component() -> None:
    """Ready or not, and each by itself: they are for looking, not for balancing."""
    services = of_kind(objects_with({}), "Service")
    assert [item["metadata"]["name"] for item in services] == ["spot-ingestor", "spot-consumer"]
    for item in services:
        assert (item["spec"]["clusterIP"], item["spec"]["publishNotReadyAddresses"]) == ("None", True)


def test_a_feed_without_consumers_has_no_service_for_them() -> None:
    """Only what has pods is offered."""
    assert [item["metadata"]["name"] for item in of_kind(objects_with({"spec.sinks": []}), "Service")] == [
        "spot-ingestor"
    ]


def test_series_carry_their_feed_by_the_labels_that_alerts_count_by() -> None:
    """Prometheus makes feed, component, shard and sink of the pods' labels; what a service says of itself stays."""
    (monitor,) = of_kind(objects_with({}), "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True
    assert {each["targetLabel"]: each["sourceLabels"] for each in endpoint["relabelings"]} == {
        "feed": ["__meta_kubernetes_pod_label_marketfeed_dev_feed"],
        "component": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"],
        "shard": ["__meta_kubernetes_pod_label_marketfeed_dev_shard"],
        "sink": ["__meta_kubernetes_pod_label_marketfeed_dev_sink"],
    }


def test_nobody_but_the_streaming_jobs_driver_may_ask_the_api_server() -> None:
    """The account of ingestors and consumers has no role, and no pod of theirs a token."""
    objects = objects_with({"spec.analytics": {}})
    assert [item["automountServiceAccountToken"] for item in of_kind(objects, "ServiceAccount")] == [False, False]
    (binding,) = of_kind(objects, "RoleBinding")
    assert [subject["name"] for subject in binding["subjects"]] == ["spot-analytics"]
    for item in of_kind(objects, "Deployment"):
        spec = item["spec"]["template"]["spec"]
        assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("spot-services", False)


def test_the_driver_may_only_handle_pods_and_config_maps() -> None:
    """Not secrets, not services, not volume claims, and nothing outside its namespace."""
    (role,) = of_kind(objects_with({"spec.analytics": {}}), "Role")
    assert [rule["resources"] for rule in role["rules"]] == [["pods"], ["configmaps"]]
    assert all("*" not in rule["verbs"] for rule in role["rules"])


def test_the_installation_says_which_images_run_and_how_they_are_fetched() -> None:
    """Images, pull policy and pull secrets reach every pod."""
    installation = Installation("a/services:2", "a/analytics:2", "Always", ("registry",))
    objects = objects_with({"spec.analytics": {}}, installation=installation)
    for item in of_kind(objects, "Deployment"):
        spec = item["spec"]["template"]["spec"]
        containers = [*spec.get("initContainers", []), *spec["containers"]]
        assert {(made["image"], made["imagePullPolicy"]) for made in containers} == {("a/services:2", "Always")}
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
    (job,) = of_kind(objects, "SparkApplication")
    assert (job["spec"]["image"], job["spec"]["imagePullSecrets"]) == ("a/analytics:2", ["registry"])


def test_nothing_says_yet_what_was_applied() -> None:
    """That annotation is added by whoever compares."""
    assert APPLIED not in json.dumps(objects_with({"spec.analytics": {}}))
