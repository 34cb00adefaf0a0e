"""Letting topics go: every step from every state, with a small Strimzi and a small shell that may die at any time."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed_operator.deletion import (
    ANSWER_S,
    MANAGED,
    RELEASED_AT,
    Action,
    Step,
    orphans,
    policy_of,
    reclaim,
    release,
)
from marketfeed_operator.objects import MANAGED_BY, MANAGER, POLICY, Manifest, annotations_of, claims_of, labels_of
from observations import NOW, later, stamp, topic

OURS = {"claim.marketfeed.dev/u1": "spot", MANAGED_BY: MANAGER, "strimzi.io/cluster": "kafka"}
SHARED = {**OURS, "claim.marketfeed.dev/u2": "other"}
RELEASED = {MANAGED: "false", RELEASED_AT: stamp(NOW)}
UNMANAGED = {"type": "Unmanaged", "status": "True"}
FINALIZERS = ["strimzi.io/topic-operator"]


def merged(live: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, Mapping):
        return patch
    base = dict(live) if isinstance(live, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            base.pop(name, None)
        else:
            base[name] = merged(base.get(name), value)
    return base


@pytest.mark.parametrize(
    ("live", "policy", "action"),
    [
        (topic("t", labels=OURS), "Retain", Action.UNMANAGE),
        (topic("t", labels=OURS), "Delete", Action.REMOVE),
        (topic("t", labels=SHARED), "Retain", Action.UNCLAIM),
        (topic("t", labels=SHARED), "Delete", Action.UNCLAIM),
        (topic("t", labels={}), "Delete", Action.GONE),
        (topic("t", labels={"claim.marketfeed.dev/u2": "other"}), "Delete", Action.GONE),
        (topic("t", labels=OURS, annotations=RELEASED), "Retain", Action.WAIT),
        (topic("t", UNMANAGED, labels=OURS, annotations=RELEASED), "Retain", Action.REMOVE),
        (topic("t", UNMANAGED, labels=OURS, annotations=RELEASED, generation=2), "Retain", Action.WAIT),
        (topic("t", labels=OURS, annotations={MANAGED: "false"}), "Retain", Action.REMOVE),
        (topic("t", labels=OURS, annotations={MANAGED: "false"}), "Delete", Action.REMOVE),
        (topic("t", labels=OURS, deletionTimestamp=stamp(NOW)), "Retain", Action.GONE),
    ],
)
def test_each_state_has_its_next_step(live: Manifest, policy: str, action: Action) -> None:
    """The step follows from claims, policy, mark and Strimzi's answer alone."""
    step = release(live, "u1", policy, later(1))
    assert step.action == action
    assert step.sentence.startswith("KafkaTopic kafka/t")
    assert (step.patch is None) or not step.delete


def test_data_is_kept_unless_the_policy_says_delete_in_that_word() -> None:
    """A policy that nobody knows retains, from the argument and from the annotation."""
    assert release(topic("t", labels=OURS), "u1", "delete", NOW).action == Action.UNMANAGE
    assert policy_of(topic("t", annotations={POLICY: "Delete"})) == "Delete"
    assert policy_of(topic("t", annotations={POLICY: "Erase"})) == "Retain"
    assert policy_of(topic("t")) == "Retain"


def test_a_release_that_began_goes_on_when_the_policy_changes() -> None:
    """Once the topic is marked as kept, deleting its resource cannot take the data along."""
    live = topic("t", UNMANAGED, labels=OURS, annotations=RELEASED)
    assert "are kept" in release(live, "u1", "Delete", NOW).sentence


def test_writes_hold_for_the_version_that_was_seen() -> None:
    """Patches and deletions name the resource's version, so that a claim made meanwhile is a conflict."""
    patch = release(topic("t", labels=OURS), "u1", "Retain", NOW).patch
    assert patch is not None
    assert patch["metadata"]["resourceVersion"] == "7"
    step = release(topic("t", labels=OURS), "u1", "Delete", NOW)
    assert (step.uid, step.resource_version) == ("uid-t", "7")


def test_a_silent_strimzi_is_waited_for_a_minute_and_then_left_alone() -> None:
    """After 60 s the resource stays as it is, not managed, and carries nothing of ours but the mark of release."""
    live = topic("t", labels=OURS, annotations={**RELEASED, POLICY: "Retain"}, finalizers=FINALIZERS)
    assert release(live, "u1", "Retain", later(ANSWER_S - 1)).action == Action.WAIT
    step = release(live, "u1", "Retain", later(ANSWER_S))
    assert step.action == Action.LEAVE
    assert step.done
    assert "Strimzi has not answered" in step.sentence
    left = merged(live, step.patch)
    assert labels_of(left) == {"strimzi.io/cluster": "kafka"}
    assert annotations_of(left) == RELEASED
    assert release(left, "u1", "Retain", later(ANSWER_S + 1)).action == Action.GONE


