"""The shell of one reconciliation, over a fake API server: what is done in which order, and what becomes of errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from fake_cluster import Call, FakeCluster, unanswered
from marketfeed_operator.api.errors import ApiError, Conflict, Forbidden, Invalid, Terminating
from marketfeed_operator.objects import KAFKA_TOPIC_V1, KINDS, Key, Manifest, key_of
from marketfeed_operator.observed import Sample
from marketfeed_operator.reconcile import Again, let_go, reconcile
from marketfeed_operator.store import FeedName
from observations import NOW, feed
from operator_tools import Clock, FakeTopics, tools

NAME = FeedName("md", "spot")
FEED = "MarketFeed md/spot"
SHARD = "Deployment md/spot-ingestor-0"
TOPIC = Key(KAFKA_TOPIC_V1.group, KAFKA_TOPIC_V1.kind, "kafka", "binance.trades")
TWO_SHARDS = {"spec.symbols": ["BTCUSDT", "ETHUSDT"], "spec.ingest": {"streamsPerShard": 1}}


class Bench:
    """One feed on a fake API server whose secret exists, and the store of the replica that leads."""

    def __init__(self, changes: Mapping[str, Any] | None = None, again_s: float | None = None) -> None:
        self.cluster = FakeCluster()
        self.cluster.secret("timescale", {"dsn": "hunter2"})
        self.clock, self.direct = Clock(), FakeTopics(again_s)
        self.tools = tools(self.cluster, now=self.clock, direct=self.direct)
        self.store = self.tools.store
        self.feed(changes)

    def feed(self, changes: Mapping[str, Any] | None = None) -> Manifest:
        """Apply the feed, as a person does; the watch sees it."""
        body = feed(changes)
        key = key_of(body)
        old = self.cluster.at(key)
        kept = {} if old is None else {"status": old["status"]}
        self.store.put(self.cluster.put({**body, **kept}))
        return body

    def run(self) -> Again:
        """Reconcile once; `calls` are this pass's alone."""
        self.cluster.calls.clear()
        self.cluster.notices.clear()
        return asyncio.run(asyncio.wait_for(reconcile(NAME, self.tools), 10))

    def writes(self, verb: str) -> list[str]:
        """Return what was written so in the last pass."""
        return [what for done, what in self.cluster.written() if done == verb]

    def condition(self, kind: str) -> Manifest:
        """Return a condition that was written."""
        live = self.cluster.at(Key("marketfeed.dev", "MarketFeed", "md", "spot")) or {}
        found: Manifest = next(item for item in live["status"]["conditions"] if item["type"] == kind)
        return found

    def pod(self, shard: str = "spot-ingestor-0", *carried: str, **metadata: Any) -> str:
        """Let a shard's pod run that says it carries these streams; return its name."""
        name = f"{shard}-{metadata.pop('suffix', 'x')}"
        labels = {
            "app.kubernetes.io/component": "ingestor",
            "marketfeed.dev/feed": "spot",
            "marketfeed.dev/shard": shard,
        }
        made = {"name": name, "namespace": "md", "labels": labels} | metadata
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": {"containers": []}, "status": {}}
        self.store.put(self.cluster.put(pod))
        at = self.clock.now.timestamp()
        self.store.samples["md", name] = Sample(pod=name, at=at, stats={}, carried=frozenset(carried))
        return f"Pod md/{name}"


def position(calls: list[Call], wanted: Call) -> int:
    """Return when something was asked."""
    return calls.index(wanted)


def test_a_new_feed_is_made_in_order_and_told_of_last() -> None:
    """Secrets are looked at before anything is written, the status after all of it, the events after the status."""
    b = Bench()
    b.run()
    verbs = [verb for verb, _ in b.cluster.calls]
    assert verbs[0] == "version"
    assert verbs.index("apply_status") > max(place for place, verb in enumerate(verbs) if verb == "apply")
    assert set(verbs[verbs.index("apply_status") + 1 :]) <= {"event"}
    applied = b.writes("apply")
    assert applied.index("ConfigMap md/spot-ingestor-0") < applied.index(SHARD)
    assert applied.index(str(TOPIC)) < applied.index(SHARD)
    assert "hunter2" not in str([b.cluster.objects(kind) for _, kind in KINDS])


