"""What a feed's status says of what is seen, and that it is written only when there is something new to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed_operator.changes import ChangeClass, Difference
from marketfeed_operator.crd import definition
from marketfeed_operator.handover import HandOver, Move
from marketfeed_operator.objects import COMPONENT, COMPONENT_ANALYTICS, KAFKA_TOPIC_V1, Key, Manifest, Served, key_of
from marketfeed_operator.observed import DirectTopics, Observed, Sample
from marketfeed_operator.outcome import Outcome
from marketfeed_operator.spark import Verdict
from marketfeed_operator.status import figures_due_s, make
from marketfeed_operator.status.conditions import LONGEST_MESSAGE, PASSING, TYPES, of
from marketfeed_operator.status.flow import coarse
from marketfeed_operator.status.symptoms import reason_of
from observations import (
    CONSUMER_STATS,
    INGESTOR_STATS,
    NOW,
    PROOF,
    SHARD,
    SINK,
    deployment,
    feed,
    healthy,
    later,
    outcome,
    pod,
    sample,
    stamp,
    topic,
)

STATUS_S = 30.0
TRADES = Key("kafka.strimzi.io", "KafkaTopic", "kafka", "binance.trades")
ANALYTICS: dict[str, Any] = {"spec.analytics": {"checkpoint": {"location": "s3a://b/p"}}}
CRASH = {
    "name": "service",
    "ready": False,
    "restartCount": 4,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {
        "terminated": {"exitCode": 2, "message": "postgresql://feed:s3cr3t@db: MARKETFEED_TOPICS is not set"}
    },
}


def made(observed: Observed, result: Outcome | None = None, now: datetime = NOW) -> Mapping[str, Any]:
    """Return the status of what is observed, by default after a reconciliation in which all went well."""
    return make(observed, result or outcome(observed.feed), now, STATUS_S)


def said(status: Mapping[str, Any], type_: str) -> tuple[str, str]:
    """Return status and reason of a condition."""
    condition = of(status, type_)
    assert condition is not None
    return condition["status"], condition["reason"]


def message(status: Mapping[str, Any], type_: str) -> str:
    """Return the message of a condition."""
    condition = of(status, type_)
    assert condition is not None
    return str(condition["message"])


def again(observed: Observed, status: Mapping[str, Any]) -> Observed:
    """Return the same sight after the status was written."""
    return replace(observed, feed={**observed.feed, "status": status})


def sampled(observed: Observed, owner: str, stats: Mapping[str, Any] | None, problem: str | None = None) -> Observed:
    """Return the sight with another sample of a Deployment's pod."""
    return replace(observed, samples={**observed.samples, f"{owner}-x": sample(owner, stats, problem)})


def test_a_feed_of_which_all_is_well() -> None:
    """Every field of the status of a healthy feed, as people and columns read it."""
    status = made(healthy(feed()))
    assert {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]} == {
        "Ready": ("True", "AllReady"),
        "TopicsReady": ("True", "AllReady"),
        "IngestReady": ("True", "AllReady"),
        "DataFlowing": ("True", "Flowing"),
        "Complete": ("True", "Proven"),
        "SinksReady": ("True", "AllReady"),
        "AnalyticsReady": ("True", "Off"),
        "Suspended": ("False", "NotSuspended"),
    }
    assert {name: value for name, value in status.items() if name != "conditions"} == {
        "observedGeneration": 3,
        "symbols": 1,
        "shards": {
            "desired": 1,
            "ready": 1,
            "streams": 1,
            "summary": "1/1",
            "selector": "app.kubernetes.io/component=ingestor,marketfeed.dev/feed=spot",
        },
        "topics": [{"name": "binance.trades", "ready": True}, {"name": "binance.dlq", "ready": True}],
        "sinks": [{"name": "timescale", "type": "timescaledb", "desired": 1, "ready": 1}],
        "sinksSummary": "1/1",
        "analytics": "Off",
        "sampled": {"at": stamp(NOW), "messagesPerSecond": 4100, "lagSeconds": 0.8, "openGaps": 0},
    }


def test_a_feed_is_reconciling_before_it_was_looked_at() -> None:
    """The first status has every condition Unknown, and claims to have seen no generation."""
    status = made(healthy(feed()), Outcome())
    assert [one["type"] for one in status["conditions"]] == list(TYPES)
    assert {(one["status"], one["reason"]) for one in status["conditions"]} == {("Unknown", "Reconciling")}
    assert status["observedGeneration"] == -1


