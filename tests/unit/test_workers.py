"""Whom a change concerns, what is left by feeds that are gone, and what becomes of work that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fake_cluster import FakeCluster, unanswered
from marketfeed_operator import workers
from marketfeed_operator.api.errors import LostLeadership, NotLeader
from marketfeed_operator.health import Progress
from marketfeed_operator.objects import Key, Manifest, key_of
from marketfeed_operator.observed import DirectTopics, Sample
from marketfeed_operator.reconcile import Again, Tools
from marketfeed_operator.sampler import Sampler
from marketfeed_operator.store import Change, FeedName
from marketfeed_operator.workers import Left, Topic, Work, Workers
from marketfeed_operator.workqueue import WorkQueue
from operator_tools import FakeTopics, tools

SPOT, OTHER = FeedName("md", "spot"), FeedName("md", "other")
DEPLOYMENT = Key("apps", "Deployment", "md", "spot-ingestor-0")


class Bench:
    """Workers, and all that they know and are told."""

    def __init__(self, *namespaces: str) -> None:
        self.now = 0.0
        self.cluster = FakeCluster()
        self.direct = FakeTopics()
        self.tools = tools(self.cluster, direct=self.direct)
        self.store = self.tools.store
        self.queue: WorkQueue[Work] = WorkQueue(clock=lambda: self.now, draw=lambda: 0.5)
        self.sampler = Sampler(self.store, self.tools.metrics, 15.0, lambda _: None)
        self.progress = Progress(self.tools.metrics)
        self.workers = Workers(self.tools, self.queue, self.sampler, self.progress, namespaces, clock=lambda: self.now)
        self._versions = 0

    def object(self, api: str, kind: str, name: str, **metadata: Any) -> dict[str, Any]:
        """Return an object, newer than all before it."""
        self._versions += 1
        usual = {"namespace": "md", "name": name, "resourceVersion": str(self._versions)}
        return {"apiVersion": api, "kind": kind, "metadata": usual | metadata}

    def feed(self, name: str = "spot", uid: str = "u1", spec: Any = None, **metadata: Any) -> dict[str, Any]:
        """Return a MarketFeed."""
        made = self.object("marketfeed.dev/v1alpha1", "MarketFeed", name, uid=uid, **metadata)
        return {**made, "spec": spec or {}}

    def topic(self, name: str = "binance.trades", **claims: str) -> dict[str, Any]:
        """Return a KafkaTopic that feeds claim: uid → namespace_name."""
        labels = {f"claim.marketfeed.dev/{uid}": feed for uid, feed in claims.items()}
        made = self.object("kafka.strimzi.io/v1", "KafkaTopic", name, namespace="kafka", uid="t1", labels=labels)
        return {**made, "spec": {}}

    def put(self, manifest: Manifest) -> None:
        """Let the watch see an object."""
        change = self.store.put(manifest)
        assert change is not None
        self.workers.changed(change)

    def drop(self, manifest: Manifest) -> None:
        """Let the watch see that an object is gone."""
        change = self.store.drop({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "999999"}})
        assert change is not None
        self.workers.changed(change)

    def waiting(self) -> list[Work]:
        """Return what waits, in the order in which it would be worked on; afterwards none of it waits."""
        found = []
        while (work := self.queue.pop()) is not None:
            found.append(work)
            self.queue.done(work)
        return found

    def urgent(self) -> list[Work]:
        """Return what waits and overtakes the rest."""
        return [work for lane in reversed(self.queue._lanes[1:]) for work in lane]

    def failed(self, kind: str) -> float:
        """Return how often work failed with this kind of error."""
        found = self.tools.metrics.registry.get_sample_value("marketfeed_operator_errors_total", {"kind": kind})
        return found or 0.0


def labels(feed: str | None = "spot", uid: str | None = "u1") -> dict[str, str]:
    """Return the labels of a child."""
    found = {"marketfeed.dev/feed": feed, "marketfeed.dev/feed-uid": uid}
    return {name: value for name, value in found.items() if value is not None}


# ---- whom it concerns ----


def test_a_change_of_a_feed_that_runs_does_not_wait_for_many_new_ones() -> None:
    """Five hundred feeds are made at once; a symbol that somebody adds to another one meanwhile comes next."""
    b = Bench()
    b.put(b.feed())
    b.waiting()
    for number in range(500):
        b.put(b.feed(f"new-{number}", f"u-{number}"))
    b.put(b.feed(spec={"symbols": ["A"]}))
    assert b.waiting()[0] == SPOT


def test_what_a_person_changes_overtakes_and_what_we_write_does_not() -> None:
    """A new feed, another spec, another annotation: urgent. A status, as our own write's echo: ordinary."""
    b = Bench()
    for body, urgent in [
        (b.feed(), True),
        ({**b.feed(), "status": {"observedGeneration": 1}}, False),
        ({**b.feed(spec={"symbols": ["A"]})}, True),
        ({**b.feed(spec={"symbols": ["A"]}, annotations={"marketfeed.dev/paused": "true"})}, True),
    ]:
        b.put(body)
        assert (b.urgent() == [SPOT]) is urgent
        assert b.waiting() == [SPOT]


