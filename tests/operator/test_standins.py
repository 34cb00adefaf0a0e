"""The stand-ins on the real API server: what the operator's tests rely on when they rely on them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from controlplane import ControlPlane, crds
from controlplane.install import install
from helpers import wait_until
from standins import Standins
from standins.topic_operator import FINALIZER, Topic

WAIT_S = 10.0


class Cluster:
    """What a test does to the control plane, in one namespace."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.namespace = namespace
        self.kubectl = plane.kubectl

    def apply(self, manifest: Mapping[str, Any]) -> None:
        self.kubectl("apply", f"--namespace={self.namespace}", "--filename=-", input=json.dumps(manifest))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object, None where it is not there."""
        answer = self.kubectl(
            "get", kind, name, f"--namespace={self.namespace}", "--output=json", "--ignore-not-found"
        ).stdout
        found: dict[str, Any] | None = json.loads(answer) if answer else None
        return found

    def wait(self, kind: str, name: str, holds: Callable[[Any], object], what: str) -> dict[str, Any]:
        """Wait until something holds of an object, and return it."""
        found: dict[str, Any] = {}

        def look() -> bool:
            found.clear()
            found.update(self.get(kind, name) or {})
            return bool(found) and bool(holds(found))

        wait_until(look, WAIT_S, f"{kind} {name}: {what}", every_s=0.1)
        return found

    def wait_gone(self, kind: str, name: str) -> None:
        wait_until(lambda: self.get(kind, name) is None, WAIT_S, f"the end of {kind} {name}", every_s=0.1)

    def delete(self, kind: str, name: str) -> None:
        self.kubectl("delete", kind, name, f"--namespace={self.namespace}", "--wait=false")

    def annotate(self, kind: str, name: str, annotation: str) -> None:
        self.kubectl("annotate", kind, name, annotation, f"--namespace={self.namespace}", "--overwrite")

    def patch(self, kind: str, name: str, patch: Mapping[str, Any]) -> None:
        self.kubectl(
            "patch", kind, name, f"--namespace={self.namespace}", "--type=merge", f"--patch={json.dumps(patch)}"
        )


@pytest.fixture(scope="module")
def control_plane(quiet_control_plane: ControlPlane) -> ControlPlane:
    """Return the control plane where no other stand-ins work: two would be at odds over every pod."""
    return quiet_control_plane


@pytest.fixture
def standins(control_plane: ControlPlane, kafka_namespace: str) -> Iterator[Standins]:
    """Run all stand-ins."""
    with Standins(control_plane.kubeconfig, topic_namespace=kafka_namespace) as standins:
        yield standins


@pytest.fixture
def cluster(control_plane: ControlPlane, namespace: str) -> Cluster:
    """Return the test's namespace."""
    return Cluster(control_plane, namespace)


@pytest.fixture
def kafka(control_plane: ControlPlane, kafka_namespace: str) -> Cluster:
    """Return the namespace of the test's topics."""
    return Cluster(control_plane, kafka_namespace)


# -- nodes -----------------------------------------------------------------------------------------------------------


def pod(name: str, component: str = "ingestor", **spec: Any) -> dict[str, Any]:
    """Return a pod that mounts the ConfigMap `streams` when it is an ingestor."""
    container = {"name": "service", "image": "marketfeed/services:none", "ports": [{"containerPort": 8081}]}
    volumes = [{"name": "streams", "configMap": {"name": "streams"}}] if component == "ingestor" else []
    labels = {"app.kubernetes.io/component": component, "marketfeed.dev/shard": name, "test": "yes"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1, **spec},
    }


def streams(*names: str) -> dict[str, Any]:
    """Return the ConfigMap that ingestors mount."""
    data = {"streams.json": json.dumps({"streams": sorted(names)})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "streams"}, "data": data}


def secret(**data: str) -> dict[str, Any]:
    """Return the Secret of a sink."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"}, "stringData": data}


def condition(found: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition, one without a status where there is none."""
    conditions = found.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {"status": None})