def test_a_spec_that_cannot_be_used_says_so_and_keeps_the_rest() -> None:
    """Ready says what to write; the other conditions stay, with the generation that they were said of."""
    good = made(healthy(feed()))
    body = {**feed(status=good), "metadata": {**feed()["metadata"], "generation": 4}}
    status = made(replace(healthy(feed()), feed=body), Outcome(problem="spec.symbols: list one\n" + "x" * 5000))
    assert said(status, "Ready") == ("False", "InvalidSpec")
    assert message(status, "Ready").startswith("spec.symbols: list one")
    assert len(message(status, "Ready")) <= LONGEST_MESSAGE
    assert of(status, "TopicsReady") == of(good, "TopicsReady")
    assert (status["observedGeneration"], status["shards"]) == (4, good["shards"])


@pytest.mark.parametrize(
    ("live", "reason"),
    [
        (topic("binance.trades", seen=None), "Waiting"),
        (topic("binance.trades", generation=2), "Waiting"),
        (topic("binance.trades", deletionTimestamp="2026-11-21T14:00:00Z"), "Deleting"),
        (
            topic("binance.trades", {"type": "Ready", "status": "False", "reason": "NotSupported", "message": "fewer"}),
            "NotSupported",
        ),
        (topic("binance.trades", {"type": "Ready", "status": "False", "reason": "KafkaError"}), "KafkaError"),
        (
            topic("binance.trades", {"type": "Ready", "status": "False", "reason": "ResourceConflict"}),
            "ResourceConflict",
        ),
        (topic("binance.trades", {"type": "ReconciliationPaused", "status": "True"}), "ReconciliationPaused"),
    ],
)
def test_strimzi_s_word_on_a_topic_is_lifted(live: Manifest, reason: str) -> None:
    """The topic, the condition and Ready all bear the reason that Strimzi gave, or why it has not spoken."""
    status = made(healthy(feed(), live))
    assert status["topics"][0]["ready"] is False
    assert status["topics"][0]["reason"] == reason
    assert said(status, "TopicsReady") == ("False", reason)
    assert said(status, "Ready") == ("False", reason)
    assert "topic binance.trades: " in message(status, "Ready")


@pytest.mark.parametrize(
    ("live", "reason"),
    [
        (topic("binance.trades", annotations={"strimzi.io/managed": "false"}), "Unmanaged"),
        (
            topic(
                "binance.trades",
                {"type": "Ready", "status": "True"},
                {"type": "Warning", "status": "True", "message": "InvalidConfig"},
            ),
            "Warning",
        ),
    ],
)
def test_a_remark_on_a_topic_does_not_make_it_unready(live: Manifest, reason: str) -> None:
    """The user's own mark and Strimzi's warnings are shown beside a topic that is ready."""
    status = made(healthy(feed(), live))
    assert status["topics"][0]["ready"] is True
    assert status["topics"][0]["reason"] == reason
    assert said(status, "TopicsReady") == ("True", "AllReady")


@pytest.mark.parametrize(
    ("sentence", "claims", "reason"),
    [
        ("feed other wants the topic binance.trades otherwise", {"u1": "spot", "u2": "other"}, "TopicConflict"),
        ("Apply failed with 1 conflict: .spec.partitions", {"u1": "spot"}, "TopicConflict"),
        ("spec.partitions: Invalid value: 0", {"u1": "spot"}, "Refused"),
    ],
)
def test_a_refused_topic_says_who_refused_it(sentence: str, claims: dict[str, str], reason: str) -> None:
    """Another feed's wish is a conflict, the API server's no is a refusal; both are quoted."""
    live = topic("binance.trades", labels={f"claim.marketfeed.dev/{uid}": name for uid, name in claims.items()})
    status = made(healthy(feed(), live, failures={TRADES: sentence}))
    assert said(status, "TopicsReady") == ("False", reason)
    assert sentence in message(status, "TopicsReady")


def test_topics_without_strimzi_without_kafka_and_without_a_resource() -> None:
    """Each way of having no KafkaTopic is told apart."""
    assert said(made(healthy(feed(), served=Served())), "TopicsReady") == ("False", "NotServed")
    assert said(made(healthy(feed(), without=["binance.dlq"])), "TopicsReady") == ("False", "Waiting")
    console = {"spec.kafka.enabled": False, "spec.sinks": [{"name": "out", "type": "stdout"}]}
    assert said(made(healthy(feed(console))), "TopicsReady") == ("True", "KafkaDisabled")


