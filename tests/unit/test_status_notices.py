"""Which events the way from one status to the next makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from marketfeed_operator.changes import ChangeClass, Difference
from marketfeed_operator.handover import HandOver, Move
from marketfeed_operator.objects import Key
from marketfeed_operator.observed import Observed
from marketfeed_operator.outcome import Outcome
from marketfeed_operator.spark import STARTED_AGAIN, Verdict
from marketfeed_operator.status import make, transitions
from observations import (
    CONSUMER_STATS,
    NOW,
    PROOF,
    SHARD,
    SINK,
    deployment,
    feed,
    healthy,
    later,
    outcome,
    sample,
    topic,
)

ANALYTICS: dict[str, Any] = {"spec.analytics": {"checkpoint": {"location": "s3a://b/p"}}}


class Story:
    """A feed's statuses one after the other, each with the events that it makes, as `Type Reason`."""

    def __init__(self, changes: Mapping[str, Any] | None = None) -> None:
        self.body = feed(changes)
        self.status: Mapping[str, Any] = {"observedGeneration": -1}
        self.messages: list[str] = []
        self._at = 0.0

    def see(self, sight: Observed | None = None, result: Outcome | None = None, after_s: float = 5) -> list[str]:
        """Make the next status, by default of a sight in which all is well, and return its events."""
        self._at += after_s
        body = {**self.body, "status": self.status}
        seen = replace(sight or healthy(body), feed=body)
        moved = {name: replace(one, at=NOW.timestamp() + self._at) for name, one in seen.samples.items()}
        new = make(replace(seen, samples=moved), result or outcome(self.body), later(self._at), 30.0)
        found = transitions(self.status, new)
        self.status, self.messages = new, [notice.message for notice in found]
        return [f"{notice.type} {notice.reason}" for notice in found]


def test_a_feed_that_starts_is_told_of_when_it_is_ready() -> None:
    """Nothing is said while things take their way; then that it is ready, and that data flows."""
    story = Story()
    assert story.see(result=Outcome()) == []
    bare = healthy(story.body, pods=(), samples={}, without=[SHARD, SINK, "binance.trades"])
    assert story.see(bare) == []
    assert story.see() == ["Normal DataFlowing", "Normal Ready"]
    assert story.see() == []


def test_a_part_that_fails_is_told_once_and_so_is_its_return() -> None:
    """A topic that Strimzi refuses is one event, not one for the topic, the condition and the summary."""
    story = Story()
    story.see()
    bad = topic("binance.trades", {"type": "Ready", "status": "False", "reason": "NotSupported", "message": "fewer"})
    assert story.see(healthy(story.body, bad)) == ["Warning NotSupported"]
    assert story.messages == ["topic binance.trades: fewer"]
    assert story.see(healthy(story.body, bad)) == []
    assert story.see() == ["Normal TopicsReady", "Normal Ready"]


def test_two_topics_that_fail_are_two_events() -> None:
    """The condition, which names the first and counts the others, is no third one."""
    story = Story()
    story.see()
    bad = [
        topic(name, {"type": "Ready", "status": "False", "reason": "NotSupported", "message": "fewer"})
        for name in ("binance.trades", "binance.dlq")
    ]
    assert story.see(healthy(story.body, *bad)) == ["Warning NotSupported", "Warning NotSupported"]


def test_a_roll_of_pods_says_that_the_feed_is_not_ready_for_a_while() -> None:
    """What passes by itself is no warning."""
    story = Story()
    story.see()
    assert story.see(healthy(story.body, deployment(SHARD, available=0))) == ["Normal NotReady"]
    assert story.see() == ["Normal Ready"]


def test_data_that_stops_and_flows_again() -> None:
    """Both are told, with the reason of the service."""
    story = Story()
    story.see()
    mute = healthy(story.body)
    stopped = {**mute.samples, f"{SHARD}-x": sample(SHARD, {"last_message_age_s": 70.0}, "no frame for 70.0 s")}
    assert story.see(replace(mute, samples=stopped)) == ["Warning DataStopped"]
    assert "Stale: shard spot-ingestor-0: no frame for 70.0 s" in story.messages
    assert story.see() == ["Normal DataFlowing", "Normal Ready"]