def is_ready(found: Mapping[str, Any]) -> bool:
    """Tell whether a pod is ready."""
    return bool(condition(found, "Ready")["status"] == "True")


def waiting(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return why the first container waits."""
    statuses = found["status"].get("containerStatuses", [{"state": {}}])
    why: dict[str, Any] = statuses[0]["state"].get("waiting", {})
    return why


def ask(found: Mapping[str, Any], path: str) -> Any:
    """Return what a pod's service answers."""
    with urllib.request.urlopen(f"http://{found['status']['podIP']}:8081{path}", timeout=5) as answer:
        return json.loads(answer.read())


def test_a_deployment_becomes_available_and_its_pods_answer(cluster: Cluster, standins: Standins) -> None:
    """Pods are bound, run and ready, each at an address of its own with the figures of its own service."""
    cluster.apply(streams("BTCUSDT@trade", "ETHUSDT@trade"))
    one = pod("shard")
    template = {"metadata": {"labels": one["metadata"]["labels"]}, "spec": {**one["spec"]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"test": "yes"}}, "template": template}
    cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
    cluster.wait("deployment", "d", lambda d: d.get("status", {}).get("availableReplicas") == 2, "available")
    pods = json.loads(cluster.kubectl("get", "pods", f"--namespace={cluster.namespace}", "--output=json").stdout)
    assert len({found["status"]["podIP"] for found in pods["items"]}) == 2
    for found in pods["items"]:
        assert ask(found, "/stats")["streams"] == {"desired": 2, "subscribed": 2, "fresh": 2}
    assert standins.kubelet.carried("test=yes") == {"BTCUSDT@trade", "ETHUSDT@trade"}


def test_a_missing_secret_holds_a_container_back_until_it_is_there(cluster: Cluster, standins: Standins) -> None:
    """The kubelet's own words, for the Secret and then for its key; with both the container runs."""
    standins.kubelet.start_s = 0.0
    env = [{"name": "DSN", "valueFrom": {"secretKeyRef": {"name": "database", "key": "dsn"}}}]
    sink = pod("sink", "consumer")
    sink["spec"]["containers"][0]["env"] = env
    cluster.apply(sink)
    refused = cluster.wait("pod", "sink", waiting, "waiting")
    assert waiting(refused) == {"reason": "CreateContainerConfigError", "message": 'secret "database" not found'}
    assert refused["status"]["phase"] == "Pending"
    cluster.apply(secret(user="x"))
    lacks = f"couldn't find key dsn in Secret {cluster.namespace}/database"
    cluster.wait("pod", "sink", lambda found: waiting(found).get("message") == lacks, lacks)
    cluster.apply(secret(dsn="x"))
    assert ask(cluster.wait("pod", "sink", is_ready, "ready"), "/stats")["proof"]["missing"] == 0


def test_a_changed_config_map_arrives_late_or_with_a_change_of_the_pod(cluster: Cluster, standins: Standins) -> None:
    """Nothing moves before the kubelet's next look; an annotation of the pod makes it look at once."""
    cluster.apply(streams("A@trade"))
    cluster.apply(pod("shard"))
    shard = cluster.wait("pod", "shard", is_ready, "ready")
    cluster.apply(streams("B@trade"))
    time.sleep(1.0)  # nothing is to happen: the default is a minute
    assert ask(shard, "/streams") == {"desired": ["A@trade"], "carried": ["A@trade"]}
    cluster.annotate("pod", "shard", "marketfeed.dev/streams=1")
    wait_until(lambda: standins.kubelet.carried("shard") == {"B@trade"}, 2, "the new stream")
    standins.kubelet.sync_s = 0.5
    cluster.apply(streams("C@trade"))
    wait_until(lambda: standins.kubelet.carried("shard") == {"C@trade"}, 5, "the next look")