def test_a_topic_with_another_resource_name_is_found_by_its_own() -> None:
    """spec.topicName counts where the resource could not bear the topic's name."""
    renamed = topic("binance-trades-1")
    live = {**renamed, "spec": {**renamed["spec"], "topicName": "binance.trades"}}
    assert said(made(healthy(feed(), live, without=["binance.trades"])), "TopicsReady")[0] == "True"


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (None, "Waiting"),
        (DirectTopics(at=1.0, names=frozenset({"binance.dlq"})), "Waiting"),
        (DirectTopics(at=1.0, problem="replication factor 3 with 1 broker"), "KafkaError"),
        (DirectTopics(at=1.0, names=frozenset({"binance.dlq", "binance.trades"})), "AllReady"),
    ],
)
def test_direct_topics_are_judged_by_what_the_brokers_said(seen: DirectTopics | None, reason: str) -> None:
    """No KafkaTopic is looked for where the feed asks the brokers itself."""
    body = feed({"spec.kafka.topics.provisioner": "direct"})
    assert said(made(healthy(body, served=Served(), direct=seen)), "TopicsReady")[1] == reason


def rolling(name: str) -> Manifest:
    """Return a Deployment whose old pod is available beside a new one that is not."""
    found = deployment(name)
    return {**found, "status": {**found["status"], "replicas": 2}}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (deployment(SHARD, available=0), "Progressing"),
        (deployment(SHARD, updatedReplicas=0), "Progressing"),
        (rolling(SHARD), "Progressing"),
        (deployment(SHARD, observedGeneration=1), "Progressing"),
        (deployment(SHARD, replicas=0), "Progressing"),
    ],
)
def test_a_deployment_counts_in_its_present_generation_only(other: Manifest, reason: str) -> None:
    """Pods of an earlier template, or counts of an earlier generation, do not make a shard ready."""
    status = made(healthy(feed(), other))
    assert said(status, "IngestReady") == ("False", reason)
    assert status["shards"]["summary"] == "0/1"
    assert said(status, "Ready") == ("False", reason)


def test_a_pod_s_cause_reaches_ready_without_its_secrets() -> None:
    """The last words of a crashed consumer stand in SinksReady and Ready, the password of its database does not."""
    sight = healthy(feed(), deployment(SINK, available=0), pods=(pod(SHARD), pod(SINK, containers=[CRASH])))
    status = made(sight)
    assert said(status, "SinksReady") == said(status, "Ready") == ("False", "BadConfiguration")
    assert "MARKETFEED_TOPICS is not set" in message(status, "Ready")
    assert "s3cr3t" not in str(status)
    assert status["sinks"][0]["ready"] == 0
    assert status["sinksSummary"] == "0/1"


def test_a_service_s_own_problem_is_told_where_the_kubelet_has_none() -> None:
    """A pod that runs and is not ready says itself why."""
    sight = sampled(
        healthy(feed(), deployment(SINK, available=0)), SINK, CONSUMER_STATS, "database: too many connections"
    )
    status = made(sight)
    assert said(status, "SinksReady") == ("False", "DatabaseUnavailable")
    assert "database: too many connections" in message(status, "SinksReady")
    geo = "no connection to binance: HTTP 451: the venue does not serve this country; use another endpoint"
    status = made(sampled(healthy(feed(), deployment(SHARD, available=0)), SHARD, INGESTOR_STATS, geo))
    assert (
        said(status, "IngestReady") == said(status, "DataFlowing") == said(status, "Ready") == ("False", "GeoBlocked")
    )


def test_a_missing_secret_is_named_with_its_key() -> None:
    """The message is what to create, for the part that reads it."""
    status = made(healthy(feed(), secrets={"timescale": None}))
    assert said(status, "SinksReady") == ("False", "SecretMissing")
    assert "Secret timescale is missing: create it with key dsn" in message(status, "SinksReady")
    assert said(status, "IngestReady")[0] == "True"


def test_the_secrets_of_the_brokers_concern_the_ingestors_too() -> None:
    """Both parts that connect to Kafka miss the same secret; its two keys are named."""
    security = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "credentialsSecretRef": {"name": "kafka-user"}}
    body = feed({"spec.kafka.security": security})
    status = made(healthy(body, secrets={"timescale": "v1", "kafka-user": None}))
    assert said(status, "IngestReady") == said(status, "SinksReady") == ("False", "SecretMissing")
    assert "with keys username and password" in message(status, "IngestReady")


