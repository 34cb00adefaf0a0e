"""How streams move between shards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from marketfeed.local.handover import handover

STREAMS = [f"{symbol}@trade" for symbol in ("ADAUSDT", "BTCUSDT", "ETHUSDT", "XRPUSDT")]
SHARDS = ["a", "b", "c"]


def _assignments() -> st.SearchStrategy[dict[str, frozenset[str]]]:
    """Return assignments of some streams, each to one shard."""
    placed = st.dictionaries(st.sampled_from(STREAMS), st.sampled_from(SHARDS))
    return placed.map(
        lambda where: {
            shard: frozenset(stream for stream, home in where.items() if home == shard) for shard in where.values()
        }
    )


@given(before=_assignments(), after=_assignments())
def test_no_stream_is_ever_without_a_holder(
    before: dict[str, frozenset[str]], after: dict[str, frozenset[str]]
) -> None:
    """A stream that is wanted before and after keeps its old holder in the first write and has its new one too."""
    steps = handover(before, after)
    for shard, streams in after.items():
        assert streams <= steps.first[shard]
    for shard, streams in before.items():
        wanted = frozenset().union(*after.values())
        assert streams & wanted <= steps.first[shard]


@given(before=_assignments(), after=_assignments())
def test_the_last_write_is_what_was_asked_for(
    before: dict[str, frozenset[str]], after: dict[str, frozenset[str]]
) -> None:
    """The final sets equal the new assignment, and every shard without streams in it is emptied."""
    steps = handover(before, after)
    assert {shard: streams for shard, streams in steps.final.items() if streams} == after
    assert steps.emptied == before.keys() - after.keys()


def test_an_added_stream_is_waited_for_by_nobody() -> None:
    """A stream that nobody held before has no old holder that could let go too early."""
    steps = handover({"a": frozenset({"BTCUSDT@trade"})}, {"a": frozenset({"BTCUSDT@trade", "ETHUSDT@trade"})})
    assert steps.awaited == frozenset()


def test_a_moved_stream_waits_for_its_new_holder() -> None:
    """The shard that takes a stream over is awaited before the one that held it lets go."""
    steps = handover(
        {"a": frozenset({"BTCUSDT@trade", "ETHUSDT@trade"})},
        {"a": frozenset({"BTCUSDT@trade"}), "b": frozenset({"ETHUSDT@trade"})},
    )
    assert steps.awaited == {"b"}
    assert steps.first["a"] == {"BTCUSDT@trade", "ETHUSDT@trade"}
    assert steps.final["a"] == {"BTCUSDT@trade"}


def test_a_removed_stream_goes_at_once() -> None:
    """A stream that nobody wants any more is not held until the second write."""
    steps = handover({"a": frozenset({"BTCUSDT@trade", "ETHUSDT@trade"})}, {"a": frozenset({"BTCUSDT@trade"})})
    assert steps.first == {"a": {"BTCUSDT@trade"}}