def test_a_resource_that_strimzi_never_saw_is_not_left_behind() -> None:
    """Without a status and a finalizer nothing of Kafka hangs on it, so it is deleted after the wait."""
    live = topic("t", labels=OURS, annotations=RELEASED, seen=None)
    assert release(live, "u1", "Retain", later(ANSWER_S)).action == Action.REMOVE


def test_a_mark_of_release_that_cannot_be_read_does_not_wait_for_ever() -> None:
    """A broken time counts as long ago."""
    live = topic("t", labels=OURS, annotations={MANAGED: "false", RELEASED_AT: "soon"})
    assert release(live, "u1", "Retain", NOW).action == Action.LEAVE


def test_a_deletion_that_hangs_says_for_whom_it_waits() -> None:
    """A minute after its deletion, a topic with a finalizer names it, and what to do."""
    live = topic("t", labels=OURS, deletionTimestamp=stamp(NOW), finalizers=FINALIZERS)
    early = release(live, "u1", "Retain", later(50))
    assert "hangs" not in early.sentence
    assert (early.done, early.look_again_s) == (False, 10.0)
    late = release(live, "u1", "Retain", later(61))
    assert late.action == Action.GONE
    assert "strimzi.io/topic-operator" in late.sentence
    assert "start Strimzi's topic operator" in late.sentence


def test_a_feed_that_comes_back_makes_strimzi_manage_the_topic_again() -> None:
    """Our mark is undone; the user's own, and a topic that is being deleted, are left alone."""
    live = topic("t", labels=OURS, annotations={**RELEASED, "mine": "1"})
    patch = reclaim(live)
    assert annotations_of(merged(live, patch)) == {"mine": "1"}
    assert reclaim(topic("t", labels=OURS)) is None
    assert reclaim(topic("t", labels=OURS, annotations={MANAGED: "false"})) is None
    assert reclaim(topic("t", annotations=RELEASED, deletionTimestamp=stamp(NOW))) is None


def test_a_feed_that_claims_in_the_middle_of_a_release_gets_a_managed_topic() -> None:
    """Taking the last but one claim away undoes a release that had begun, and the wish of the feed that left."""
    marks = {**RELEASED, "wish.marketfeed.dev/u1": "a", "wish.marketfeed.dev/u2": "b"}
    live = topic("t", labels=SHARED, annotations=marks)
    step = release(live, "u1", "Retain", NOW)
    after = merged(live, step.patch)
    assert annotations_of(after) == {"wish.marketfeed.dev/u2": "b"}
    assert claims_of(after) == {"u2": "other"}
    assert "wanted by feed other" in step.sentence


def test_orphans_are_the_claims_of_feeds_that_are_gone() -> None:
    """Every dead claim is named with the policy that an operator saw last; live ones and bare topics are not."""
    topics = [
        topic("a", labels=OURS, annotations={POLICY: "Delete"}),
        topic("b", labels=SHARED),
        topic("c", labels={"claim.marketfeed.dev/u2": "other"}),
        topic("d", labels={}),
    ]
    found = [(orphan.key.name, orphan.uid, orphan.policy) for orphan in orphans(topics, {"u2"})]
    assert found == [("a", "u1", "Delete"), ("b", "u1", "Retain")]