def test_what_the_api_server_refuses_is_told_by_component() -> None:
    """A consumer's refused object is the sinks' problem; what belongs to no component is the ingestors'."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": "md", "labels": {COMPONENT: "consumer"}},
    }
    failures = {key_of(service): "port: Invalid value", Key("", "ServiceAccount", "md", "a"): "forbidden"}
    sight = healthy(feed(), failures=failures)
    status = made(sight, outcome(sight.feed, desired=(service,)))
    assert said(status, "SinksReady") == said(status, "IngestReady") == ("False", "Refused")
    assert message(status, "SinksReady") == "Service md/s: port: Invalid value"
    assert message(status, "IngestReady") == "ServiceAccount md/a: forbidden"


@pytest.mark.parametrize(
    ("stats", "problem", "status", "reason"),
    [
        (INGESTOR_STATS, None, "True", "Flowing"),
        ({"last_message_age_s": 500.0}, None, "True", "Flowing"),
        ({"last_message_age_s": None}, None, "False", "NoData"),
        (INGESTOR_STATS, "2 of 50 streams are not acknowledged yet", "True", "Flowing"),
        ({"last_message_age_s": None}, "starting: no connection was tried yet", "False", "Starting"),
        ({}, "starting: topic binance.trades does not exist yet", "False", "Starting"),
        ({}, "starting: no Kafka broker answers at kafka:9092 within 5 s", "False", "KafkaUnreachable"),
        ({"last_message_age_s": 61.0}, "no frame for 61.0 s", "False", "Stale"),
        (INGESTOR_STATS, "no Kafka broker answers at kafka:9092", "False", "KafkaUnreachable"),
        (INGESTOR_STATS, "topic binance.trades does not exist", "False", "TopicMissing"),
        (INGESTOR_STATS, "the venue refuses FOOUSDT@trade: unknown (code 2)", "False", "StreamRefused"),
        (
            {"last_message_age_s": None},
            "no connection to binance: HTTP 451: the venue does not serve this country; use another endpoint",
            "False",
            "GeoBlocked",
        ),
        (
            {},
            "no connection to binance: HTTP 429: too many connection attempts from this address",
            "False",
            "RateLimited",
        ),
        ({}, "no connection to binance: HTTP 418: the venue has banned this address", "False", "Banned"),
        ({}, "no connection to binance: ConnectionRefusedError: refused", "False", "Disconnected"),
        (None, "does not answer: timeout", "Unknown", "NotAnswering"),
    ],
)
def test_data_flows_when_the_services_say_so(stats: Any, problem: str | None, status: str, reason: str) -> None:
    """The reason is found in the service's own words, which stand in the message."""
    found = made(sampled(healthy(feed()), SHARD, stats, problem))
    assert said(found, "DataFlowing") == (status, reason)
    assert said(found, "Ready")[0] == status
    if status != "True" and problem is not None:
        assert problem in message(found, "DataFlowing")


def test_figures_in_a_service_s_words_are_no_reason_to_write() -> None:
    """A stall that gets longer keeps its first message; another problem replaces it."""
    sight = sampled(healthy(feed()), SHARD, INGESTOR_STATS, "no frame for 61.0 s")
    first = made(sight)
    assert made(sampled(again(sight, first), SHARD, INGESTOR_STATS, "no frame for 75.5 s"), now=later(15)) == first
    other = made(sampled(again(sight, first), SHARD, INGESTOR_STATS, "no frame, and no pong"), now=later(15))
    assert "no pong" in message(other, "DataFlowing")


def test_a_figure_in_a_name_is_worth_a_write() -> None:
    """Another shard that fails in the same way is named in place of the first."""
    body = feed({"spec.symbols": ["BTCUSDT", "ETHUSDT"], "spec.ingest.streamsPerShard": 1})
    shards = (deployment(SHARD), deployment("spot-ingestor-1"))
    pods = [pod(name["metadata"]["name"], containers=[CRASH]) for name in shards]
    failing = [deployment(one["metadata"]["name"], available=0) for one in shards]
    first = made(healthy(body, failing[0], shards[1], pods=(pods[0],)))
    assert "shard spot-ingestor-0: " in message(first, "IngestReady")
    second = made(again(healthy(body, shards[0], failing[1], pods=(pods[1],)), first))
    assert "shard spot-ingestor-1: " in message(second, "IngestReady")


def test_no_news_changes_nothing_and_no_pod_does() -> None:
    """After a start of the operator nothing is sampled: what was True stays. Without a running pod it is False."""
    sight = healthy(feed())
    first = made(sight)
    assert made(replace(again(sight, first), samples={}), now=later(5)) == first
    gone = made(replace(again(sight, first), samples={}, pods=()), now=later(5))
    assert said(gone, "DataFlowing") == ("False", "NotRunning")
    fresh = made(replace(sight, samples={}))
    assert said(fresh, "DataFlowing") == said(fresh, "Complete") == said(fresh, "Ready") == ("Unknown", "NotSampled")


def test_a_pod_that_has_ended_does_not_speak_any_more() -> None:
    """What a crashed ingestor said last is no sign of data, nor is the phase Running, which its pod keeps."""
    sight = replace(healthy(feed()), pods=(pod(SHARD, containers=[CRASH]), pod(SINK)))
    assert said(made(sight), "DataFlowing") == ("False", "NotRunning")