def test_a_child_that_is_deleted_is_urgent_and_one_that_changes_is_not() -> None:
    """What somebody took away comes back soon; a Deployment's progress waits its turn; so does a pod's end."""
    b = Bench()
    deployment = b.object("apps/v1", "Deployment", "spot-ingestor-0", labels=labels())
    pod = b.object("v1", "Pod", "spot-ingestor-0-x", labels=labels())
    for manifest, urgent in ((deployment, [SPOT]), (pod, [])):
        b.put(manifest)
        assert b.urgent() == []
        assert b.waiting() == [SPOT]
        b.drop(manifest)
        assert b.urgent() == urgent
        assert b.waiting() == [SPOT]


@pytest.mark.parametrize(
    "left",
    [labels(uid=None), labels(feed=None), {}, labels(feed="other", uid="u2")],
    ids=["feed", "uid", "none", "other"],
)
def test_a_feed_is_told_of_a_label_that_is_taken_off(left: dict[str, str]) -> None:
    """Whoever edits a child's labels away does not hide the child from its feed; a feed that got it is told too."""
    b = Bench()
    b.put(b.feed())
    b.put(b.feed("other", "u2"))
    b.put(b.object("apps/v1", "Deployment", "spot-ingestor-0", labels=labels()))
    b.waiting()
    b.put(b.object("apps/v1", "Deployment", "spot-ingestor-0", labels=left))
    assert b.waiting() == ([SPOT, OTHER] if "other" in left.values() else [SPOT])


def test_a_topic_concerns_every_feed_that_claims_or_claimed_it() -> None:
    """Two feeds share a topic; one whose claim is taken off by hand claims it anew."""
    b = Bench()
    b.put(b.feed())
    b.put(b.feed("other", "u2"))
    b.waiting()
    b.put(b.topic(u1="md_spot", u2="md_other"))
    assert set(b.waiting()) == {SPOT, OTHER}
    b.put(b.topic(u2="md_other"))
    assert set(b.waiting()) == {SPOT, OTHER}


def test_a_claim_of_a_feed_that_is_gone_is_work_on_the_topic() -> None:
    """Nobody bears the uid any more: the topic itself is looked at."""
    b = Bench()
    topic = b.topic(u9="md_gone")
    b.put(topic)
    assert b.waiting() == [Topic(key_of(topic))]


def test_what_is_nobodys_concerns_nobody() -> None:
    """An object with our label managed-by and no feed's sets nothing in motion."""
    b = Bench()
    b.put(b.object("v1", "ConfigMap", "x", labels={}))
    assert b.waiting() == []


# ---- feeds that go ----


