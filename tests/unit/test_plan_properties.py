"""Claims about every feed: one owner for each stream, one plan for one feed, and writes that end."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from feeds import documents, feeds
from marketfeed.events import Stream
from marketfeed_operator.changes import ChangeClass, classify, hold_back, worst
from marketfeed_operator.diff import writes
from marketfeed_operator.handover import current_holdings, hand_over
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import Served, claims_of, key_of
from marketfeed_operator.observed import Observed
from marketfeed_operator.plan import Plan, plan
from marketfeed_operator.spec import parse
from rendering import ALL_SERVED, rendered
from server import Server

LIMIT = 1024  # streams on one connection
ROUNDS = 40


def observed(server: Server, feed: MarketFeed) -> Observed:
    """Return what the feed sees."""
    metadata = {"name": feed.metadata.name, "namespace": "feeds", "uid": feed.metadata.uid}
    return Observed({"metadata": metadata}, ALL_SERVED, dict(server.objects))


def planned(made: Plan) -> dict[str, frozenset[str]]:
    """Return what each shard is to hold."""
    return {shard.name: frozenset(map(str, shard.streams)) for shard in made.shards}


def reconcile(server: Server, feed: MarketFeed) -> int:
    """Write what the feed wants now, as the operator does; return the number of writes."""
    uid = str(feed.metadata.uid)
    seen = observed(server, feed)
    held = current_holdings(seen, uid)
    step = hand_over(planned(plan(feed)), held, held, LIMIT)  # shards carry what they hold
    wanted = rendered(feed, uid, step.holdings)
    allowed, _ = hold_back(wanted, seen, classify(wanted, seen, uid, feed.spec.deletion_policy), None)
    found = writes(allowed, seen, uid)
    server.write(found)
    return len(found)


def settle(server: Server, feed: MarketFeed) -> None:
    """Reconcile until nothing is written; fail where that does not come."""
    for _ in range(ROUNDS):
        if reconcile(server, feed) == 0:
            return
    raise AssertionError(f"still writing after {ROUNDS} rounds")


@settings(deadline=None, max_examples=30)
@given(feeds())
def test_a_plan_depends_on_the_feed_alone(feed: MarketFeed) -> None:
    """Planning the same feed again, and from its own JSON, gives an equal plan."""
    again = parse(feed.model_dump(mode="json", by_alias=True, exclude_unset=True))
    assert plan(feed) == plan(feed) == plan(again)


@settings(deadline=None, max_examples=30)
@given(feeds())
def test_every_stream_has_one_owner_in_a_plan(feed: MarketFeed) -> None:
    """All shards together hold every stream of the feed, each once."""
    held = sorted(stream for shard in plan(feed).shards for stream in shard.streams)
    assert held == sorted(Stream(symbol, channel) for symbol in feed.spec.symbols for channel in feed.spec.channels)


@settings(deadline=None, max_examples=30)
@given(feeds())
def test_a_second_look_writes_nothing(feed: MarketFeed) -> None:
    """After one round everything is as it should be: no write, and no change to tell of."""
    server = Server()
    reconcile(server, feed)
    assert reconcile(server, feed) == 0
    uid = str(feed.metadata.uid)
    found = classify(rendered(feed, uid), observed(server, feed), uid, feed.spec.deletion_policy)
    assert worst(found) is ChangeClass.NONE


@settings(deadline=None, max_examples=30)
@given(documents(), documents())
def test_any_feed_can_become_any_other(first: dict[str, object], second: dict[str, object]) -> None:
    """A change of everything at once ends in the objects of the new feed alone, and in no more writes."""
    before = parse(first)
    after = parse({**second, "metadata": first["metadata"]})
    server = Server()
    settle(server, before)
    settle(server, after)
    uid = str(after.metadata.uid)
    wanted = {key_of(manifest) for manifest in rendered(after, uid)}
    left = {key for key, live in server.objects.items() if key not in wanted and not claims_of(live)}
    assert wanted <= server.objects.keys()
    assert left == set()


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_no_stream_is_without_a_shard_while_shards_change(data: st.DataObject) -> None:
    """In every round of a change each stream that stays wanted is held, by two shards only on its way."""
    first = data.draw(documents(suspend=False))
    spec = {**first["spec"], "symbols": [*data.draw(st.permutations(first["spec"]["symbols"])), "ZZZUSDT"]}
    spec["ingest"] = {"streamsPerShard": data.draw(st.integers(1, 9)), "maxShards": 100}
    before, after = parse(first), parse({**first, "spec": spec})
    uid = str(before.metadata.uid)
    stays = {str(stream) for shard in plan(before).shards for stream in shard.streams}
    server = Server()
    settle(server, before)
    for _ in range(ROUNDS):
        written = reconcile(server, after)
        held = [stream for streams in current_holdings(observed(server, after), uid).values() for stream in streams]
        assert stays <= set(held)
        assert all(held.count(stream) <= 2 for stream in held)
        if not written:
            break
    assert current_holdings(observed(server, after), uid) == planned(plan(after))


@settings(deadline=None, max_examples=20)
@given(feeds(), st.data())
def test_drift_of_any_object_is_mended(feed: MarketFeed, data: st.DataObject) -> None:
    """Whatever object is deleted, or loses its spec, data and labels, is as before after one round."""
    server = Server()
    settle(server, feed)
    before = dict(server.objects)
    key = data.draw(st.sampled_from(sorted(set(before))))
    if data.draw(st.booleans()):
        server.remove(key)
    else:
        server.edit(key, lambda live: live["metadata"].update(labels={}))
    settle(server, feed)
    assert server.objects == before


@settings(deadline=None, max_examples=20)
@given(feeds())
def test_a_cluster_without_optional_apis_is_served_too(feed: MarketFeed) -> None:
    """Where nobody serves topics, jobs and monitors, the rest is written and nothing of these kinds."""
    uid, server = str(feed.metadata.uid), Server()
    bare = replace(observed(server, feed), served=Served())
    server.write(writes(rendered(feed, uid, served=Served()), bare, uid))
    assert not {key.kind for key in server.objects} & {"KafkaTopic", "SparkApplication", "PodMonitor"}
    assert writes(rendered(feed, uid, served=Served()), observed(server, feed), uid) == ()
