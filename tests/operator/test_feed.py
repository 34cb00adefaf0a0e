"""A MarketFeed on a real API server: what it asks for is made, kept, and told of. Nodes and Strimzi are stand-ins."""

from __future__ import annotations

import json

from controlplane import ControlPlane, audit
from helpers import wait_until
from operators import SOON_S, USER, Feeds, OperatorProcess
from standins.runner import Standins

HEAL_S = 5.0


def test_everything_a_feed_asks_for_exists_and_it_becomes_ready(feeds: Feeds) -> None:
    """Shard, consumer, topics and what goes with them are made, and every condition gets its answer."""
    feeds.apply()
    feeds.wait("TopicsReady")
    feeds.wait("DataFlowing")
    feeds.wait("Complete")
    feeds.wait("Ready")
    kinds = [kind for kind, _ in feeds.children()]
    assert kinds.count("Deployment") == 2
    assert kinds.count("KafkaTopic") == 3
    assert {"ConfigMap", "Service", "ServiceAccount", "PodDisruptionBudget"} <= set(kinds)
    conditions = {item["type"]: item["status"] for item in feeds.status()["conditions"]}
    assert conditions == {
        "Ready": "True",
        "TopicsReady": "True",
        "IngestReady": "True",
        "DataFlowing": "True",
        "Complete": "True",
        "SinksReady": "True",
        "AnalyticsReady": "True",
        "Suspended": "False",
    }


def test_kubectl_get_shows_what_a_person_looks_for(feeds: Feeds) -> None:
    """The columns are filled: exchange, symbols, shards, rate, lag, complete, ready."""
    feeds.apply()
    feeds.wait("Ready")
    header, row = feeds.kubectl("get", "marketfeeds").splitlines()
    assert header.split() == ["NAME", "EXCHANGE", "SYMBOLS", "SHARDS", "RATE", "LAG", "COMPLETE", "READY", "AGE"]
    name, exchange, symbols, shards, rate, _, complete, ready, _ = row.split()
    assert (name, exchange, symbols, shards, complete, ready) == ("spot", "binance", "3", "1/1", "True", "True")
    assert int(rate) > 0
    wide = feeds.kubectl("get", "mf", "-o", "wide").splitlines()[1].split()
    assert wide[8:11] == ["1/1", "Off", "AllReady"]


def test_kubectl_wait_and_events_tell_a_person_how_it_goes(feeds: Feeds) -> None:
    """`kubectl wait` ends by itself, and `kubectl describe` shows readable events."""
    feeds.apply()
    feeds.kubectl("wait", "--for=condition=TopicsReady", "marketfeed/spot", f"--timeout={SOON_S:.0f}s")
    feeds.kubectl("wait", "--for=condition=Ready", "marketfeed/spot", f"--timeout={SOON_S:.0f}s")
    described = wait_until(
        lambda: text if "DataFlowing" in (text := feeds.kubectl("describe", "mf", "spot")) else "",
        SOON_S,
        "the event",
        every_s=0.2,
    )
    assert "data flows through every shard" in described[described.index("Events:") :]


def test_a_child_that_is_deleted_comes_back(feeds: Feeds) -> None:
    """Every child, deleted by hand, is there again within 5 s, as another object."""
    feeds.apply()
    feeds.wait("Ready")
    for kind, name in feeds.children():
        where = feeds.topic_namespace if kind == "KafkaTopic" else feeds.namespace
        before = feeds.get(kind, name, where)
        assert before is not None
        feeds.plane.kubectl("delete", kind, name, f"--namespace={where}", "--wait=false")

        def back(kind: str = kind, name: str = name, where: str = where, uid: str = before["metadata"]["uid"]) -> bool:
            now = feeds.get(kind, name, where)
            return now is not None and now["metadata"]["uid"] != uid

        wait_until(back, HEAL_S, f"{kind} {name} to come back", every_s=0.1)


def test_an_edit_by_hand_is_undone_and_what_others_add_is_left(feeds: Feeds) -> None:
    """A field of ours is set right again; a label that somebody adds stays."""
    feeds.apply()
    feeds.wait("Ready")
    name = "deployment/spot-consumer-timescale"
    feeds.kubectl("label", name, "team=markets")
    feeds.kubectl("scale", name, "--replicas=3")
    feeds.kubectl("label", name, "app.kubernetes.io/managed-by-")

    def healed() -> bool:
        found = feeds.get("deployment", "spot-consumer-timescale")
        assert found is not None
        labels = found["metadata"]["labels"]
        return (labels.get("app.kubernetes.io/managed-by"), found["spec"]["replicas"]) == ("marketfeed-operator", 1)

    wait_until(healed, HEAL_S, "the edits to be undone", every_s=0.1)
    found = feeds.get("deployment", "spot-consumer-timescale")
    assert found is not None
    assert found["metadata"]["labels"]["team"] == "markets"


