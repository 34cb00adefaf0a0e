"""Hand-overs between shards: no stream is let go before its new shard has it, whatever is late or changes meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from marketfeed_operator.handover import HandOver, Holdings, Move, current_holdings, hand_over
from marketfeed_operator.objects import CONFIG_MAP, SHARD_LABEL, UID_LABEL, Manifest, key_of
from marketfeed_operator.observed import Observed

STREAMS = [f"{symbol}@trade" for symbol in ("ADA", "BNB", "BTC", "ETH", "SOL", "XRP")]
SHARDS = ["a", "b", "c", "d"]
LIMIT = 3


def held(**shards: str) -> Holdings:
    """Return holdings, as `held(a="1 2")`."""
    return {name: frozenset(streams.split()) for name, streams in shards.items()}


def test_a_new_feed_is_placed_at_once() -> None:
    """Streams that nobody holds go to their targets; nothing is on its way."""
    planned = held(a="1 2", b="3")
    assert hand_over(planned, {}, {}, LIMIT) == HandOver(planned)


def test_a_stream_that_moves_is_first_held_by_both() -> None:
    """The target gets the stream and the source keeps it until the target is seen to carry it."""
    planned, before = held(a="1", b="2"), held(a="1 2", b="")
    both = HandOver(held(a="1 2", b="2"), (Move("2", "a", "b"),))
    assert hand_over(planned, before, before, LIMIT) == both
    assert hand_over(planned, both.holdings, before, LIMIT) == both
    assert hand_over(planned, both.holdings, held(a="1 2", b="2"), LIMIT) == HandOver(planned)


def test_a_shard_that_leaves_stays_until_it_is_empty() -> None:
    """It is among the holdings while it holds something, and not any more afterwards."""
    planned = held(a="1 2")
    waiting = hand_over(planned, held(a="1", b="2"), held(b="2"), LIMIT)
    assert waiting.holdings == held(a="1 2", b="2")
    assert hand_over(planned, waiting.holdings, held(a="1 2", b="2"), LIMIT).holdings == planned


def test_streams_that_nobody_wants_are_dropped_at_once() -> None:
    """A stream that is planned nowhere needs no hand-over."""
    assert hand_over(held(a="1"), held(a="1 2", b="3"), {}, LIMIT) == HandOver(held(a="1"))


def test_an_overlap_waits_for_room() -> None:
    """A full target takes no more than its connection may have; the rest stays where it is."""
    made = hand_over(held(a="", b="1 2"), held(a="1 2", b="3"), {}, 1)
    assert made.holdings == held(a="1 2", b="1 2")  # 3 is dropped: the plan itself is always within the limit
    made = hand_over(held(a="3 4", b="1 2"), held(a="1 2", b="3"), {}, 2)
    assert made == HandOver(held(a="1 2", b="1 3"), (Move("1", "a", "b"),))


def test_full_shards_that_swap_let_go_of_one_stream() -> None:
    """Of a circle of full shards one stream is let go, and all others are handed over without a gap."""
    planned, now = held(a="3 4", b="1 2"), held(a="1 2", b="3 4")
    broken: list[Move] = []
    for _ in range(20):
        step = hand_over(planned, now, now, 2)
        broken.extend(step.broken)
        now = step.holdings
    assert now == planned
    assert len(broken) == 1


def test_a_change_of_mind_keeps_the_shard_that_carries() -> None:
    """When the target changes on the way, of the two that hold the stream the one that receives it goes on."""
    planned, now = held(a="", b="", c="1"), held(a="1", b="1", c="")
    assert hand_over(planned, now, held(b="1"), LIMIT).holdings == held(a="", b="1", c="1")
    assert hand_over(planned, now, held(a="1"), LIMIT).holdings == held(a="1", b="", c="1")


def config_map(name: str, text: str | None, uid: str = "u", label: str = SHARD_LABEL) -> Manifest:
    """Return a shard's ConfigMap."""
    metadata = {"namespace": "feeds", "name": name, "labels": {UID_LABEL: uid, label: name}}
    return {"apiVersion": "v1", "kind": CONFIG_MAP.kind, "metadata": metadata, "data": text and {"streams.json": text}}


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"streams": 1}', '{"streams": {}}', '{"streams": null}', "7"])
def test_what_nobody_can_read_holds_nothing(text: str | None) -> None:
    """A ConfigMap that was edited into nonsense counts as empty, not as an error."""
    found = config_map("a", text)
    assert current_holdings(Observed({}, children={key_of(found): found}), "u") == held(a="")