def test_a_held_shard_acknowledges_nothing_new(cluster: Cluster, standins: Standins) -> None:
    """It drops what it is to drop, is not ready for what it cannot get, and takes it when it is released."""
    standins.kubelet.sync_s = 0.1
    cluster.apply(streams("A@trade", "B@trade"))
    cluster.apply(pod("shard"))
    shard = cluster.wait("pod", "shard", is_ready, "ready")
    standins.kubelet.hold("marketfeed.dev/shard=shard")
    cluster.apply(streams("B@trade", "C@trade"))
    cluster.wait("pod", "shard", lambda found: not is_ready(found), "not ready")
    assert ask(shard, "/streams") == {"desired": ["B@trade", "C@trade"], "carried": ["B@trade"]}
    standins.kubelet.release("marketfeed.dev/shard=shard")
    cluster.wait("pod", "shard", is_ready, "ready again")
    assert standins.kubelet.carried("shard") == {"B@trade", "C@trade"}


@pytest.mark.parametrize("cause", ["ImagePullBackOff", "CrashLoopBackOff"])
def test_causes_stand_where_a_kubelet_writes_them_and_can_be_healed(
    cluster: Cluster, standins: Standins, cause: Any
) -> None:
    """The waiting reason names the cause, the pod is not ready, and without it all is well again."""
    standins.kubelet.fail("test=yes", cause, "what it said last", exit_code=2)
    cluster.apply(pod("sink", "consumer"))
    failed = cluster.wait("pod", "sink", lambda found: waiting(found).get("reason") == cause, cause)
    assert not is_ready(failed)
    if cause == "CrashLoopBackOff":
        last = failed["status"]["containerStatuses"][0]["lastState"]["terminated"]
        assert (last["exitCode"], last["message"]) == (2, "what it said last")
    standins.kubelet.heal("test=yes")
    cluster.wait("pod", "sink", is_ready, "healed")