def test_a_shard_without_streams_does_not_stop_the_flow() -> None:
    """Where more shards are asked for than the streams need, one that has none is neither silent nor missing."""
    body = feed({"spec.symbols": ["BTCUSDT"], "spec.channels": ["trade"], "spec.ingest.shards": 3})
    shards = (outcome(body).plan or pytest.fail("no plan")).shards
    empty = [shard.name for shard in shards if not shard.streams]
    (held,) = (shard.name for shard in shards if shard.streams)
    sight = sampled(healthy(body, pods=(pod(held), pod(empty[0]))), held, INGESTOR_STATS)
    sight = sampled(sight, empty[0], {"last_message_age_s": None})
    assert said(made(sight), "DataFlowing") == ("True", "Flowing")


def test_an_old_sample_says_nothing() -> None:
    """A sampler that stands still is not taken for data that flows."""
    old = Sample(pod=f"{SHARD}-x", at=later(-600).timestamp(), stats=INGESTOR_STATS)
    sight = healthy(feed())
    assert said(made(replace(sight, samples={**sight.samples, old.pod: old})), "DataFlowing")[1] == "NotSampled"


def test_a_shard_that_is_taking_over_does_not_stop_the_flow() -> None:
    """While its streams flow through the shard of before, a starting shard is no news."""
    sight = sampled(healthy(feed()), SHARD, {}, "starting: no connection was tried yet")
    moves = HandOver({}, moving=(Move("BTCUSDT@trade", "old", SHARD),))
    first = made(healthy(feed()))
    status = made(again(sight, first), outcome(feed(), hand_over=moves))
    assert said(status, "DataFlowing")[0] == "True"
    assert "handed over" in message(status, "IngestReady")


@pytest.mark.parametrize(
    ("proof", "status", "reason", "words"),
    [
        (PROOF, "True", "Proven", "every record of the last 10 min"),
        ({**PROOF, "missing": 1234}, "False", "Gaps", "1200 records of the last 10 min are missing in sink timescale"),
        ({**PROOF, "expected": 0}, "Unknown", "Unprovable", "no stored stream has ids"),
        ({**PROOF, "unprovable_streams": 2}, "True", "Proven", "2 streams have no ids"),
        (None, "Unknown", "NotSampled", "not proven anything"),
    ],
)
def test_complete_is_what_the_consumers_proved(proof: Any, status: str, reason: str, words: str) -> None:
    """True needs a proof, and a gap is said in coarse figures with what lists it."""
    found = made(sampled(healthy(feed()), SINK, {**CONSUMER_STATS, "proof": proof}))
    assert said(found, "Complete") == (status, reason)
    assert words in message(found, "Complete")
    assert said(found, "Ready")[0] == "True"


def test_without_a_database_nothing_is_complete() -> None:
    """Records in Kafka alone are not stored in the sense of a proof."""
    assert said(made(healthy(feed({"spec.sinks": []}))), "Complete") == ("Unknown", "NotStored")


def test_analytics_are_what_the_supervisor_found() -> None:
    """The verdict becomes the condition and the column."""
    body = feed(ANALYTICS)
    bad = Verdict("Failed", ready=False, reason="JobFailed", message="the job is failed", nudge=None)
    status = made(healthy(body), outcome(body, analytics=bad))
    assert status["analytics"] == "Failed"
    assert said(status, "AnalyticsReady") == said(status, "Ready") == ("False", "JobFailed")
    good = Verdict("Running", ready=True, reason="Running", message="", nudge=None)
    assert said(made(healthy(body), outcome(body, analytics=good)), "Ready")[0] == "True"
    assert said(made(healthy(body)), "AnalyticsReady") == ("False", "Waiting")


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        ("database: connection refused", ("False", "DatabaseUnavailable")),
        ("does not answer: timed out", ("False", "NotAnswering")),
        (None, ("True", "AllReady")),
    ],
)
def test_analytics_are_what_a_driver_that_runs_says_of_itself(problem: str | None, answer: tuple[str, str]) -> None:
    """The Spark operator knows that its pod runs, and not whether it does its work."""
    body = feed(ANALYTICS)
    driver = pod("spot-analytics-driver")
    driver["metadata"]["labels"][COMPONENT] = COMPONENT_ANALYTICS
    seen = healthy(body)
    seen = sampled(replace(seen, pods=(*seen.pods, driver)), "spot-analytics-driver", {}, problem)
    good = Verdict("Running", ready=True, reason="Running", message="", nudge=None)
    assert said(made(seen, outcome(body, analytics=good)), "AnalyticsReady") == answer