def test_topics_of_a_feed_that_is_deleted_are_let_go_as_the_feed_last_said() -> None:
    """The policy that was in the feed counts, not the older one on the topic; the resource is deleted with its data."""
    b = Bench()
    b.put(b.feed(spec={"deletionPolicy": "Retain"}))
    topic = b.cluster.put(b.topic(u1="md_spot"))
    b.put({**topic, "metadata": {**topic["metadata"], "resourceVersion": "1"}})
    last = b.feed(spec={"deletionPolicy": "Delete"})
    b.put(last)
    b.store.put(b.cluster.at(key_of(topic)) or {})
    b.waiting()
    b.drop(last)
    assert b.urgent() == [Topic(key_of(topic))]
    live = b.cluster.at(key_of(topic))
    assert live is not None
    b.store._objects[key_of(topic)] = live  # as the watch has it
    worked(b, Topic(key_of(topic)))
    assert b.cluster.at(key_of(topic)) is None


def test_direct_topics_of_a_feed_that_is_deleted_are_removed_once() -> None:
    """They are given the feed as it was last; the work is done, and no second time."""
    b = Bench()
    b.put(b.feed())
    last = b.feed(spec={"deletionPolicy": "Delete"})
    b.put(last)
    b.waiting()
    b.drop(last)
    assert b.waiting() == [Left("u1")]
    b.queue.add(Left("u1"))
    worked(b, Left("u1"))
    assert [(name, body["spec"]) for name, body in b.direct.removed] == [(SPOT, last["spec"])]
    b.queue.add(Left("u1"))
    worked(b, Left("u1"))
    assert len(b.direct.removed) == 1
    assert b.failed("KeyError") == 0


def test_a_replica_that_comes_to_lead_late_removes_no_topics() -> None:
    """It saw the feed go when another one led, which removed them; by now somebody else may have topics so named."""
    b = Bench()
    b.put(b.feed())
    b.waiting()
    b.drop(b.feed())
    b.now = 121.0
    worked(b, Left("u1"))
    assert b.direct.removed == []


def test_a_feed_that_is_made_again_is_another_one() -> None:
    """A change that shows another uid is a deletion too: the former feed's topics are let go, the new feed is begun."""
    b = Bench()
    b.put(b.feed(uid="u1"))
    topic = b.topic(u1="md_spot")
    b.put(topic)
    b.waiting()
    b.put(b.feed(uid="u2"))
    assert set(b.urgent()) == {SPOT, Topic(key_of(topic))}
    assert Left("u1") in b.waiting()


def test_what_was_remembered_of_a_feed_goes_with_it() -> None:
    """Its failures and its secrets are forgotten, and its next failure would be its first."""
    b = Bench()
    b.put(b.feed())
    b.queue.retry(SPOT)
    b.store.failures["u1"] = {DEPLOYMENT: "no"}
    b.drop(b.feed())
    assert b.store.failures == {}
    assert b.queue.failures(SPOT) == 0


@pytest.mark.parametrize(
    ("namespaces", "claim", "ours"),
    [((), "other_x", True), (("md",), "md_gone", True), (("md",), "other_x", False)],
    ids=["all namespaces", "ours", "another operator's"],
)
def test_only_orphans_of_our_namespaces_are_let_go(namespaces: tuple[str, ...], claim: str, ours: bool) -> None:  # noqa: FBT001
    """A second operator's feed is unknown to this one and alive: its topics are not touched."""
    b = Bench(*namespaces)
    topic = b.cluster.put(b.topic(u9=claim))
    b.store.put(topic)
    b.workers.everything()
    assert b.waiting() == ([Topic(key_of(topic))] if ours else [])
    worked(b, Topic(key_of(topic)))
    assert bool(b.cluster.written()) is ours


