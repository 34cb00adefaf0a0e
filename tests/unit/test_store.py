"""The operator's store: what watches and writes tell, indexed by feed."""

from __future__ import annotations

from typing import Any

from marketfeed_operator.objects import key_of
from marketfeed_operator.observed import DirectTopics, Sample
from marketfeed_operator.store import FeedName, Store

FEED = FeedName("markets", "spot")


def thing(kind: str, name: str, version: int, **metadata: Any) -> dict[str, Any]:
    """Return an object with this resourceVersion."""
    group = {"MarketFeed": "marketfeed.dev/v1alpha1", "KafkaTopic": "kafka.strimzi.io/v1", "Pod": "v1"}
    return {
        "apiVersion": group.get(kind, "apps/v1"),
        "kind": kind,
        "metadata": {"namespace": "markets", "name": name, "resourceVersion": str(version), **metadata},
    }


def feed(version: int = 1, uid: str = "u1") -> dict[str, Any]:
    """Return the MarketFeed of all these tests."""
    return {**thing("MarketFeed", "spot", version, uid=uid), "spec": {}}


def child(version: int = 1, uid: str = "u1") -> dict[str, Any]:
    """Return its shard."""
    return thing("Deployment", "spot-ingestor-0", version, labels={"marketfeed.dev/feed-uid": uid})


def test_an_older_state_never_replaces_a_newer_one() -> None:
    """What a write returned counts, and the watch's late echo of the state before it changes nothing."""
    store = Store()
    assert store.put(child(version=10)) is not None
    assert store.put(child(version=9)) is None
    assert store.put(child(version=10)) is None
    assert store.get(key_of(child())) == child(version=10)


def test_an_object_moves_to_another_version_of_its_api() -> None:
    """After an upgrade of Strimzi the same KafkaTopic is spoken to by the API version that is served now."""
    store = Store()
    topic = thing("KafkaTopic", "binance.trades", 7)
    store.put({**topic, "apiVersion": "kafka.strimzi.io/v1beta2"})
    assert store.put(topic) is not None
    kept = store.get(key_of(topic))
    assert kept is not None
    assert kept["apiVersion"] == "kafka.strimzi.io/v1"


def test_versions_are_compared_as_numbers() -> None:
    """99 is older than 100."""
    store = Store()
    store.put(child(version=99))
    assert store.put(child(version=100)) is not None


def test_a_late_deletion_of_a_former_object_leaves_the_new_one() -> None:
    """An object that was made again under its name is not lost to the deletion of the one before."""
    store = Store()
    store.put(child(version=20))
    assert store.drop(child(version=15)) is None
    assert store.get(key_of(child())) is not None
    assert store.drop(child(version=21)) is not None
    assert store.get(key_of(child())) is None


def test_a_deletion_tells_of_the_last_state() -> None:
    """What was changed in the breath before the deletion comes with the deletion's event alone, and counts."""
    store = Store()
    store.put(child(version=20))
    last = {**child(version=21), "spec": {"changed": True}}
    change = store.drop(last)
    assert change is not None
    assert change.old == last


def test_children_are_found_by_the_feeds_uid() -> None:
    """A child belongs to the feed whose uid it bears now, and to none once it is gone."""
    store = Store()
    store.put(child(version=1, uid="u1"))
    assert list(store.owned("u1")) == [key_of(child())]
    store.put(child(version=2, uid="u2"))
    assert not store.owned("u1")
    assert list(store.owned("u2")) == [key_of(child())]
    store.drop(child(version=3, uid="u2"))
    assert not store.owned("u2")


def test_a_topic_belongs_to_every_feed_that_claims_it() -> None:
    """Two claims make a topic the child of two feeds."""
    store = Store()
    labels = {"claim.marketfeed.dev/u1": "spot", "claim.marketfeed.dev/u2": "other"}
    topic = thing("KafkaTopic", "binance.trades", 1, labels=labels)
    store.put(topic)
    assert list(store.owned("u1")) == list(store.owned("u2")) == [key_of(topic)]


