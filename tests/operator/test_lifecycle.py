"""What happens to a running feed in its life: adoption, stopping, pausing, and changes that would lose records.

What does not live here: the end of a feed (test_deletion).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers import wait_until
from operators import SOON_S, USER, Feeds, OperatorProcess
from released import claimed, filled, kept, managed, resource, topic_names, with_own_topics
from standins.runner import Standins
from watching import watching

HEAL_S = 5.0
_DAY_MS = 86_400_000


def test_what_has_the_right_name_is_adopted_and_what_belongs_to_another_is_left_alone(
    feeds: Feeds, standins: Standins
) -> None:
    """A KafkaTopic and a Deployment made by hand become the feed's, with the topic's records and partitions.

    A Deployment of another controller is not touched, and the feed says whose it is.
    """
    trades, *_ = topic_names(feeds)
    _create(feeds, _topic_by_hand(feeds, trades))
    wait_until(lambda: trades in standins.topics.topics, SOON_S, "the topic", every_s=0.2)
    standins.topics.fill(trades)
    topic = standins.topics.topics[trades].id
    by_hand = _deployment_by_hand(feeds, "spot-ingestor-0", _selector(feeds))
    owner = {"apiVersion": "v1", "kind": "Secret", "name": "timescale", "controller": True}
    owner["uid"] = (feeds.get("secret", "timescale") or {})["metadata"]["uid"]
    foreign = _deployment_by_hand(feeds, "spot-consumer-timescale", {"app": "theirs"}, owner)
    uids = {
        made["metadata"]["name"]: made["metadata"]["uid"] for made in (_create(feeds, by_hand), _create(feeds, foreign))
    }
    before = feeds.get("deployment", "spot-consumer-timescale")
    feeds.apply()
    feeds.wait("TopicsReady")
    feeds.wait("IngestReady")
    said = feeds.wait("SinksReady", "False")
    assert "spot-consumer-timescale" in said["message"]
    assert "Secret timescale" in said["message"]
    adopted, theirs = (feeds.get("deployment", name) or {} for name in ("spot-ingestor-0", "spot-consumer-timescale"))
    assert adopted["metadata"]["uid"] == uids["spot-ingestor-0"]
    assert adopted["metadata"]["ownerReferences"][0]["kind"] == "MarketFeed"
    assert {one["name"] for one in adopted["spec"]["template"]["spec"]["containers"]} >= {"ingestor"}
    assert theirs["metadata"]["uid"] == uids["spot-consumer-timescale"]
    assert theirs["spec"] == (before or {})["spec"]
    assert claimed(feeds, trades) == [f"{feeds.namespace}_spot"]
    assert kept(standins, {trades: topic})
    assert resource(feeds, trades)["spec"]["partitions"] == 6
    assert resource(feeds, trades)["spec"]["config"]["retention.ms"] == -1, (
        "shorter would lose records: it is asked for"
    )
    assert any(trades in change for change in feeds.status()["approval"]["changes"])


def _selector(feeds: Feeds) -> dict[str, str]:
    """Return what selects a shard's pods, learned from another feed's."""
    feeds.apply(with_own_topics(feeds, "model", suspend=True))
    feeds.wait("Suspended", name="model")
    model = feeds.get("deployment", "model-ingestor-0")
    assert model is not None
    selector: dict[str, str] = model["spec"]["selector"]["matchLabels"]
    return {label: value.replace("model", "spot") for label, value in selector.items()}


def _create(feeds: Feeds, manifest: dict[str, Any]) -> dict[str, Any]:
    """Make an object as a person would; return it as it is then."""
    made: dict[str, Any] = json.loads(
        feeds.plane.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(manifest)).stdout
    )
    return made


def _topic_by_hand(feeds: Feeds, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "kafka.strimzi.io/v1beta2",
        "kind": "KafkaTopic",
        "metadata": {"name": name, "namespace": feeds.topic_namespace, "labels": {"strimzi.io/cluster": "kafka"}},
        "spec": {"partitions": 6, "replicas": 3, "config": {"retention.ms": -1}},
    }


def _deployment_by_hand(
    feeds: Feeds, name: str, labels: dict[str, str], owner: dict[str, Any] | None = None
) -> dict[str, Any]:
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "ingestor", "image": "by-hand"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": feeds.namespace, "ownerReferences": [owner] if owner else []},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
    }


def test_a_feed_stops_and_goes_on_with_the_same_streams(feeds: Feeds, standins: Standins) -> None:
    """Suspending ends every pod, and is Suspended then only; resuming brings back the same streams. Topics stay."""
    feeds.apply()
    feeds.wait("Ready")
    ids, streams = filled(feeds, standins), _streams(feeds)
    started = datetime.now(UTC)
    standins.kubelet.stop_s = 2.0
    try:
        feeds.apply(suspend=True)
        stopping = feeds.wait("Suspended", "False", "Stopping")
        assert "finish" in stopping["message"]
        feeds.wait("Suspended")
        assert feeds.items("pods", "marketfeed.dev/feed=spot") == []
    finally:
        standins.kubelet.stop_s = 0.2
    assert feeds.condition("Ready")["reason"] == "Suspended"
    assert [item["spec"]["replicas"] for item in feeds.items("deployments")] == [0, 0]
    feeds.apply(suspend=False)
    feeds.wait("Ready")
    assert _streams(feeds) == streams
    written = {item.name for item in feeds.plane.writes(USER, started)}
    assert not written & set(ids)
    assert kept(standins, ids)


def _streams(feeds: Feeds) -> dict[str, str]:
    return {
        item["metadata"]["name"]: item["data"]["streams.json"]
        for item in feeds.items("configmaps", "marketfeed.dev/shard")
    }


def test_a_paused_feed_is_left_alone_and_healed_afterwards(feeds: Feeds, operator: OperatorProcess) -> None:
    """While the annotation is there only the status is written; what was changed meanwhile is put right after it."""
    feeds.apply()
    feeds.wait("Ready")
    feeds.kubectl("annotate", "mf", "spot", "marketfeed.dev/paused=true")
    feeds.wait("Ready", "Unknown", "Paused")
    since = datetime.now(UTC)
    feeds.kubectl("scale", "deployment/spot-consumer-timescale", "--replicas=3")
    feeds.kubectl("delete", "service", "spot-ingestor")
    feeds.apply(symbols=["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"])
    feeds.kubectl("annotate", "mf", "spot", "marketfeed.dev/paused=true", "--overwrite")
    feeds.wait("Ready", "Unknown", "Paused")
    samples = operator.metric("marketfeed_operator_samples_total")
    wait_until(
        lambda: operator.metric("marketfeed_operator_samples_total") >= samples + 6, SOON_S, "samples", every_s=0.5
    )
    written = [item for item in feeds.plane.writes(USER, since) if feeds.namespace in (item.namespace, item.name)]
    assert {item.resource for item in written} <= {"marketfeeds/status", "events"}
    feeds.kubectl("annotate", "mf", "spot", "marketfeed.dev/paused-")

    def healed() -> bool:
        found = feeds.get("deployment", "spot-consumer-timescale") or {}
        return found["spec"]["replicas"] == 1 and feeds.get("service", "spot-ingestor") is not None

    wait_until(healed, HEAL_S, "the edits to be undone", every_s=0.1)
    feeds.wait("Ready")
    assert "SOLUSDT@trade" in "".join(_streams(feeds).values())


def test_a_change_that_loses_records_waits_for_its_approval(feeds: Feeds, standins: Standins) -> None:
    """A shorter retention, and a channel less under Delete, wait with a hash; only that hash lets them through."""
    feeds.apply(deletionPolicy="Delete")
    feeds.wait("Ready")
    ids = filled(feeds, standins)
    trades, book, _ = topic_names(feeds)
    since = datetime.now(UTC)
    feeds.apply(deletionPolicy="Delete", kafka={"topics": feeds.topics(retention="1d")})
    asked = _asked(feeds, f"topic {trades} keeps records for 1d instead of 7d")
    assert [item for item in feeds.plane.writes(USER, since) if item.name in ids] == []
    _approve(feeds, "0" * len(asked))
    assert feeds.wait("Ready", "False", "ApprovalNeeded")
    assert resource(feeds, trades)["spec"]["config"]["retention.ms"] == 7 * _DAY_MS
    _approve(feeds, asked)
    wait_until(
        lambda: standins.topics.topics[trades].config["retention.ms"] == str(_DAY_MS), SOON_S, "1 d", every_s=0.2
    )
    feeds.wait("Ready")
    assert "approval" not in feeds.status()
    since = datetime.now(UTC)
    fewer: dict[str, Any] = {"deletionPolicy": "Delete", "channels": ["trade"], "kafka": {"topics": _one_topic(feeds)}}
    feeds.apply(**fewer)
    again = _asked(feeds, f"topic {book} is deleted with its records")
    assert again != asked
    assert [item for item in feeds.plane.writes(USER, since) if item.name in ids] == []
    assert resource(feeds, book)
    _approve(feeds, again)
    wait_until(lambda: book not in standins.topics.topics, SOON_S, "the topic to go", every_s=0.2)
    feeds.wait("Ready")
    assert kept(standins, {trades: ids[trades]})


def _one_topic(feeds: Feeds) -> dict[str, Any]:
    return feeds.topics(retention="1d") | {"names": {"trade": f"{feeds.namespace}.trades"}}


def _asked(feeds: Feeds, sentence: str) -> str:
    """Wait until the feed asks for an approval with this sentence in it; return the hash."""
    said = feeds.wait("Ready", "False", "ApprovalNeeded")
    approval = feeds.status()["approval"]
    assert any(sentence in change for change in approval["changes"]), approval
    assert approval["hash"] in said["message"]
    return str(approval["hash"])


def _approve(feeds: Feeds, value: str) -> None:
    feeds.kubectl("annotate", "mf", "spot", f"marketfeed.dev/approve={value}", "--overwrite")


def test_a_topic_of_another_name_lets_the_old_one_go_and_it_can_be_taken_back(
    feeds: Feeds, standins: Standins, tmp_path: Path
) -> None:
    """Under Retain the old topic is released with its data. Named again in the middle of that, it is managed again."""
    feeds.apply()
    feeds.wait("Ready")
    ids = filled(feeds, standins)
    trades, book, _ = topic_names(feeds)
    renamed = feeds.topics()
    renamed["names"] = {"trade": f"{feeds.namespace}.renamed", "bookTicker": book}
    feeds.apply(kafka={"topics": renamed})
    wait_until(lambda: not resource(feeds, trades), SOON_S, "the old KafkaTopic to go", every_s=0.2)
    feeds.wait("TopicsReady")
    assert kept(standins, ids)
    feeds.apply()
    feeds.wait("Ready")
    assert kept(standins, ids)
    standins.topics.delay_s = 3.0
    try:
        with watching(feeds.plane, tmp_path, "kafkatopic", trades, feeds.topic_namespace) as seen:
            feeds.apply(kafka={"topics": renamed})
            wait_until(lambda: not managed(seen.events[-1].object), SOON_S, "the release to begin", every_s=0.1)
            feeds.apply()
            wait_until(lambda: managed(seen.events[-1].object), SOON_S, "the topic to be taken back", every_s=0.1)
            uids = {event.object["metadata"]["uid"] for event in seen.events}
    finally:
        standins.topics.delay_s = 0.2
    feeds.wait("TopicsReady")
    live = resource(feeds, trades)
    assert uids == {live["metadata"]["uid"]}
    assert managed(live)
    assert "marketfeed.dev/released-at" not in live["metadata"]["annotations"]
    assert kept(standins, ids)