def test_a_feed_at_rest_costs_no_write_and_no_read() -> None:
    """The second pass asks the API server nothing at all: what the first one wrote counts as seen."""
    b = Bench()
    b.run()
    assert b.run() == Again()
    assert b.cluster.calls == []


def test_a_pass_later_writes_no_status_for_the_time_alone() -> None:
    """An hour on, nothing has changed and nothing is written."""
    b = Bench()
    b.run()
    b.clock.now = NOW + timedelta(hours=1)
    b.run()
    assert b.cluster.written() == []


def test_what_is_refused_for_good_is_told_and_does_not_stop_the_rest() -> None:
    """One object is refused: all others are made, the status names it, and it is tried again after a while."""
    b = Bench()
    b.cluster.fails["apply", SHARD] = Forbidden(403, "Forbidden", "exceeded quota: pods")
    assert b.run().after_s == 30.0
    assert "Deployment md/spot-consumer-timescale" in b.writes("apply")
    assert b.condition("IngestReady")["reason"] == "Refused"
    assert "exceeded quota: pods" in b.condition("IngestReady")["message"]
    b.cluster.fails.clear()
    b.run()
    assert b.writes("apply") == [SHARD]
    assert b.condition("IngestReady")["reason"] != "Refused"


@pytest.mark.parametrize(
    "error",
    [
        unanswered(),
        Conflict(409, "Conflict", "the object has been modified"),
        Terminating(403, "Forbidden", "unable to create new content in namespace md because it is being terminated"),
    ],
    ids=["no answer", "somebody wrote too", "the namespace goes"],
)
def test_what_may_go_better_soon_ends_the_pass(error: ApiError) -> None:
    """Nothing after it is written, no status claims anything; the next pass does what is left."""
    b = Bench()
    b.cluster.fails["apply", SHARD] = error
    with pytest.raises(type(error)):
        b.run()
    assert b.writes("apply")[-1] == SHARD
    assert b.writes("apply_status") == []
    b.cluster.fails.clear()
    b.run()
    assert b.writes("apply")[0] == SHARD
    assert b.writes("apply_status") == [FEED]


def test_a_topic_that_another_feed_makes_at_the_same_moment_is_judged_anew() -> None:
    """No event holds the API server's words about managers and fields: the next pass says which feed wants what."""
    b = Bench()
    other = {
        "apiVersion": KAFKA_TOPIC_V1.api_version,
        "kind": KAFKA_TOPIC_V1.kind,
        "metadata": {
            "name": TOPIC.name,
            "namespace": TOPIC.namespace,
            "labels": {"claim.marketfeed.dev/u-2": "md_other"},
            "annotations": {"wish.marketfeed.dev/u-2": "another"},
        },
        "spec": {"partitions": 1},
    }

    def first(call: Call) -> None:
        if call == ("apply", str(TOPIC)) and b.cluster.at(TOPIC) is None:
            b.cluster._server.apply(other, "marketfeed-operator-u-2", force=True)

    b.cluster.before = first
    with pytest.raises(Conflict):
        b.run()
    assert b.cluster.notices == []
    b.run()
    (told,) = (notice.message for notice in b.cluster.notices if notice.reason == "TopicConflict")
    assert "feed md/other wants the topic binance.trades otherwise" in told


def test_without_the_secrets_versions_nothing_is_written() -> None:
    """Pods that were rolled for a version that is only unknown would be rolled again."""
    b = Bench()
    b.cluster.fails["version", "Secret md/timescale"] = unanswered()
    with pytest.raises(ApiError):
        b.run()
    assert b.cluster.written() == []


def test_a_feed_that_cannot_be_planned_keeps_what_it_has() -> None:
    """Only its status is written, with the sentence; its objects stay as they are."""
    b = Bench()
    b.run()
    b.feed({**TWO_SHARDS, "spec.ingest": {"streamsPerShard": 1, "maxShards": 1}})
    assert b.run() == Again()
    assert [verb for verb, _ in b.cluster.written()] == ["apply_status"]
    assert b.condition("Ready")["reason"] == "InvalidSpec"