def test_pods_are_the_feeds_and_never_its_children() -> None:
    """A pod bears the feed's labels, but its Deployment owns it: nothing of ours may prune it."""
    store = Store()
    labels = {"marketfeed.dev/feed": "spot", "marketfeed.dev/feed-uid": "u1"}
    pod = thing("Pod", "spot-ingestor-0-abc", 1, labels=labels)
    store.put(pod)
    assert store.pods(FEED) == (pod,)
    assert not store.owned("u1")


def test_a_pods_sample_goes_with_the_pod() -> None:
    """What a pod said is forgotten when it is gone."""
    store = Store()
    pod = thing("Pod", "p", 1, labels={"marketfeed.dev/feed": "spot"})
    store.put(pod)
    store.samples["markets", "p"] = Sample(pod="p", at=0.0, stats={})
    store.drop({**pod, "metadata": {**pod["metadata"], "resourceVersion": "2"}})
    assert not store.samples
    assert store.pods(FEED) == ()


def test_a_pods_sample_lasts_as_long_as_its_processes() -> None:
    """A pod that becomes ready keeps what it said; one whose container was started again has said nothing yet."""
    store = Store()

    def pod(version: int, uid: str = "u", restarts: int | None = None) -> dict[str, Any]:
        statuses = [] if restarts is None else [{"name": "ingestor", "restartCount": restarts}]
        return {**thing("Pod", "p", version, uid=uid), "status": {"containerStatuses": statuses}}

    said = Sample(pod="p", at=0.0, stats={})
    store.put(pod(1))
    store.samples["markets", "p"] = said
    store.put(pod(2, restarts=0))
    assert store.samples["markets", "p"] is said
    store.put(pod(3, restarts=1))
    assert not store.samples
    store.samples["markets", "p"] = said
    store.put(pod(4, uid="v", restarts=1))
    assert not store.samples


def test_a_feed_is_known_by_its_uid_as_long_as_it_is_there() -> None:
    """A feed that was deleted and made again is another one."""
    store = Store()
    store.put(feed(version=1, uid="u1"))
    assert store.named("u1") == FEED
    store.put(feed(version=5, uid="u2"))
    assert store.named("u1") is None
    assert store.named("u2") == FEED
    assert store.feeds() == [FEED]


def test_observation_holds_what_concerns_the_feed_and_nothing_else() -> None:
    """Another feed's children, pods and secrets stay out; what is to be adopted is in."""
    store = Store()
    store.put(feed())
    store.put(child())
    store.put(thing("Deployment", "other", 1, labels={"marketfeed.dev/feed-uid": "u9"}))
    store.secrets["markets", "timescale"] = "uid:7"
    store.direct["u1"] = DirectTopics(at=1.0)
    found = thing("Deployment", "spot-consumer-x", 3)
    observed = store.observe(FEED, feed(), ["timescale", "missing"], [found])
    assert set(observed.children) == {key_of(child()), key_of(found)}
    assert observed.secrets == {"timescale": "uid:7", "missing": None}
    assert observed.direct == DirectTopics(at=1.0)


def test_the_book_of_field_managers_is_not_kept() -> None:
    """managedFields, half of an object's size, is dropped."""
    store = Store()
    store.put(thing("Deployment", "d", 1, managedFields=[{"manager": "somebody"}]))
    kept = store.get(key_of(thing("Deployment", "d", 1)))
    assert kept is not None
    assert "managedFields" not in kept["metadata"]


def test_readiness_counts_each_feed_once() -> None:
    """Feeds are counted by their condition Ready; one without a status is Unknown."""
    store = Store()
    store.put({**feed(), "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    store.put({**thing("MarketFeed", "new", 1, uid="u2"), "spec": {}})
    assert store.readiness() == {"True": 1, "False": 0, "Unknown": 1}


def test_reasons_tell_feeds_of_one_status_apart() -> None:
    """Feeds are counted by status and reason of Ready; one without a status waits for its first look."""
    store = Store()
    lacking = {"type": "Ready", "status": "False", "reason": "SecretMissing"}
    store.put({**feed(), "status": {"conditions": [{"type": "Complete", "status": "True"}, lacking]}})
    store.put({**thing("MarketFeed", "new", 1, uid="u2"), "spec": {}})
    assert store.reasons() == {("False", "SecretMissing"): 1, ("Unknown", "Reconciling"): 1}