def test_a_topic_of_a_feed_that_the_watch_has_not_told_of_is_not_let_go() -> None:
    """A leader before us may have claimed it for a feed that we have not seen: the API server is asked for feeds."""
    b = Bench()
    topic = b.cluster.put(b.topic(u1="md_spot"))
    b.store.put(topic)
    b.cluster.put(b.feed(uid="u1", spec={"deletionPolicy": "Delete"}))
    asyncio.run(b.workers._let_go(key_of(topic)))
    assert b.cluster.written() == []
    assert b.urgent() == [SPOT], "the feed is begun instead"


def test_the_api_server_is_asked_once_for_all_lost_feeds() -> None:
    """Two topics of two feeds that nobody saw go need one list of feeds, however often they are looked at."""
    b = Bench()
    first, second = (
        b.cluster.put(b.topic(name, u8="md_a", **more)) for name, more in (("x", {}), ("y", {"u9": "md_b"}))
    )
    for topic in (first, second):
        b.store.put(topic)
    for topic in (first, second, first):
        asyncio.run(b.workers._let_go(key_of(topic)))
    assert [call for call in b.cluster.calls if call[0] == "list"] == [("list", "MarketFeed")]


def test_everything_is_every_feed_and_every_orphan() -> None:
    """After a comparison all feeds are looked at; topics of living feeds are theirs to look at."""
    b = Bench()
    b.store.put(b.feed())
    b.store.put(b.feed("other", "u2"))
    b.store.put(b.topic(u1="md_spot"))
    b.store.put(b.topic("left", u9="md_gone"))
    b.workers.everything()
    assert b.waiting() == [SPOT, OTHER, Topic(Key("kafka.strimzi.io", "KafkaTopic", "kafka", "left"))]


def test_a_topic_that_two_lost_feeds_left_is_freed_of_both() -> None:
    """One after the other in one piece of work; the second step sees what the first one made."""
    b = Bench()
    topic = b.cluster.put(b.topic(u8="md_a", u9="md_b"))
    b.store.put(topic)
    worked(b, Topic(key_of(topic)))
    assert [verb for verb, _ in b.cluster.written()] == ["patch", "patch"]
    live = b.cluster.at(key_of(topic))
    assert live is not None
    assert live["metadata"]["annotations"]["strimzi.io/managed"] == "false"
    assert b.queue.delayed == 1, "Strimzi's answer must be looked for"


# ---- the work ----


def worked(b: Bench, *works: Work, until: Callable[[], bool] | None = None) -> None:
    """Let one worker do these, until nothing waits (or `until`); raises what ends the worker."""

    def done() -> bool:
        return until() if until is not None else not b.queue.depth and not b.queue.working

    async def run() -> None:
        b.queue._changed = asyncio.Event()  # of this loop
        for work in works:
            b.queue.add(work)
        worker = asyncio.create_task(b.workers.work())
        async with asyncio.timeout(10):
            while not worker.done() and not done():  # noqa: ASYNC110 - the queue tells nobody that it is empty
                await asyncio.sleep(0)
        if worker.done():
            worker.result()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    asyncio.run(run())


def reconciles(monkeypatch: pytest.MonkeyPatch, does: Callable[[FeedName], Awaitable[Again]]) -> None:
    """Let `does` stand for a feed's reconciliation."""

    async def reconcile(name: FeedName, _: Tools) -> Again:
        return await does(name)

    monkeypatch.setattr(workers, "reconcile", reconcile)