def test_a_suspended_feed_is_stopping_and_then_suspended() -> None:
    """Suspended is True once no pod runs; then nothing else claims to run, and figures are gone."""
    body = feed({"spec.suspend": True, **ANALYTICS})
    stopping = made(healthy(body, deployment(SHARD, 0), deployment(SINK, 0)))
    assert said(stopping, "Suspended") == ("False", "Stopping")
    status = made(healthy(body, deployment(SHARD, 0), deployment(SINK, 0), pods=(), samples={}))
    assert said(status, "Suspended") == ("True", "Suspended")
    for type_ in ("Ready", "IngestReady", "SinksReady", "AnalyticsReady", "DataFlowing"):
        assert said(status, type_) == ("False", "Suspended")
    assert said(status, "TopicsReady")[0] == "True"
    assert "sampled" not in status
    assert (status["shards"]["summary"], status["analytics"]) == ("0/1", "Suspended")


def test_a_paused_feed_is_shown_as_it_is_and_not_called_ready() -> None:
    """Hands off: the parts are told as they are, and what is said of the streaming job stays."""
    body = feed(ANALYTICS)
    good = Verdict("Running", ready=True, reason="Running", message="", nudge=None)
    before = made(healthy(body), outcome(body, analytics=good))
    status = made(again(healthy(body), before), outcome(body, paused=True))
    assert said(status, "Ready") == ("Unknown", "Paused")
    assert said(status, "IngestReady")[0] == "True"
    assert of(status, "AnalyticsReady") == of(before, "AnalyticsReady")
    assert status["analytics"] == "Running"


def test_a_change_that_waits_for_approval_says_how_to_give_it() -> None:
    """Ready holds the very command, and the status the hash and every change."""
    change = Difference(TRADES, ChangeClass.DESTRUCTIVE, "topic binance.trades and its data are deleted")
    status = made(healthy(feed()), outcome(feed(), held_back=(change,), approval="abc123"))
    assert said(status, "Ready") == ("False", "ApprovalNeeded")
    command = "kubectl annotate marketfeed spot -n md marketfeed.dev/approve=abc123 --overwrite"
    assert message(status, "Ready").endswith(command)
    assert status["approval"] == {"hash": "abc123", "changes": [change.sentence]}


def test_ready_names_what_explains_most() -> None:
    """What others depend on comes first, a real problem before what passes, and False before Unknown."""
    sight = healthy(feed(), deployment(SHARD, available=0), secrets={"timescale": None})
    assert said(made(sight), "Ready") == ("False", "SecretMissing")
    waits = healthy(feed(), topic("binance.trades", seen=None), deployment(SHARD, available=0))
    assert said(made(waits), "Ready") == ("False", "Waiting")


def test_the_time_of_transition_changes_with_the_status_alone() -> None:
    """Another reason of the same status keeps the time, another status takes the present."""
    sight = healthy(feed(), deployment(SHARD, available=0))
    first = made(sight)
    crashing = replace(again(sight, first), pods=(pod(SHARD, containers=[CRASH]), pod(SINK)))
    second = made(crashing, now=later(60))
    assert said(second, "IngestReady") == ("False", "BadConfiguration")
    assert (of(second, "IngestReady") or {})["lastTransitionTime"] == stamp(NOW)
    well = made(again(healthy(feed()), second), now=later(120))
    assert (of(well, "IngestReady") or {})["lastTransitionTime"] == stamp(later(120))
    assert (of(well, "TopicsReady") or {})["lastTransitionTime"] == stamp(NOW)


@pytest.mark.parametrize(
    ("stats", "after_s", "written"),
    [
        ({"messages_per_second": 4500.0}, 60, False),  # little
        ({"messages_per_second": 8000.0}, 29, False),  # soon
        ({"messages_per_second": 8000.0}, 30, True),
        ({"messages_per_second": 0.0}, 30, True),
        ({}, 60, False),  # not known: the last word stays
    ],
)
def test_figures_are_written_when_they_change_much_and_not_often(stats: Any, after_s: float, *, written: bool) -> None:
    """A fifth is much, and 30 s pass between two writes of figures alone."""
    sight = healthy(feed())
    first = made(sight)
    moment = later(after_s)
    found = Sample(f"{SHARD}-x", moment.timestamp(), {"last_message_age_s": 0.1, **stats})
    consumer = Sample(f"{SINK}-x", moment.timestamp(), CONSUMER_STATS)
    now_sight = replace(again(sight, first), samples={found.pod: found, consumer.pod: consumer})
    second = made(now_sight, now=moment)
    assert (second != first) == written
    due = figures_due_s(now_sight, outcome(sight.feed), moment, STATUS_S)
    assert due == (None if stats.get("messages_per_second") in (None, 4500.0) else max(0.0, STATUS_S - after_s))


def test_a_figure_that_is_new_is_written_at_once() -> None:
    """The rate needs two looks: when the second comes, nobody waits for it."""
    sight = sampled(healthy(feed()), SHARD, {"last_message_age_s": 0.1})
    first = made(sight)
    assert "messagesPerSecond" not in first["sampled"]
    second = made(again(healthy(feed()), first), now=later(5))
    assert second["sampled"]["messagesPerSecond"] == 4100