@dataclass
class World:
    """An API server with one topic, Strimzi's topic operator, Kafka, and the shell that takes our steps."""

    finalizer: bool = True
    topic: Manifest | None = None
    data: bool = True
    now: datetime = NOW
    deaf: bool = False
    version: int = 7  # of the last write; it never comes again, not for an object made anew either
    steps: list[Action] = field(default_factory=list)

    def shell(self, uid: str, policy: str, seen: Manifest | None) -> Step | None:
        """Take one step decided on what was seen; a conflict of versions writes nothing."""
        if seen is None or self.topic is None:
            return None
        step = release(seen, uid, policy, self.now)
        self.steps.append(step.action)
        current = seen["metadata"]["resourceVersion"] == self.topic["metadata"]["resourceVersion"]
        if step.patch is not None and current:
            self.write(merged(self.topic, step.patch))
        if step.delete and current:
            assert step.resource_version == self.topic["metadata"]["resourceVersion"]
            self.delete()
        return step

    def claim(self, uid: str) -> None:
        """Let a feed adopt the topic, or make it anew."""
        if self.topic is None:
            self.version += 1
            self.topic = topic("t", labels={MANAGED_BY: MANAGER}, seen=None, resourceVersion=str(self.version))
        elif "deletionTimestamp" in self.topic["metadata"]:
            return
        patch = reclaim(self.topic)
        if patch is not None:
            self.write(merged(self.topic, patch))
        self.write(merged(self.topic, {"metadata": {"labels": {f"claim.marketfeed.dev/{uid}": "spot"}}}))

    def strimzi(self) -> None:
        """Do what the topic operator does with the topic as it is now."""
        live = self.topic
        if live is None or self.deaf:
            return
        managed = annotations_of(live).get(MANAGED) != "false"
        if "deletionTimestamp" in live["metadata"]:
            self.data = self.data and not managed
            self.topic = None
            return
        condition = {"type": "Ready" if managed else "Unmanaged", "status": "True"}
        self.data = self.data or managed
        said = {"status": {"conditions": [condition], "observedGeneration": live["metadata"]["generation"]}}
        held = {"metadata": {"finalizers": FINALIZERS}} if self.finalizer else {}
        self.write(merged(merged(live, said), held))

    def delete(self) -> None:
        """Delete the resource as an API server does; without a finalizer Strimzi hears of it afterwards."""
        assert self.topic is not None
        if self.topic["metadata"].get("finalizers"):
            self.write(merged(self.topic, {"metadata": {"deletionTimestamp": stamp(self.now)}}))
            return
        managed = annotations_of(self.topic).get(MANAGED) != "false"
        self.data = self.data and not (managed and not self.deaf)
        self.topic = None

    def write(self, manifest: Manifest) -> None:
        """Store another state of the topic, unless nothing changed."""
        before = self.topic or {}
        if manifest == before:
            return
        changed = copy.deepcopy(dict(manifest))
        self.version += 1
        changed["metadata"]["resourceVersion"] = str(self.version)
        self.topic = changed


MOVES = st.lists(st.sampled_from(["shell", "strimzi", "tick", "stale"]), max_size=12)


@settings(max_examples=300)
@given(moves=MOVES, policy=st.sampled_from(["Retain", "Delete"]), finalizer=st.booleans(), deaf=st.booleans())
def test_every_order_of_steps_ends_with_the_topic_let_go(
    moves: list[str], policy: str, *, finalizer: bool, deaf: bool
) -> None:
    """However steps, deaths and Strimzi's answers mix, the feed ends without the topic, and Retain keeps the data."""
    world = World(finalizer=finalizer, topic=topic("t", labels=OURS), deaf=deaf)
    seen = world.topic
    for move in moves + ["shell", "strimzi", "tick"] * 40:
        if move == "shell":
            seen = world.topic
            world.shell("u1", policy, seen)
        elif move == "stale":
            world.shell("u1", policy, seen)
        elif move == "strimzi":
            world.strimzi()
        else:
            world.now += timedelta(seconds=3)
    left = world.topic
    assert left is None or "u1" not in claims_of(left) or "deletionTimestamp" in left["metadata"]
    assert world.data or policy == "Delete"
    if not deaf:
        assert left is None


@settings(max_examples=500)
@given(
    moves=st.lists(st.sampled_from(["shell", "strimzi", "tick", "stale", "claim"]), max_size=15),
    policy=st.sampled_from(["Retain", "Delete"]),
    finalizer=st.booleans(),
)
def test_a_feed_that_claims_meanwhile_never_loses_its_topic(moves: list[str], policy: str, *, finalizer: bool) -> None:
    """Once another feed has claimed it, no step deletes the topic, and it ends up managed and with that claim."""
    world = World(finalizer=finalizer, topic=topic("t", labels=OURS))
    seen = world.topic
    for move in [*moves, "claim", *["shell", "strimzi", "tick", "claim"] * 40]:
        if move == "shell":
            seen = world.topic
        if move in ("shell", "stale"):
            claimed = world.topic is not None and "u2" in claims_of(world.topic)
            before = world.topic
            world.shell("u1", policy, seen)
            assert not claimed or world.topic is not None
            assert not claimed or before is None or "deletionTimestamp" not in (world.topic or before)["metadata"]
        elif move == "strimzi":
            world.strimzi()
        elif move == "claim":
            world.claim("u2")
        else:
            world.now += timedelta(seconds=3)
    assert world.topic is not None
    assert claims_of(world.topic).keys() == {"u2"}
    assert MANAGED not in annotations_of(world.topic)
    assert world.data
