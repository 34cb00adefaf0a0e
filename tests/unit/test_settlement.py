"""Settling before the operator goes: what is let go, what is left to others, and what is said of all that stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from fake_cluster import Call, FakeCluster, unanswered
from marketfeed_operator import settle
from marketfeed_operator.api.errors import Forbidden, NotServed
from marketfeed_operator.objects import KAFKA_TOPIC_V1, MANAGED_BY, MANAGER, Key, Manifest, claims_of
from marketfeed_operator.settings import OperatorSettings
from marketfeed_operator.settlement import Sight, farewell
from observations import NOW, later, stamp, topic

LIMIT_S = 60.0
UNMANAGED = {"type": "Unmanaged", "status": "True"}
UNTENDED = (
    "Their pods go on, and Kubernetes restarts them. Nothing else heals: an object that is lost is not made anew, "
    "a streaming job that ends stays ended, and no change of a feed takes effect."
)
TRADES = Key(KAFKA_TOPIC_V1.group, KAFKA_TOPIC_V1.kind, "kafka", "trades")


def claimed(name: str = "trades", *claims: str, policy: str | None = None, **metadata: Any) -> Manifest:
    """Return a topic of ours; the claims are of uids u1, u2, … in order."""
    labels = {f"claim.marketfeed.dev/u{number}": feed for number, feed in enumerate(claims or ["md_spot"], start=1)}
    annotations = {} if policy is None else {"marketfeed.dev/deletion-policy": policy}
    annotations |= metadata.pop("annotations", {})
    return topic(name, labels={MANAGED_BY: MANAGER, **labels}, annotations=annotations, **metadata)


def feed(name: str = "spot", uid: str = "u1", ready: str | None = "True", **spec: Any) -> Manifest:
    """Return a MarketFeed whose Ready is so."""
    condition = {"type": "Ready", "status": ready, "reason": "SinksNotReady" if ready == "False" else "AllGood"}
    return {
        "apiVersion": "marketfeed.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"namespace": "md", "name": name, "uid": uid},
        "spec": spec,
        "status": {"conditions": [condition] if ready else []},
    }


class Bench:
    """A cluster, a clock that the settling's own waits move, and others who act while it waits."""

    def __init__(self, *objects: Manifest, namespaces: tuple[str, ...] = ()) -> None:
        self.cluster = FakeCluster(*objects)
        self.settings = OperatorSettings(namespaces=namespaces)
        self.passed_s = 0.0
        self.meanwhile: Callable[[], None] = lambda: None
        self.told: list[str] = []
        self.times: dict[Call, float] = {}

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.passed_s)

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.passed_s += seconds
        self.meanwhile()

    def settle(self, timeout_s: float = LIMIT_S, before: Callable[[Call], None] = lambda _: None) -> list[str]:
        """Settle; return what is left in sentences. `before` is what somebody else does at the moment of a call."""

        def called(call: Call) -> None:
            self.times.setdefault(call, self.passed_s)
            before(call)

        self.cluster.before = called
        settling = settle.Settling(
            self.cluster,
            self.settings,
            timeout_s,
            self.told.append,
            clock=lambda: self.passed_s,
            now=self.now,
            sleep=self.sleep,
        )
        return asyncio.run(settling.run())

    def strimzi(self) -> None:
        """Let Strimzi say of every topic that is marked so that it does not manage it."""
        for found in self.cluster.objects("KafkaTopic"):
            marked = found["metadata"].get("annotations", {}).get("strimzi.io/managed") == "false"
            if marked and UNMANAGED not in found["status"]["conditions"]:
                said = {"conditions": [UNMANAGED], "observedGeneration": found["metadata"]["generation"]}
                self.cluster.put({**found, "status": said})

    def trades(self) -> Manifest:
        found = self.cluster.at(TRADES)
        assert found is not None
        return found


# ---- what is let go ----


def test_with_nothing_to_let_go_nothing_is_written_and_no_time_goes_by() -> None:
    """Feeds that are there keep their topics; an empty cluster is no error."""
    b = Bench(feed(), claimed())
    assert "No topic of a deleted feed is left to be let go." in b.settle()
    empty = Bench()
    assert empty.settle() == [
        "No topic of a deleted feed is left to be let go.",
        "No feed is left: nothing runs on.",
    ]
    assert (b.cluster.written(), b.passed_s, empty.passed_s) == ([], 0.0, 0.0)


def test_a_topic_that_is_kept_goes_step_by_step_as_with_an_operator() -> None:
    """It is marked, Strimzi is waited for, the resource goes; each step is told once."""
    b = Bench(claimed())
    b.meanwhile = b.strimzi
    left = b.settle()
    assert b.cluster.at(TRADES) is None
    assert [verb for verb, _ in b.cluster.written()] == ["patch", "delete"]
    assert b.told == [
        "KafkaTopic kafka/trades is kept: Strimzi is asked to let go of it.",
        "KafkaTopic kafka/trades is deleted: its topic and data are kept.",
    ]
    assert left[0] == "No topic of a deleted feed is left to be let go."