def test_a_paused_feed_is_left_alone() -> None:
    """Nothing is read or written but the status, and the brokers are not asked."""
    b = Bench({"metadata.annotations": {"marketfeed.dev/paused": "true"}})
    b.run()
    assert [verb for verb, _ in b.cluster.calls if verb != "event"] == ["apply_status"]
    assert b.condition("Ready")["reason"] == "Paused"
    assert b.direct.needed == []


@pytest.mark.parametrize(
    "changes", [{"metadata.deletionTimestamp": "2026-11-21T15:00:00Z"}, None], ids=["going", "gone"]
)
def test_a_feed_on_its_way_out_is_not_worked_on(changes: Mapping[str, Any] | None) -> None:
    """Nothing is made for it again."""
    b = Bench(changes)
    if changes is None:
        b.store.drop(b.store.feed(NAME) or {})
    assert b.run() == Again()
    assert b.cluster.calls == []


def test_a_feed_that_goes_while_it_is_worked_on_ends_quietly() -> None:
    """There is no status to write any more, and nobody to tell."""
    b = Bench()

    def before(call: Call) -> None:
        if call == ("apply_status", FEED):
            b.cluster.remove(Key("marketfeed.dev", "MarketFeed", "md", "spot"))

    b.cluster.before = before
    b.run()
    assert b.cluster.notices == []


def test_an_object_of_the_right_name_is_adopted_without_being_known_before() -> None:
    """A ConfigMap that somebody made without our labels is asked for by name and taken over."""
    b = Bench()
    name = {"name": "spot-ingestor-0", "namespace": "md"}
    b.cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": {"theirs": "1"}})
    b.run()
    assert ("get", "ConfigMap md/spot-ingestor-0") in b.cluster.calls
    live = b.cluster.at(Key("", "ConfigMap", "md", "spot-ingestor-0")) or {}
    assert set(live["data"]) == {"theirs", "streams.json"}
    assert live["metadata"]["labels"]["marketfeed.dev/feed"] == "spot"


def test_a_pod_is_woken_once_after_its_streams_were_written() -> None:
    """The annotation follows the ConfigMap's answer; a second pass leaves the pod alone, and no shard rolls."""
    b = Bench()
    b.run()
    pod = b.pod("spot-ingestor-0", "BTCUSDT@trade")
    b.run()
    assert b.writes("patch") == [pod]
    b.run()
    assert b.writes("patch") == []
    b.feed({"spec.symbols": ["BTCUSDT", "ETHUSDT"]})
    b.run()
    calls = b.cluster.calls
    assert position(calls, ("patch", pod)) > position(calls, ("apply", "ConfigMap md/spot-ingestor-0"))
    assert SHARD not in b.writes("apply"), "a symbol more must not roll the shard"


def test_pods_that_end_and_pods_of_a_suspended_feed_are_not_woken() -> None:
    """Nobody mounts anything for them any more."""
    b = Bench()
    b.run()
    b.pod(deletionTimestamp="2026-11-21T15:00:00Z")
    b.run()
    assert b.writes("patch") == []
    b.pod(suffix="y")
    b.feed({"spec.suspend": True})
    b.run()
    assert b.writes("patch") == []


def test_a_pod_that_goes_while_it_is_woken_is_no_error() -> None:
    """The pass goes on to its status."""
    b = Bench()
    b.run()
    pod = b.pod()
    b.cluster.remove(Key("", "Pod", "md", pod.rpartition("/")[2]))
    b.run()
    assert b.writes("patch") == [pod]


def test_a_topic_that_was_being_let_go_is_taken_back_before_it_is_applied() -> None:
    """Server-side apply leaves alone what a patch has added: without the patch Strimzi would never manage it again."""
    b = Bench()
    b.run()
    marks = {"strimzi.io/managed": "false", "marketfeed.dev/released-at": "2026-11-21T14:59:00Z"}
    b.store.put(b.cluster.edit(TOPIC, lambda live: live["metadata"]["annotations"].update(marks)))
    b.run()
    assert b.writes("patch") == [str(TOPIC)]
    live = b.cluster.at(TOPIC) or {}
    assert not marks.keys() & live["metadata"]["annotations"].keys()