def test_what_is_gone_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feeds that come and go leave nothing in memory: objects, secrets' users, policies, failures, samples, work."""
    b = Bench()

    async def does(name: FeedName) -> Again:
        if b.store.feed(name) is not None:
            await b.tools.secrets.need(name, ["timescale"])
        return Again()

    reconciles(monkeypatch, does)
    for number in range(20):
        name, uid = f"feed-{number}", f"u-{number}"
        made = [
            b.feed(name, uid, {"deletionPolicy": "Delete"}),
            b.object("apps/v1", "Deployment", f"{name}-ingestor-0", labels=labels(name, uid)),
            b.object("v1", "Pod", f"{name}-ingestor-0-x", labels=labels(name, uid)),
            b.topic(f"{name}.trades", **{uid: f"md_{name}"}),
        ]
        for manifest in made:
            b.put(manifest)
        b.store.samples["md", f"{name}-ingestor-0-x"] = Sample(pod=f"{name}-ingestor-0-x", at=0.0, stats=None)
        b.store.failures[uid], b.store.direct[uid] = {}, DirectTopics(at=0.0)
        worked(b)
        for manifest in made:
            b.drop(manifest)
        worked(b)
    b.workers.everything()
    worked(b)
    store = b.store
    assert not any((store._objects, store._owned, store._pods, store._feeds))
    assert not any((store.samples, store.failures, store.direct, store.secrets, b.tools.secrets._users))
    assert not any((b.workers._policies, b.workers._left, b.queue.depth, b.queue.delayed, b.queue._failures))


def test_much_work_that_waits_for_nothing_leaves_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of feeds that are as they should be are looked at one by one: what else is due runs in between."""
    b = Bench()
    ran: list[str] = []

    async def does(name: FeedName) -> Again:
        asyncio.get_running_loop().call_soon(ran.append, "other")
        ran.append(name.name)
        return Again()

    reconciles(monkeypatch, does)
    worked(b, *(FeedName("md", f"feed-{number}") for number in range(3)))
    assert ran[:5] == ["feed-0", "other", "feed-1", "other", "feed-2"]


def test_an_api_error_is_put_off_with_growing_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure waits longer than the one before; a success begins anew."""
    b = Bench()
    fails = True

    async def does(_: FeedName) -> Again:
        if fails:
            raise unanswered()
        return Again()

    reconciles(monkeypatch, does)
    delays = []
    for _ in range(4):
        worked(b, SPOT)
        delays.append(b.queue._due.pop(SPOT) - b.now)
    assert delays == sorted(set(delays))
    assert b.failed("Unanswered") == 4
    fails = False
    worked(b, SPOT)
    assert b.queue.failures(SPOT) == 0
    assert b.queue.delayed == 0


def test_a_bug_in_one_feeds_work_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other feed is done; the broken one is logged with its traceback and put off."""
    b = Bench()
    done = []

    async def does(name: FeedName) -> Again:
        if name == SPOT:
            raise ZeroDivisionError("oops")
        done.append(name)
        return Again()

    reconciles(monkeypatch, does)
    worked(b, SPOT, OTHER)
    assert done == [OTHER]
    assert b.queue.failures(SPOT) == 1
    assert b.failed("ZeroDivisionError") == 1
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("error", [NotLeader, LostLeadership])
def test_without_the_lease_the_worker_ends(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """Nothing is tried again by a replica that may not write; what was begun counts as ended."""
    b = Bench()

    async def does(_: FeedName) -> Again:
        raise error

    reconciles(monkeypatch, does)
    with pytest.raises(error):
        worked(b, SPOT)
    assert b.queue.delayed == 0
    assert b.queue.working == frozenset()
    assert b.progress.stats()["at_work"] == 0


def test_what_a_reconciliation_asks_for_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at again after the time that it names, and its pods are asked at the next tick."""
    b = Bench()

    async def does(_: FeedName) -> Again:
        return Again(after_s=7.0, sample=True)

    reconciles(monkeypatch, does)
    worked(b, SPOT)
    assert b.queue._due[SPOT] == 7.0
    assert b.sampler._hurried == {SPOT}


def test_a_change_amid_the_work_is_worked_on_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No change is lost, and no feed is in two workers' hands."""
    b = Bench()
    runs: list[int] = []

    async def does(name: FeedName) -> Again:
        runs.append(len(b.queue.working))
        if len(runs) == 1:
            b.workers.changed(Change(Key("marketfeed.dev", "MarketFeed", *name), None, b.feed()))
            await asyncio.sleep(0)
        return Again()

    reconciles(monkeypatch, does)
    worked(b, SPOT, until=lambda: len(runs) == 2)
    assert runs == [1, 1]