def test_a_hand_over_is_counted_from_its_beginning_to_its_end() -> None:
    """Its start stays while it shrinks; in the end it says how many moved, how long it took, what was let go early."""
    sight = healthy(feed())
    moves = tuple(Move(f"S{number}@trade", "a", "b") for number in range(12))
    first = made(sight, outcome(sight.feed, hand_over=HandOver({}, moves[:11], moves[11:])))
    assert first["handOver"]["since"] == stamp(NOW)
    assert first["handOver"]["moving"] == 12
    assert first["handOver"]["moves"][:2] == ["S11@trade: a -> b (let go early)", "S0@trade: a -> b"]
    assert len(first["handOver"]["moves"]) == 10
    second = made(again(sight, first), outcome(sight.feed, hand_over=HandOver({}, moves[:1])), later(2))
    assert second["handOver"] == {
        "since": stamp(NOW),
        "moving": 12,
        "moves": ["S11@trade: a -> b (let go early)", "S0@trade: a -> b"],
    }
    third = made(again(sight, second), outcome(sight.feed, hand_over=HandOver({})), later(3))
    assert "handOver" not in third
    assert third["lastHandOver"] == {"at": stamp(later(3)), "seconds": 3, "moved": 12, "broken": 1}
    assert made(again(sight, third), outcome(sight.feed, hand_over=HandOver({})), later(9)) == third


def test_warnings_hold_what_the_plan_says_and_what_is_still_let_go() -> None:
    """Both are sentences for people, bounded."""
    body = feed({"spec.sinks.0.replicas": 5})
    status = made(healthy(body), outcome(body, releasing=("KafkaTopic kafka/x is kept: waiting",)))
    assert any("5 replicas share 3 partitions" in warning for warning in status["warnings"])
    assert status["warnings"][-1] == "KafkaTopic kafka/x is kept: waiting"


@pytest.mark.parametrize(
    ("number", "shown"), [(0, 0), (0.02, 1), (1.4, 1), (99.6, 100), (123, 120), (4123.4, 4100), (987_654, 990_000)]
)
def test_coarse_figures_have_two_digits(number: float, shown: int) -> None:
    """What flows at all is at least 1."""
    assert coarse(number) == shown


@given(st.text(max_size=200))
def test_every_problem_has_a_reason(problem: str) -> None:
    """Whatever a service says, the reason is a CamelCase word."""
    assert reason_of(problem).isalpha()


DEPLOYMENTS = st.builds(
    lambda available, updated, seen: {
        "availableReplicas": available,
        "updatedReplicas": updated,
        "observedGeneration": seen,
    },
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(1, 2),
)
TOPIC_CONDITIONS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["Ready", "Unmanaged", "Warning", "ReconciliationPaused"]),
            "status": st.sampled_from(["True", "False"]),
        },
        optional={"reason": st.sampled_from(["NotSupported", "KafkaError"]), "message": st.text(max_size=2000)},
    ),
    min_size=1,
    max_size=3,
)
PROBLEMS = st.none() | st.text(max_size=3000) | st.sampled_from(["no frame for 61 s", "starting: x", "HTTP 451: no"])
STATS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "last_message_age_s": st.none() | st.floats(0, 1e5),
        "messages_per_second": st.floats(0, 1e7),
        "lag_seconds": st.none() | st.floats(0, 1e6),
        "assigned_partitions": st.integers(0, 9),
        "proof": st.none()
        | st.fixed_dictionaries({"missing": st.integers(0, 10**9), "expected": st.integers(0, 10**9)}),
    },
)
FEEDS = st.sampled_from(
    [
        feed(),
        feed({"spec.suspend": True}),
        feed(ANALYTICS),
        feed({"spec.sinks": []}),
        feed({"spec.kafka.topics.provisioner": "direct"}),
        feed({"spec.symbols": ["BTCUSDT", "ETHUSDT", "BNBUSDT"], "spec.ingest.streamsPerShard": 1}),
    ]
)
VERDICTS = st.none() | st.builds(
    Verdict,
    state=st.sampled_from(["Running", "Failed", "Restarting"]),
    ready=st.booleans(),
    reason=st.sampled_from(["Running", "JobFailed"]),
    message=st.text(max_size=5000),
    nudge=st.none(),
)
MOVES = st.lists(st.builds(Move, st.sampled_from(["A@trade", "B@trade"]), st.just("a"), st.just("b")), max_size=15)