def test_only_the_shards_of_the_feed_count() -> None:
    """ConfigMaps of other feeds, and those of ours that are no shard's, hold nothing."""
    text = json.dumps({"streams": ["1", "2"]})
    found = [config_map("a", text), config_map("b", text, uid="other"), config_map("c", text, label="other")]
    assert current_holdings(Observed({}, children={key_of(each): each for each in found}), "u") == held(a="1 2")


@st.composite
def plans(draw: st.DrawFn) -> Holdings:
    """Return a plan within the limit: some streams, each on one of some shards."""
    shards = draw(st.lists(st.sampled_from(SHARDS), min_size=1, unique=True))
    planned: dict[str, set[str]] = {shard: set() for shard in shards}
    for stream in draw(st.lists(st.sampled_from(STREAMS), unique=True)):
        room = [shard for shard in shards if len(planned[shard]) < LIMIT]
        if room:
            planned[draw(st.sampled_from(room))].add(stream)
    return {shard: frozenset(streams) for shard, streams in planned.items()}


class Fleet(RuleBasedStateMachine):
    """Shards that carry what they are told to hold whenever they please, plans that change, and steps in between."""

    @initialize(planned=plans())
    def begin(self, planned: Holdings) -> None:
        self.planned = planned
        self.now: Holdings = {}
        self.carried: dict[str, frozenset[str]] = {}
        self.let_go: set[str] = set()

    @rule()
    def step(self) -> None:
        """One reconciliation, from what is held and carried now."""
        self.take(hand_over(self.planned, self.now, self.carried, LIMIT))

    @rule(planned=plans())
    def change_the_plan(self, planned: Holdings) -> None:
        self.planned = planned

    @rule(data=st.data())
    def carry(self, data: st.DataObject) -> None:
        """Any shard starts to receive some of what it holds, and stops to receive what it does not hold."""
        for shard, streams in sorted(self.now.items()):
            more = data.draw(st.sets(st.sampled_from(sorted(streams)))) if streams else set()
            self.carried[shard] = (self.carried.get(shard, frozenset()) & streams) | more

    @rule(shard=st.sampled_from(SHARDS))
    def crash(self, shard: str) -> None:
        """Let a shard start anew and carry nothing for a while."""
        self.carried[shard] = frozenset()

    def take(self, made: HandOver) -> None:
        before, after = holders(self.now), holders(made.holdings)
        wanted = {stream for streams in self.planned.values() for stream in streams}
        broken = {move.stream for move in made.broken}
        self.let_go = (self.let_go | broken) - after.keys()
        unheld = {stream for stream in before.keys() & wanted if stream not in after}
        assert unheld == broken, "a held stream that is still wanted loses its holder only on the record"
        assert after.keys() <= wanted, "what is planned nowhere is dropped"
        self.check_that_what_is_carried_goes_on(made)
        for move in made.moving:
            assert after[move.stream] == {move.source, move.target}
            assert move.stream in self.planned[move.target]
        doubled = {stream for stream, shards in after.items() if len(shards) > 1}
        assert doubled == {move.stream for move in made.moving}
        assert all(shard in self.planned or streams for shard, streams in made.holdings.items())
        assert made.holdings.keys() >= self.planned.keys()
        if not made.broken:
            again = hand_over(self.planned, made.holdings, self.carried, LIMIT)
            assert again == made, "a second look changes nothing"
        self.now = made.holdings
        self.carried = {shard: self.carried.get(shard, frozenset()) & held for shard, held in made.holdings.items()}

    def check_that_what_is_carried_goes_on(self, made: HandOver) -> None:
        """Claim that a stream which some shard receives is still received by one after the step."""
        carrying = holders(
            {shard: streams & self.carried.get(shard, frozenset()) for shard, streams in self.now.items()}
        )
        after = holders(
            {shard: streams & self.carried.get(shard, frozenset()) for shard, streams in made.holdings.items()}
        )
        wanted = {stream for streams in self.planned.values() for stream in streams}
        assert (carrying.keys() & wanted) - after.keys() <= {move.stream for move in made.broken}

    @invariant()
    def no_shard_is_above_the_limit(self) -> None:
        assert all(len(streams) <= LIMIT for streams in self.now.values())

    @invariant()
    def it_arrives(self) -> None:
        """From any state, when shards carry what they hold, a bounded number of steps reaches the plan."""
        now, carried = self.now, self.carried
        for _ in range(4 * len(STREAMS)):
            made = hand_over(self.planned, now, carried, LIMIT)
            now, carried = made.holdings, dict(made.holdings)
        assert made == HandOver(self.planned)


def holders(holdings: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Return the shards that hold each stream."""
    found: dict[str, set[str]] = {}
    for shard, streams in holdings.items():
        for stream in streams:
            found.setdefault(stream, set()).add(shard)
    return found


Fleet.TestCase.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
TestFleet = Fleet.TestCase