def test_a_symbol_more_changes_a_configmap_and_restarts_nobody(feeds: Feeds) -> None:
    """A new symbol reaches the running pod through its ConfigMap, sooner than the kubelet looks by itself."""
    feeds.apply()
    feeds.wait("Ready")
    (before,) = feeds.items("pods", "app.kubernetes.io/component=ingestor")
    generation = _generation(feeds, "spot-ingestor-0")
    feeds.apply(symbols=["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"])
    wait_until(lambda: feeds.status()["symbols"] == 4, SOON_S, "the status to tell of it", every_s=0.2)
    wait_until(
        lambda: "SOLUSDT@trade" in _held(feeds, "spot-ingestor-0"), HEAL_S, "the ConfigMap to hold it", every_s=0.1
    )
    assert len(_held(feeds, "spot-ingestor-0")) == 8
    (after,) = feeds.items("pods", "app.kubernetes.io/component=ingestor")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["annotations"]["marketfeed.dev/streams"]
    assert _generation(feeds, "spot-ingestor-0") == generation


def _generation(feeds: Feeds, deployment: str) -> int:
    found = feeds.get("deployment", deployment)
    assert found is not None
    return int(found["metadata"]["generation"])


def _held(feeds: Feeds, shard: str) -> list[str]:
    """Return the streams that a shard's ConfigMap names."""
    found = feeds.get("configmap", shard)
    streams: list[str] = [] if found is None else json.loads(found["data"]["streams.json"])["streams"]
    return streams


def test_streams_are_held_by_the_new_shard_before_the_old_one_drops_them(feeds: Feeds, standins: Standins) -> None:
    """Two shards instead of one: the moving streams stay where they are until the new pod carries them."""
    feeds.apply()
    feeds.wait("Ready")
    new = "marketfeed.dev/feed=spot,marketfeed.dev/shard=spot-ingestor-1"
    standins.kubelet.hold(new)
    try:
        feeds.apply(ingest={"streamsPerShard": 3})
        wait_until(lambda: feeds.status().get("handOver"), SOON_S, "the hand-over to begin", every_s=0.2)
        moving = set(_held(feeds, "spot-ingestor-1"))
        assert moving
        assert moving <= set(_held(feeds, "spot-ingestor-0")), "the old shard let go before the new one had them"
        assert feeds.status()["handOver"]["moving"] == len(moving)
    finally:
        standins.kubelet.release(new)
    wait_until(lambda: feeds.status().get("lastHandOver"), SOON_S, "the hand-over to end", every_s=0.2)
    assert not moving & set(_held(feeds, "spot-ingestor-0"))
    assert feeds.status()["lastHandOver"]["moved"] == len(moving)
    assert feeds.status()["lastHandOver"]["broken"] == 0
    assert "-> spot-ingestor-1" in feeds.kubectl("describe", "mf", "spot") or "HandOver" in feeds.kubectl(
        "describe", "mf", "spot"
    )


def test_a_missing_secret_is_named_and_waited_for(feeds: Feeds) -> None:
    """A feed whose Secret is missing says which one; making it is enough."""
    feeds.kubectl("delete", "secret", "timescale")
    feeds.apply()
    found = feeds.wait("SinksReady", "False", "SecretMissing")
    assert "timescale" in found["message"]
    feeds.secret()
    feeds.wait("Ready")


def test_a_changed_secret_rolls_the_pods_that_read_it_and_no_others(feeds: Feeds) -> None:
    """The consumer, which reads the Secret, is rolled; the ingestor is not. The value is nowhere."""
    feeds.apply()
    feeds.wait("Ready")
    consumer, ingestor = _generation(feeds, "spot-consumer-timescale"), _generation(feeds, "spot-ingestor-0")
    feeds.secret(dsn="postgresql://writer:tr0ub4dor@db:5432/marketfeed")
    wait_until(lambda: _generation(feeds, "spot-consumer-timescale") > consumer, SOON_S, "the roll", every_s=0.2)
    assert _generation(feeds, "spot-ingestor-0") == ingestor
    everything = feeds.kubectl("get", "deployments,configmaps,marketfeeds,events,pods", "-o", "yaml")
    assert "tr0ub4dor" not in everything
    assert "hunter2" not in everything


def test_idling_writes_nothing(feeds: Feeds, control_plane: ControlPlane, operator: OperatorProcess) -> None:
    """A feed at rest costs no write: samples, resyncs and watch echoes change nothing."""
    feeds.apply()
    feeds.wait("Ready")
    samples = operator.metric("marketfeed_operator_samples_total")

    def writes() -> list[audit.Request]:
        return [item for item in control_plane.writes(USER) if feeds.namespace in (item.namespace or "", item.uri)]

    before = len(writes())
    wait_until(
        lambda: operator.metric("marketfeed_operator_samples_total") >= samples + 20, SOON_S, "20 samples", every_s=0.5
    )
    assert writes()[before:] == []