def test_a_release_that_an_operator_began_is_ended() -> None:
    """Of a topic that is marked and unmanaged only the resource is left to delete."""
    marks = {"strimzi.io/managed": "false", "marketfeed.dev/released-at": stamp(NOW)}
    begun = {**claimed(annotations=marks), "status": {"conditions": [UNMANAGED], "observedGeneration": 1}}
    b = Bench(begun)
    b.settle()
    assert [verb for verb, _ in b.cluster.written()] == ["delete"]


def test_data_goes_only_where_the_topic_says_delete() -> None:
    """The policy that an operator wrote down counts, as for an operator that was away."""
    b = Bench(claimed(policy="Delete"))
    b.settle()
    assert [verb for verb, _ in b.cluster.written()] == ["delete"]
    assert b.told == ["KafkaTopic kafka/trades is deleted: with its topic and data."]


def test_a_topic_is_the_leaders_first() -> None:
    """A leader that saw the feed go knows its last policy: nothing is written in the first three seconds."""
    b = Bench(claimed(policy="Delete"))
    b.settle()
    assert b.times["delete", str(TRADES)] >= 3.0


def test_what_the_leader_does_in_its_time_is_not_done_again() -> None:
    """The leader lets the topic go while it is waited for: nothing is written at all."""
    b = Bench(claimed())
    b.meanwhile = lambda: b.cluster.remove(TRADES)
    assert b.settle()[0] == "No topic of a deleted feed is left to be let go."
    assert b.cluster.written() == []


def test_where_strimzi_is_away_the_topic_is_left_as_nobodys_when_time_runs_out() -> None:
    """Not managed, without a label of ours, told with what to do; and all in the time and a few seconds."""
    b = Bench(claimed())
    left = b.settle(20.0)
    live = b.trades()
    assert live["metadata"]["annotations"]["strimzi.io/managed"] == "false"
    assert claims_of(live) == {}
    assert MANAGED_BY not in live["metadata"]["labels"]
    assert 20.0 <= b.passed_s <= 25.0
    assert b.told[-1].startswith("KafkaTopic kafka/trades stays, not managed: Strimzi has not answered for 17 s.")
    assert left[0] == "No topic of a deleted feed is left to be let go."


def test_a_live_feed_that_shares_the_topic_keeps_it() -> None:
    """Only the claim of the feed that is gone goes."""
    b = Bench(feed(uid="u2"), claimed("trades", "md_gone", "md_spot"))
    b.settle()
    assert claims_of(b.trades()) == {"u2": "md/spot"}
    assert "strimzi.io/managed" not in b.trades()["metadata"].get("annotations", {})


def test_topics_of_other_operators_feeds_are_left_alone() -> None:
    """A feed outside of the watched namespaces is not listed, and lives."""
    b = Bench(claimed("trades", "other_spot"), namespaces=("md",))
    b.settle()
    assert b.cluster.written() == []


def test_a_feed_that_claims_the_topic_at_the_last_moment_keeps_it() -> None:
    """Between look and write somebody makes a feed: the write holds for the old version only, and it is judged anew."""
    b = Bench(claimed(policy="Delete"))

    def made(call: Call) -> None:
        if call[0] == "delete":
            b.cluster.put(feed("new", "u9"))
            b.cluster.edit(
                TRADES, lambda live: live["metadata"]["labels"].update({"claim.marketfeed.dev/u9": "md_new"})
            )

    b.settle(before=made)
    assert claims_of(b.trades()) == {"u9": "md/new"}


def test_topics_are_listed_before_feeds() -> None:
    """A feed that is made in between is in the second list; the other way round it would lose its topics."""
    b = Bench(claimed())
    b.settle(5.0)
    kinds = [name for verb, name in b.cluster.calls if verb == "list"]
    assert kinds[:2] == ["KafkaTopic", "MarketFeed"]


def test_without_the_definition_no_feed_counts_as_gone() -> None:
    """Every topic would look like a lost feed's: none is touched, and it is said why."""
    b = Bench(claimed(policy="Delete"))
    b.cluster.fails["list", "MarketFeed"] = NotServed(404, "NotFound", "not served")
    (sentence,) = b.settle()
    assert sentence.startswith("MarketFeeds are not served, so that nobody can tell which feeds are gone")
    assert b.cluster.written() == []


def test_a_cluster_without_strimzi_has_feeds_to_tell_of() -> None:
    """That KafkaTopic is not served is no failure."""
    b = Bench(feed())
    b.cluster.fails["list", "KafkaTopic"] = NotServed(404, "NotFound", "not served")
    assert "  md/spot: Ready" in b.settle()


# ---- who does not answer ----