def test_a_container_that_ran_out_of_memory_says_so(cluster: Cluster, standins: Standins) -> None:
    """Exit code 137 and OOMKilled stand in the last state."""
    standins.kubelet.fail("sink", "OOMKilled")
    cluster.apply(pod("sink", "consumer"))
    failed = cluster.wait("pod", "sink", waiting, "waiting")
    last = failed["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "OOMKilled")


def test_a_pod_that_no_node_takes_stays_unbound(cluster: Cluster, standins: Standins) -> None:
    """PodScheduled is False with the scheduler's reason, until it is healed."""
    standins.kubelet.fail("sink", "Unschedulable", "0/3 nodes are available: 3 Insufficient memory.")
    cluster.apply(pod("sink", "consumer"))
    found = cluster.wait("pod", "sink", lambda found: condition(found, "PodScheduled")["status"] == "False", "refused")
    assert condition(found, "PodScheduled")["reason"] == "Unschedulable"
    assert "nodeName" not in found["spec"]
    standins.kubelet.heal("sink")
    cluster.wait("pod", "sink", is_ready, "ready")


def test_a_failing_init_container_keeps_the_others_from_starting(cluster: Cluster, standins: Standins) -> None:
    """The init container waits with its last words, the service waits for it, and Initialized is False."""
    standins.kubelet.fail("sink", "CrashLoopBackOff", "no such database", container="migrate")
    migrate = {"name": "migrate", "image": "marketfeed/services:none"}
    cluster.apply(pod("sink", "consumer", initContainers=[migrate]))
    found = cluster.wait("pod", "sink", lambda found: waiting(found).get("reason") == "PodInitializing", "initializing")
    init = found["status"]["initContainerStatuses"][0]
    assert init["lastState"]["terminated"]["message"] == "no such database"
    assert condition(found, "Initialized")["status"] == "False"
    standins.kubelet.heal("sink")
    healed = cluster.wait("pod", "sink", is_ready, "ready")
    assert healed["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


def test_a_deleted_pod_goes_and_no_longer_answers(cluster: Cluster, standins: Standins) -> None:
    """The object goes without anybody's force, and its port is closed."""
    standins.kubelet.stop_s = 0.0
    cluster.apply(pod("sink", "consumer"))
    sink = cluster.wait("pod", "sink", is_ready, "ready")
    cluster.delete("pod", "sink")
    cluster.wait_gone("pod", "sink")
    with pytest.raises(urllib.error.URLError):
        ask(sink, "/stats")


def test_figures_are_what_a_test_wants_them_to_be(cluster: Cluster, standins: Standins) -> None:
    """Overridden figures are answered until they are taken back; a silenced pod hangs up."""
    cluster.apply(pod("sink", "consumer"))
    sink = cluster.wait("pod", "sink", is_ready, "ready")
    standins.kubelet.stats("sink", lag_seconds=90.0, proof=None)
    assert (ask(sink, "/stats")["lag_seconds"], ask(sink, "/stats")["proof"]) == (90.0, None)
    standins.kubelet.stats("sink")
    assert ask(sink, "/stats")["lag_seconds"] < 1
    standins.kubelet.silence("sink")
    with pytest.raises(OSError):  # noqa: PT011 - a broken connection has several names
        ask(sink, "/stats")


def test_nodes_at_rest_write_nothing(cluster: Cluster, standins: Standins) -> None:
    """A ready pod's resource version stays the same, also when the kubelet looks again."""
    cluster.apply(pod("sink", "consumer"))
    before = cluster.wait("pod", "sink", is_ready, "ready")
    standins.kubelet.heal("nothing")  # makes it look at every pod
    time.sleep(0.5)
    after = cluster.get("pod", "sink")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


# -- topics ----------------------------------------------------------------------------------------------------------


def topic(name: str, **spec: Any) -> dict[str, Any]:
    """Return a KafkaTopic that the stand-in looks after."""
    return {
        "apiVersion": "kafka.strimzi.io/v1beta2",
        "kind": "KafkaTopic",
        "metadata": {"name": name, "labels": {"strimzi.io/cluster": "kafka"}},
        "spec": {"partitions": 3, "replicas": 1, **spec},
    }


def settled(kind: str, reason: str | None = None) -> Callable[[Any], bool]:
    """Return whether a topic's status is of its present generation, and says this."""

    def holds(found: Any) -> bool:
        status, wanted = found.get("status", {}), condition(found, kind)
        return (
            status.get("observedGeneration") == found["metadata"]["generation"]
            and wanted["status"] is not None
            and wanted.get("reason") == reason
        )

    return holds


def test_a_topic_becomes_ready_and_exists(kafka: Cluster, standins: Standins) -> None:
    """It has the finalizer, its name and id, and the broker has it with its configuration."""
    kafka.apply(topic("trades", config={"retention.ms": 1000}))
    found = kafka.wait("kafkatopic", "trades", settled("Ready"), "ready")
    assert found["metadata"]["finalizers"] == [FINALIZER]
    made = standins.topics.topics["trades"]
    assert (made.partitions, made.replicas, made.config) == (3, 1, {"retention.ms": "1000"})
    assert (found["status"]["topicName"], found["status"]["topicId"]) == ("trades", made.id)


def test_a_topic_without_the_cluster_label_is_ignored(kafka: Cluster, standins: Standins) -> None:
    """Nothing is said of it and no topic is created, while a labelled one is served."""
    ignored = topic("ignored")
    del ignored["metadata"]["labels"]
    kafka.apply(ignored)
    kafka.apply(topic("seen"))
    kafka.wait("kafkatopic", "seen", settled("Ready"), "ready")
    assert "status" not in (kafka.get("kafkatopic", "ignored") or {})
    assert set(standins.topics.topics) == {"seen"}


@pytest.mark.parametrize("change", [{"partitions": 1}, {"replicas": 2}, {"topicName": "other"}])
def test_what_strimzi_cannot_change_is_not_supported(
    kafka: Cluster, standins: Standins, change: Mapping[str, Any]
) -> None:
    """Fewer partitions, other replicas and another name leave the topic as it was, and Ready False."""
    kafka.apply(topic("trades"))
    before = kafka.wait("kafkatopic", "trades", settled("Ready"), "ready")
    kafka.apply(topic("trades", **change))
    found = kafka.wait("kafkatopic", "trades", settled("Ready", "NotSupported"), "refused")
    assert condition(found, "Ready")["status"] == "False"
    assert found["status"]["topicId"] == before["status"]["topicId"]
    assert list(standins.topics.topics) == ["trades"]
    assert standins.topics.topics["trades"].partitions == 3


def test_partitions_grow(kafka: Cluster, standins: Standins) -> None:
    """More partitions are added to the topic that is there."""
    kafka.apply(topic("trades"))
    kafka.wait("kafkatopic", "trades", settled("Ready"), "ready")
    kafka.apply(topic("trades", partitions=6))
    kafka.wait("kafkatopic", "trades", settled("Ready"), "ready with more")
    assert standins.topics.topics["trades"].partitions == 6


def test_deleting_a_managed_topic_deletes_its_data(kafka: Cluster, standins: Standins) -> None:
    """The topic is gone with its resource; created again it is empty and has another id."""
    kafka.apply(topic("trades"))
    before = kafka.wait("kafkatopic", "trades", settled("Ready"), "ready")
    standins.topics.fill("trades")
    kafka.delete("kafkatopic", "trades")
    kafka.wait_gone("kafkatopic", "trades")
    assert standins.topics.topics == {}
    kafka.apply(topic("trades"))
    after = kafka.wait("kafkatopic", "trades", settled("Ready"), "ready again")
    assert after["status"]["topicId"] != before["status"]["topicId"]
    assert not standins.topics.topics["trades"].data


def test_an_unmanaged_topic_survives_its_resource(kafka: Cluster, standins: Standins) -> None:
    """With managed=false the condition is Unmanaged, name and id are cleared, and deletion leaves the data alone."""
    kafka.apply(topic("trades"))
    kafka.wait("kafkatopic", "trades", settled("Ready"), "ready")
    standins.topics.fill("trades")
    kafka.annotate("kafkatopic", "trades", "strimzi.io/managed=false")
    found = kafka.wait("kafkatopic", "trades", settled("Unmanaged"), "unmanaged")
    assert "topicId" not in found["status"]
    assert condition(found, "Ready")["status"] is None
    kafka.delete("kafkatopic", "trades")
    kafka.wait_gone("kafkatopic", "trades")
    assert standins.topics.topics["trades"].data


def test_a_paused_topic_is_left_as_it_is(kafka: Cluster, standins: Standins) -> None:
    """What is asked for while it is paused is done when it no longer is."""
    kafka.apply(topic("trades"))
    kafka.wait("kafkatopic", "trades", settled("Ready"), "ready")
    kafka.annotate("kafkatopic", "trades", "strimzi.io/pause-reconciliation=true")
    kafka.patch("kafkatopic", "trades", {"spec": {"partitions": 5}})
    kafka.wait("kafkatopic", "trades", settled("ReconciliationPaused"), "paused")
    assert standins.topics.topics["trades"].partitions == 3
    kafka.annotate("kafkatopic", "trades", "strimzi.io/pause-reconciliation=false")
    kafka.wait("kafkatopic", "trades", settled("Ready"), "ready")
    assert standins.topics.topics["trades"].partitions == 5


def test_of_two_resources_for_a_topic_the_older_wins(kafka: Cluster, standins: Standins) -> None:
    """The younger has a ResourceConflict that names the older, and its deletion leaves the topic alone."""
    kafka.apply(topic("older", topicName="trades"))
    kafka.wait("kafkatopic", "older", settled("Ready"), "ready")
    kafka.apply(topic("younger", topicName="trades"))
    found = kafka.wait("kafkatopic", "younger", settled("Ready", "ResourceConflict"), "in conflict")
    assert condition(found, "Ready")["message"] == f"Managed by Ref{{namespace='{kafka.namespace}', name='older'}}"
    kafka.delete("kafkatopic", "younger")
    kafka.wait_gone("kafkatopic", "younger")
    assert "trades" in standins.topics.topics


def test_deleting_the_loser_of_a_conflict_may_delete_the_data(kafka: Cluster, standins: Standins) -> None:
    """One that got the finalizer before it lost, as an unmanaged one does, takes the other's topic with it."""
    kafka.apply(topic("older", topicName="trades"))
    kafka.wait("kafkatopic", "older", settled("Ready"), "ready")
    unmanaged = topic("younger", topicName="trades")
    unmanaged["metadata"]["annotations"] = {"strimzi.io/managed": "false"}
    kafka.apply(unmanaged)
    kafka.wait("kafkatopic", "younger", settled("Unmanaged"), "unmanaged")
    kafka.annotate("kafkatopic", "younger", "strimzi.io/managed=true")
    kafka.wait("kafkatopic", "younger", settled("Ready", "ResourceConflict"), "in conflict")
    standins.topics.fill("trades")
    kafka.delete("kafkatopic", "younger")
    kafka.wait_gone("kafkatopic", "younger")
    again = kafka.wait("kafkatopic", "older", lambda _: True, "still there")
    assert again["status"]["topicName"] == "trades"
    assert not standins.topics.topics.get("trades", Topic(1, 1)).data


def test_without_the_topic_operator_a_topic_hangs_in_its_deletion(kafka: Cluster, standins: Standins) -> None:
    """The finalizer holds it until the operator is back."""
    kafka.apply(topic("trades"))
    kafka.wait("kafkatopic", "trades", settled("Ready"), "ready")
    standins.topics.stop()
    kafka.delete("kafkatopic", "trades")
    time.sleep(0.5)
    assert "deletionTimestamp" in (kafka.get("kafkatopic", "trades") or {})["metadata"]
    standins.topics.start()
    kafka.wait_gone("kafkatopic", "trades")


def test_a_broker_that_is_away_is_a_kafka_error(kafka: Cluster, standins: Standins) -> None:
    """Ready is False with KafkaError, also in a deletion, which ends when the broker is back."""
    standins.topics.break_broker("no brokers")
    kafka.apply(topic("trades"))
    found = kafka.wait("kafkatopic", "trades", settled("Ready", "KafkaError"), "failed")
    assert condition(found, "Ready")["message"] == "no brokers"
    kafka.delete("kafkatopic", "trades")
    standins.topics.mend_broker()
    kafka.wait_gone("kafkatopic", "trades")


def test_a_full_pass_writes_nothing_where_nothing_changed(kafka: Cluster, standins: Standins) -> None:
    """Many passes leave a topic's resource version as it was."""
    kafka.apply(topic("trades"))
    before = kafka.wait("kafkatopic", "trades", settled("Ready"), "ready")
    standins.topics.stop()
    standins.topics.pass_s = 0.05
    standins.topics.start()
    time.sleep(1.2)
    after = kafka.get("kafkatopic", "trades")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


# -- the streaming job -----------------------------------------------------------------------------------------------


def job(**spec: Any) -> dict[str, Any]:
    """Return a streaming job that is restarted for ever."""
    driver = {"labels": {"marketfeed.dev/spec-hash": "one"}, "annotations": {"marketfeed.dev/nudge": "0"}}
    return {
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "SparkApplication",
        "metadata": {"name": "job", "labels": {"marketfeed.dev/feed": "spot"}},
        "spec": {
            "type": "Python",
            "sparkVersion": "3.5.1",
            "image": "marketfeed/analytics:none",
            "mainApplicationFile": "local:///opt/job.py",
            "restartPolicy": {"type": "Always", "onFailureRetryInterval": 1, "onSubmissionFailureRetryInterval": 1},
            "driver": driver,
            "executor": {"instances": 1},
            **spec,
        },
    }


def in_state(state: str) -> Callable[[Any], bool]:
    """Return whether an application is in a state."""
    return lambda found: found.get("status", {}).get("applicationState", {}).get("state") == state


def submission(found: Mapping[str, Any]) -> str:
    """Return the id of the application's last submission."""
    text: str = found["status"]["submissionID"]
    return text


def test_a_job_runs_with_its_driver(cluster: Cluster, standins: Standins) -> None:
    """RUNNING means a running driver pod with the job's labels and annotations, owned by the application."""
    cluster.apply(job())
    app = cluster.wait("sparkapplication", "job", in_state("RUNNING"), "running")
    driver = cluster.get("pod", "job-driver")
    assert driver is not None
    labels = driver["metadata"]["labels"]
    assert (labels["spark-role"], labels["sparkoperator.k8s.io/app-name"]) == ("driver", "job")
    assert (labels["marketfeed.dev/spec-hash"], labels["marketfeed.dev/feed"]) == ("one", "spot")
    assert labels["sparkoperator.k8s.io/submission-id"] == submission(app)
    assert driver["metadata"]["annotations"] == {"marketfeed.dev/nudge": "0"}
    assert "ownerReferences" not in driver["metadata"], "only the webhook gives it one"
    assert "conditions" not in app["status"]
    assert standins.spark.grace_s > 0


def test_a_driver_whose_image_cannot_be_pulled_is_submitted_for_ever(cluster: Cluster, standins: Standins) -> None:
    """The application's state stays SUBMITTED and says nothing; only the pod tells."""
    standins.spark.grace_s = 0.2
    standins.kubelet.fail("spark-role=driver", "ImagePullBackOff")
    cluster.apply(job())
    cluster.wait("pod", "job-driver", lambda found: waiting(found).get("reason") == "ImagePullBackOff", "no image")
    time.sleep(0.5)
    app = cluster.get("sparkapplication", "job")
    assert app is not None
    assert app["status"]["applicationState"] == {"state": "SUBMITTED", "errorMessage": ""}


def test_a_failed_driver_is_started_again(cluster: Cluster, standins: Standins) -> None:
    """The error is in the status until the next submission, which has another id and one more attempt."""
    cluster.apply(job())
    before = cluster.wait("sparkapplication", "job", in_state("RUNNING"), "running")
    standins.spark.end_driver(cluster.namespace, "job", exit_code=3)
    after = cluster.wait(
        "sparkapplication",
        "job",
        lambda found: in_state("RUNNING")(found) and submission(found) != submission(before),
        "running again",
    )
    assert after["status"]["executionAttempts"] == 2


def test_without_a_restart_policy_a_failure_is_final(cluster: Cluster, standins: Standins) -> None:
    """FAILED keeps the driver's exit code, and nothing is tried again."""
    cluster.apply(job(restartPolicy={"type": "Never"}))
    cluster.wait("sparkapplication", "job", in_state("RUNNING"), "running")
    standins.spark.end_driver(cluster.namespace, "job", exit_code=3)
    app = cluster.wait("sparkapplication", "job", in_state("FAILED"), "failed")
    assert app["status"]["applicationState"]["errorMessage"].endswith("ExitCode: 3, Reason: Error")


def test_a_lost_driver_is_a_failure(cluster: Cluster, standins: Standins) -> None:
    """A driver that was deleted by hand is missed, and the job is started again."""
    cluster.apply(job())
    before = cluster.wait("sparkapplication", "job", in_state("RUNNING"), "running")
    standins.kubelet.stop_s = 0.0
    cluster.delete("pod", "job-driver")
    cluster.wait(
        "sparkapplication",
        "job",
        lambda found: in_state("RUNNING")(found) and submission(found) != submission(before),
        "running again",
    )


def test_a_changed_spec_starts_the_job_anew(cluster: Cluster, standins: Standins) -> None:
    """The new driver has the new label, and the attempts count from one."""
    cluster.apply(job())
    cluster.wait("sparkapplication", "job", in_state("RUNNING"), "running")
    cluster.patch("sparkapplication", "job", {"spec": {"driver": {"labels": {"marketfeed.dev/spec-hash": "two"}}}})
    cluster.wait(
        "pod",
        "job-driver",
        lambda found: found["metadata"]["labels"]["marketfeed.dev/spec-hash"] == "two",
        "the new one",
    )
    app = cluster.wait("sparkapplication", "job", in_state("RUNNING"), "running")
    assert (app["status"]["executionAttempts"], standins.spark.interval_scale) == (1, 1.0)


@pytest.mark.parametrize("how", ["stopped", "missed"])
def test_a_spec_change_is_lost_while_nobody_looks(cluster: Cluster, standins: Standins, how: str) -> None:
    """The old driver goes on running, until the next change is seen."""
    cluster.apply(job())
    before = cluster.wait("sparkapplication", "job", in_state("RUNNING"), "running")
    if how == "stopped":
        standins.spark.stop()
    else:
        standins.spark.miss_next_update()
    cluster.patch("sparkapplication", "job", {"spec": {"driver": {"labels": {"marketfeed.dev/spec-hash": "two"}}}})
    if how == "stopped":
        standins.spark.start()
    time.sleep(1.0)  # nothing is to happen
    app = cluster.get("sparkapplication", "job")
    assert app is not None
    assert submission(app) == submission(before)
    cluster.patch("sparkapplication", "job", {"spec": {"driver": {"annotations": {"marketfeed.dev/nudge": "1"}}}})
    cluster.wait(
        "pod",
        "job-driver",
        lambda found: found["metadata"]["labels"]["marketfeed.dev/spec-hash"] == "two",
        "the new one",
    )


def test_a_refused_submission_is_tried_again(cluster: Cluster, standins: Standins) -> None:
    """SUBMISSION_FAILED has the reason; when submissions are accepted the job runs."""
    standins.spark.refuse_submissions("job", "no service account")
    cluster.apply(job())
    app = cluster.wait("sparkapplication", "job", in_state("SUBMISSION_FAILED"), "refused")
    assert app["status"]["applicationState"]["errorMessage"].endswith("no service account")
    standins.spark.accept_submissions("job")
    standins.spark.interval_scale = 0.1
    cluster.wait("sparkapplication", "job", in_state("RUNNING"), "running")


def test_a_suspended_job_has_no_driver(own_control_plane: ControlPlane) -> None:
    """Where the definition has `suspend`, the driver goes with it and comes back with its end."""
    plane, name = own_control_plane, "sparkapplications.sparkoperator.k8s.io"
    install(plane, [crds.spark_application()])
    where = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/suspend"
    patch = [{"op": "add", "path": where, "value": {"type": "boolean"}}]
    plane.kubectl("patch", "crd", name, "--type=json", f"--patch={json.dumps(patch)}")
    cluster = Cluster(plane, "default")
    with Standins(plane.kubeconfig):
        cluster.apply(job(suspend=True))
        cluster.wait("sparkapplication", "job", in_state("SUSPENDED"), "suspended")
        assert cluster.get("pod", "job-driver") is None
        cluster.patch("sparkapplication", "job", {"spec": {"suspend": False}})
        cluster.wait("sparkapplication", "job", in_state("RUNNING"), "running")
        cluster.patch("sparkapplication", "job", {"spec": {"suspend": True}})
        cluster.wait("sparkapplication", "job", in_state("SUSPENDED"), "suspended again")
        cluster.wait_gone("pod", "job-driver")