def test_gaps_that_open_and_close() -> None:
    """A gap is a warning when it is found, and news when it is closed; its figures alone are neither."""
    story = Story()
    story.see()
    well = healthy(story.body)

    def missing(count: int) -> Observed:
        stats = {**CONSUMER_STATS, "proof": {**PROOF, "missing": count}}
        return replace(well, samples={**well.samples, f"{SINK}-x": sample(SINK, stats)})

    assert story.see(missing(12)) == ["Warning GapsFound"]
    assert story.see(missing(900)) == []
    assert story.see() == ["Normal GapsClosed"]


def test_a_hand_over_has_a_beginning_and_an_end() -> None:
    """The end says from where to where, how many and how long; one that broke is a warning."""
    story = Story()
    story.see()
    moves = tuple(Move(f"S{number}@trade", "a", "b") for number in range(12))
    assert story.see(result=outcome(story.body, hand_over=HandOver({}, moves))) == ["Normal HandOverStarted"]
    assert story.messages == ["12 streams to move: S0@trade: a -> b, S1@trade: a -> b, S2@trade: a -> b and 9 more"]
    assert story.see(result=outcome(story.body, hand_over=HandOver({}, moves[:2]))) == []
    assert story.see(result=outcome(story.body, hand_over=HandOver({}))) == ["Normal HandOverFinished"]
    assert story.messages == ["moved 12 streams from a to b in 10 s"]
    story.see(result=outcome(story.body, hand_over=HandOver({}, (), moves[:1])))
    assert story.see(result=outcome(story.body, hand_over=HandOver({}))) == ["Warning HandOverBroken"]
    assert "1 stream stood still" in story.messages[0]


def test_suspending_and_resuming() -> None:
    """The stop is told when nothing runs any more, the resumption when it is asked for."""
    story = Story()
    story.see()
    story.body = feed({"spec.suspend": True})
    stopped = (deployment(SHARD, 0), deployment(SINK, 0))
    assert story.see(healthy(story.body, *stopped)) == []
    assert story.see(healthy(story.body, *stopped, pods=(), samples={})) == ["Normal Suspended"]
    story.body = feed()
    assert "Normal Resumed" in story.see()


def test_approval_that_is_needed_and_given() -> None:
    """Every new hash asks again, with all its changes."""
    story = Story()
    story.see()
    change = Difference(Key("", "X", "n", "x"), ChangeClass.DESTRUCTIVE, "topic x goes")
    waits = outcome(story.body, held_back=(change,), approval="h1")
    assert story.see(result=waits) == ["Warning ApprovalNeeded"]
    assert story.messages == ["waits for approval h1: topic x goes"]
    assert story.see(result=replace(waits, approval="h2")) == ["Warning ApprovalNeeded"]
    assert story.see() == ["Normal ApprovalSettled", "Normal Ready"]


def test_a_streaming_job_that_is_started_again_is_told_each_time() -> None:
    """Each attempt has its number, so each is an event."""
    story = Story(ANALYTICS)
    good = Verdict("Running", ready=True, reason="Running", message="", nudge=None)
    story.see(result=outcome(story.body, analytics=good))
    for attempt in (1, 2):
        text = f"the job is failed; {STARTED_AGAIN}, attempt {attempt}"
        bad = Verdict("Restarting", ready=False, reason="JobFailed", message=text, nudge=f"{attempt}@5")
        assert "Warning AnalyticsRestarted" in story.see(result=outcome(story.body, analytics=bad))


def test_a_spec_that_cannot_be_used_is_told_for_each_problem() -> None:
    """The same problem is told once, another one again."""
    story = Story()
    for problem, events in (("a", ["Warning InvalidSpec"]), ("a", []), ("b", ["Warning InvalidSpec"])):
        assert story.see(result=Outcome(problem=problem)) == events


def test_figures_alone_are_no_event() -> None:
    """A rate that doubles changes the status and tells nobody."""
    story = Story()
    story.see()
    well = healthy(story.body)
    stats = {"last_message_age_s": 0.1, "messages_per_second": 9000.0}
    before = story.status
    assert story.see(replace(well, samples={**well.samples, f"{SHARD}-x": sample(SHARD, stats)}), after_s=60) == []
    assert story.status != before


def test_messages_fit_an_event() -> None:
    """An event's note holds 1024 characters."""
    story = Story()
    change = Difference(Key("", "X", "n", "x"), ChangeClass.DESTRUCTIVE, "topic x goes " * 20)
    story.see(result=outcome(story.body, held_back=(change,) * 20, approval="h1"))
    assert max(map(len, story.messages)) == 1024