def test_an_api_server_that_never_answered_is_an_error() -> None:
    """Nothing was seen, so that nothing can be said."""
    b = Bench(feed())
    b.cluster.fails["list", "MarketFeed"] = unanswered()
    with pytest.raises(type(unanswered()), match="cannot be reached"):
        b.settle()


def test_an_api_server_that_goes_meanwhile_is_told_of_with_what_was_seen_before() -> None:
    """The time is used to try again; then it ends with what is left."""
    b = Bench(claimed())
    b.meanwhile = lambda: b.cluster.fails.update({("list", "KafkaTopic"): unanswered()})
    first, second, *_ = b.settle(10.0)
    assert first == (
        "The API server did not answer the last look (the API server cannot be reached): this is what there was before."
    )
    assert second.startswith(
        "KafkaTopic kafka/trades is not let go: the time was too short after the end of feed md/spot."
    )
    assert b.passed_s <= 16.0


def test_a_refused_write_is_told_of_and_tried_until_the_end() -> None:
    """A right that is missing ends nothing: the sentence says which."""
    b = Bench(claimed())
    b.cluster.fails["patch", str(TRADES)] = Forbidden(403, "Forbidden", "may not patch kafkatopics")
    left = b.settle(10.0)
    assert left[0] == (
        "KafkaTopic kafka/trades is not let go: the time was too short after the end of feed md/spot. The last attempt "
        "failed: may not patch kafkatopics. An operator that is installed again goes on with it."
    )
    assert b.told == []
    assert b.passed_s <= 16.0


def test_somebody_who_writes_without_end_does_not_hold_it_up() -> None:
    """Every write of ours meets a newer version: it ends in its time all the same."""
    b = Bench(claimed())

    def touch(call: Call) -> None:
        if call[0] == "patch":
            b.cluster.edit(TRADES, lambda live: live["metadata"].update(touched=str(b.passed_s)))

    assert b.settle(10.0, before=touch)[0].startswith("KafkaTopic kafka/trades is not let go")
    assert b.passed_s <= 16.0


# ---- what is said ----


def said(*feeds: Manifest, topics: tuple[Manifest, ...] = (), at_s: float = 0.0) -> list[str]:
    """Return the last words about these."""
    return farewell(Sight(topics, feeds), later(at_s), 60.0, {})


def test_feeds_are_named_with_their_state_and_what_it_means_that_they_stay() -> None:
    """In the order of their names, with the command that removes those of each namespace."""
    _, *lines = said(feed("spot"), feed("basis", "u2", "False"), feed("fresh", "u3", None))
    assert lines == [
        "3 feeds will run on without an operator:",
        "  md/basis: not Ready (SinksNotReady)",
        "  md/fresh: not known yet",
        "  md/spot: Ready",
        UNTENDED,
        "A feed that is deleted meanwhile takes its pods along. Its KafkaTopics stay until an operator is back.",
        "To remove feeds as well, delete them while an operator runs, and uninstall it afterwards:",
        "  kubectl delete marketfeeds --all --namespace md",
    ]


def test_topics_that_no_operator_will_ever_remove_are_told_of() -> None:
    """Topics that were made without Strimzi are known to nobody once their feed is gone."""
    direct = feed(kafka={"topics": {"provisioner": "direct"}})
    assert any("topics that were made without Strimzi stay for good" in line for line in said(direct))
    assert not any("for good" in line for line in said(feed()))


def test_many_feeds_are_counted_and_twenty_named() -> None:
    """A fleet of hundreds does not flood the log of a hook."""
    lines = said(*(feed(f"feed-{number:03}", f"u{number}") for number in range(300)))
    assert "300 feeds will run on without an operator:" in lines
    assert "  and 280 more" in lines
    assert len(lines) < 30


def test_a_topic_that_a_live_feed_was_letting_go_is_told_of() -> None:
    """It is not finished: the feed may want it again, and only an operator knows."""
    begun = claimed(annotations={"strimzi.io/managed": "false", "marketfeed.dev/released-at": stamp(NOW)})
    assert said(feed(), topics=(begun,))[0].startswith("KafkaTopic kafka/trades stays, not managed, with its data")


def test_a_deletion_that_waits_for_strimzi_is_told_of_and_not_waited_for() -> None:
    """The rest is Strimzi's; when it hangs, what to do is said."""
    going = claimed(deletionTimestamp=stamp(NOW), finalizers=["strimzi.io/topic-operator"])
    assert said(topics=(going,))[0] == "KafkaTopic kafka/trades is being deleted."
    assert "hangs in its deletion" in said(topics=(going,), at_s=61.0)[0]
    b = Bench(going)
    b.settle()
    assert (b.cluster.written(), b.passed_s) == ([], 0.0)


def test_a_time_that_cannot_be_read_is_a_mistake_of_the_caller() -> None:
    """Exit code 2, with how to write it."""
    outcome = CliRunner().invoke(settle.command, ["--timeout", "soon"])
    assert outcome.exit_code == 2
    assert "'soon' is not a duration" in outcome.output