def test_a_topic_that_is_no_longer_wanted_is_let_go_step_by_step() -> None:
    """Retain asks Strimzi first: the status says so, and the next look comes soon."""
    b = Bench()
    b.run()
    b.feed({"spec.kafka.topics.names": {"trade": "binance.other"}})
    again = b.run()
    assert again.after_s == 2.0
    live = b.cluster.at(TOPIC) or {}
    assert live["metadata"]["annotations"]["strimzi.io/managed"] == "false"
    assert b.writes("delete") == []


def test_a_hand_over_is_looked_at_soon_and_its_pods_are_asked() -> None:
    """Streams that move stay in the old shard's ConfigMap, and the pass asks for a sample."""
    b = Bench({"spec.symbols": ["BTCUSDT", "ETHUSDT"]})
    b.run()
    b.pod("spot-ingestor-0", "BTCUSDT@trade", "ETHUSDT@trade")
    b.feed(TWO_SHARDS)
    again = b.run()
    assert again == Again(after_s=1.0, sample=True)
    old = b.cluster.at(Key("", "ConfigMap", "md", "spot-ingestor-0")) or {}
    new = b.cluster.at(Key("", "ConfigMap", "md", "spot-ingestor-1")) or {}
    (moved,) = json.loads(new["data"]["streams.json"])["streams"]
    assert moved in old["data"]["streams.json"]
    b.pod("spot-ingestor-1", moved)
    assert b.run().sample is False
    old = b.cluster.at(Key("", "ConfigMap", "md", "spot-ingestor-0")) or {}
    assert moved not in old["data"]["streams.json"]


def test_direct_topics_are_asked_for_and_looked_at_again_when_they_say() -> None:
    """The pass never waits for a broker; what the brokers said before is in the status."""
    b = Bench({"spec.kafka.topics.provisioner": "direct"}, again_s=7.0)
    assert b.run().after_s == 7.0
    assert b.direct.needed == [NAME]
    assert not [what for what in b.writes("apply") if what.startswith("KafkaTopic")]
    assert b.condition("TopicsReady")["reason"] == "Waiting"


def test_events_tell_of_changes_and_of_nothing_else() -> None:
    """A refusal is told as a warning once, and not with every pass that finds it again."""
    b = Bench()
    b.run()
    b.feed({"spec.symbols": ["BTCUSDT", "ETHUSDT"]})
    b.cluster.fails["apply", "ConfigMap md/spot-ingestor-0"] = Invalid(422, "Invalid", "no such field")
    b.run()
    first = [notice.type for notice in b.cluster.notices]
    assert "Warning" in first
    b.run()
    assert b.cluster.notices == []


def test_letting_go_of_a_topic_that_is_gone_ends_it() -> None:
    """The store forgets it, so that nobody looks for it again."""
    b = Bench()
    b.run()
    topic = b.store.get(TOPIC)
    assert topic is not None
    b.cluster.remove(TOPIC)
    uid = str(feed()["metadata"]["uid"])
    asyncio.run(let_go(topic, uid, "Retain", b.tools))
    assert b.store.get(TOPIC) is None


def test_letting_go_of_a_topic_that_changed_meanwhile_is_judged_anew() -> None:
    """A claim that came in between would be lost: the step is refused, and nothing is written."""
    b = Bench()
    b.run()
    stale = b.store.get(TOPIC)
    assert stale is not None
    b.cluster.edit(TOPIC, lambda live: live["metadata"]["labels"].update({"claim.marketfeed.dev/u2": "md_other"}))
    for policy in ("Retain", "Delete"):
        with pytest.raises(Conflict):
            asyncio.run(let_go(stale, "u1", policy, b.tools))
    live = b.cluster.at(TOPIC) or {}
    assert "strimzi.io/managed" not in live["metadata"]["annotations"]