@st.composite
def sights(draw: st.DrawFn) -> tuple[Observed, Outcome]:
    """Return any sight of a feed, and any outcome of its reconciliation."""
    body = draw(FEEDS)
    sight = healthy(
        body,
        deployment(SHARD, **draw(DEPLOYMENTS)),
        deployment(SINK, **draw(DEPLOYMENTS)),
        topic("binance.trades", *draw(TOPIC_CONDITIONS), seen=draw(st.sampled_from([None, 1, 2]))),
        without=draw(st.lists(st.sampled_from(["binance.dlq", SHARD, SINK]), max_size=2)),
        served=draw(st.sampled_from([Served(), Served(kafka_topic=KAFKA_TOPIC_V1)])),
        secrets={"timescale": draw(st.sampled_from([None, "v1"]))},
        samples={
            f"{owner}-x": sample(owner, draw(STATS), draw(PROBLEMS))
            for owner in draw(st.lists(st.sampled_from([SHARD, SINK]), unique=True))
        },
        pods=tuple(pod(owner) for owner in draw(st.lists(st.sampled_from([SHARD, SINK]), unique=True))),
        failures=draw(
            st.dictionaries(st.sampled_from([TRADES, Key("", "Service", "md", "s")]), st.text(max_size=3000))
        ),
    )
    change = Difference(TRADES, ChangeClass.DESTRUCTIVE, draw(st.text(max_size=3000)))
    held = draw(st.booleans())
    result = outcome(
        body,
        paused=draw(st.booleans()),
        hand_over=draw(st.none() | st.builds(HandOver, st.just({}), MOVES.map(tuple), MOVES.map(tuple))),
        held_back=(change,) * 30 if held else (),
        approval="abc" if held else None,
        analytics=draw(VERDICTS),
        releasing=tuple(draw(st.lists(st.text(max_size=1000), max_size=3))),
    )
    return sight, draw(
        st.sampled_from([result, result, result, Outcome(), Outcome(problem=draw(st.text(max_size=5000)))])
    )


def fits(value: Any, schema: Mapping[str, Any], path: str = "status") -> None:
    """Fail where a value is not as the custom resource's schema has it, or has a field that it has not."""
    kinds: dict[str, Any] = {
        "object": Mapping,
        "array": list,
        "string": str,
        "integer": int,
        "number": int | float,
        "boolean": bool,
    }
    assert isinstance(value, kinds[schema["type"]]), path
    assert not isinstance(value, str) or len(value) <= schema.get("maxLength", 32_768), path
    if schema["type"] == "object":
        assert value.keys() <= schema["properties"].keys(), path
        assert set(schema.get("required", ())) <= value.keys(), path
        for name, field in value.items():
            fits(field, schema["properties"][name], f"{path}.{name}")
    elif schema["type"] == "array":
        for item in value:
            fits(item, schema["items"], f"{path}[]")


SCHEMA = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]


@settings(max_examples=100, deadline=None)
@given(sights(), st.integers(0, 3600))
def test_a_status_is_whole_bounded_and_written_once(pair: tuple[Observed, Outcome], after_s: int) -> None:
    """Every condition stands, fits the schema and 1024 characters; the same sight makes the same status for good."""
    sight, result = pair
    first = make(sight, result, NOW, STATUS_S)
    assert [one["type"] for one in first["conditions"]] == list(TYPES)
    for one in first["conditions"]:
        assert one["reason"]
        assert len(one["message"]) <= LONGEST_MESSAGE
        assert one["lastTransitionTime"] == stamp(NOW)
    fits(first, SCHEMA)
    assert make(again(sight, first), result, NOW, STATUS_S) == first
    moved = {name: replace(one, at=one.at + after_s) for name, one in sight.samples.items()}
    second = make(replace(again(sight, first), samples=moved), result, later(after_s), STATUS_S)
    assert second == first


@settings(max_examples=60, deadline=None)
@given(sights(), sights())
def test_times_of_transition_hold_over_any_change(
    before: tuple[Observed, Outcome], after: tuple[Observed, Outcome]
) -> None:
    """From any status to any other, a condition's time is new exactly where its status is."""
    first = make(*before, NOW, STATUS_S)
    second = make(replace(after[0], feed={**after[0].feed, "status": first}), after[1], later(60), STATUS_S)
    for one in second["conditions"]:
        old = of(first, one["type"]) or {}
        assert one["lastTransitionTime"] == stamp(NOW if old["status"] == one["status"] else later(60))
    ready = of(second, "Ready") or {}
    assert ready["status"] != "True" or {one["status"] for one in second["conditions"][1:4]} == {"True"}


def test_reasons_that_pass_are_known_to_all() -> None:
    """A feed that starts says only reasons that pass."""
    starting = healthy(feed(), without=[SHARD, SINK, "binance.trades", "binance.dlq"], pods=(), samples={})
    status = made(starting)
    for type_ in ("Ready", "TopicsReady", "IngestReady", "SinksReady", "DataFlowing"):
        assert said(status, type_)[1] in PASSING
