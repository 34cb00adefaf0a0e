"""Placement: every stream on one shard, none too full, and little moves when something changes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.errors import ConfigurationError
from marketfeed.events import Channel, Stream
from marketfeed_operator.shards import Placement, place, spread

CHANNELS = (Channel.TRADE, Channel.AGG_TRADE, Channel.BOOK_TICKER)

stream_sets = st.sets(
    st.builds(
        Stream, st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=2, max_size=10), st.sampled_from(CHANNELS)
    ),
    max_size=120,
)


def streams_of(symbols: list[str]) -> list[Stream]:
    """Return every channel of every symbol."""
    return [Stream(symbol, channel) for symbol in symbols for channel in CHANNELS]


def some_symbols(count: int, seed: int) -> list[str]:
    """Return made-up symbols, the same ones for the same seed."""
    draw = random.Random(seed)  # noqa: S311 - nothing secret is drawn
    return [f"{''.join(draw.choices('ABCDEFGHIJKLMNOPQRSTUVWXYZ', k=6))}USDT" for _ in range(count)]


def moved(before: Placement, after: Placement) -> int:
    """Return how many streams that both hold have another shard."""
    old = {stream: index for index, held in enumerate(before) for stream in held}
    new = {stream: index for index, held in enumerate(after) for stream in held}
    return sum(old[stream] != new[stream] for stream in old.keys() & new.keys())


@settings(deadline=None)  # the claim is not about time
@given(stream_sets, st.integers(1, 40))
def test_every_stream_has_exactly_one_shard(streams: set[Stream], streams_per_shard: int) -> None:
    """All shards together hold every stream once and nothing else."""
    held = [stream for shard in place(streams, streams_per_shard, 1000) for stream in shard]
    assert sorted(held) == sorted(streams)


@settings(deadline=None)  # the claim is not about time
@given(stream_sets, st.integers(1, 40))
def test_no_shard_is_above_the_cap_and_no_shard_more_than_needed(streams: set[Stream], streams_per_shard: int) -> None:
    """Each shard keeps to the cap, and one shard fewer could not hold them all."""
    placement = place(streams, streams_per_shard, 1000)
    assert all(len(shard) <= streams_per_shard for shard in placement)
    assert not streams or (len(placement) - 1) * streams_per_shard < len(streams)


@settings(deadline=None)  # the claim is not about time
@given(stream_sets, st.integers(1, 40), st.integers(1, 12))
def test_a_count_that_is_asked_for_is_kept_or_refused(streams: set[Stream], streams_per_shard: int, count: int) -> None:
    """Exactly so many shards hold every stream once and none too many; too few are refused, and only those."""
    if count * streams_per_shard < len(streams):
        with pytest.raises(ConfigurationError, match=f"do not fit on {count} shards of {streams_per_shard}"):
            place(streams, streams_per_shard, 1000, count)
        return
    placement = place(streams, streams_per_shard, 1000, count)
    assert len(placement) == count
    assert sorted(stream for shard in placement for stream in shard) == sorted(streams)
    assert all(len(shard) <= streams_per_shard for shard in placement)


@settings(deadline=None)  # the claim is not about time
@given(stream_sets, st.integers(1, 40))
def test_asking_for_as_many_shards_as_there_would_be_moves_nothing(
    streams: set[Stream], streams_per_shard: int
) -> None:
    """Writing down the number that the streams need anyway leaves each stream where it is."""
    usual = place(streams, streams_per_shard, 1000)
    assert not usual or place(streams, streams_per_shard, 1000, len(usual)) == usual


@settings(deadline=None)  # the claim is not about time
@given(stream_sets, st.integers(1, 40), st.randoms(use_true_random=False))
def test_the_order_of_the_streams_is_of_no_matter(
    streams: set[Stream], streams_per_shard: int, draw: random.Random
) -> None:
    """A shuffled list with repetitions is placed as the sorted one."""
    shuffled = [*streams, *streams]
    draw.shuffle(shuffled)
    assert place(shuffled, streams_per_shard, 1000) == place(sorted(streams), streams_per_shard, 1000)
    count = len(place(streams, streams_per_shard, 1000))
    assert spread(list(dict.fromkeys(shuffled)), count, streams_per_shard) == place(streams, streams_per_shard, 1000)


def test_placement_is_the_same_in_every_process_and_release() -> None:
    """These streams stand where they stood when this test was written: a change here moves every user's streams."""
    placement = place(streams_of(["BTCUSDT", "ETHUSDT", "BNBUSDT"]), 4, 20)
    assert [[str(stream) for stream in shard] for shard in placement] == [
        ["BNBUSDT@trade", "BTCUSDT@trade", "ETHUSDT@bookTicker", "ETHUSDT@trade"],
        ["BNBUSDT@aggTrade", "ETHUSDT@aggTrade"],
        ["BNBUSDT@bookTicker", "BTCUSDT@aggTrade", "BTCUSDT@bookTicker"],
    ]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("count", "streams_per_shard"), [(4, 50), (20, 50), (20, 10), (5, 1024)])
def test_one_more_symbol_moves_few_streams(count: int, streams_per_shard: int, seed: int) -> None:
    """A symbol's three streams that take the last free places, or leave them, move at most two streams a shard."""
    symbols = some_symbols(count * streams_per_shard // len(CHANNELS), seed)
    fuller = spread(streams_of(symbols), count, streams_per_shard)
    emptier = spread(streams_of(symbols[:-1]), count, streams_per_shard)
    assert moved(emptier, fuller) <= 2 * count


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("count", "streams_per_shard"), [(4, 50), (20, 50), (20, 10), (5, 1024)])
def test_one_more_shard_takes_about_its_share(count: int, streams_per_shard: int, seed: int) -> None:
    """Growing full shards from N to N+1 moves the new shard's share, 1/(N+1), and what full shards had sent away.

    The latter is at most half a standard deviation of a shard's load, 0.5/sqrt(cap).
    """
    streams = streams_of(some_symbols(count * streams_per_shard // len(CHANNELS), seed))
    before, after = (spread(streams, shards, streams_per_shard) for shards in (count, count + 1))
    assert moved(before, after) / len(streams) <= 1 / (count + 1) + 0.5 / streams_per_shard**0.5


def test_with_room_to_spare_a_shard_is_filled_by_nothing_but_its_rank() -> None:
    """While no shard is full, growing moves streams to the new shard alone, never between the old ones."""
    streams = streams_of(some_symbols(100, seed=1))
    before, after = spread(streams, 5, len(streams)), spread(streams, 6, len(streams))
    assert moved(before, after) == len(after[5])


def test_too_many_streams_say_what_to_raise() -> None:
    """Beyond maxShards the error names both ways out, each with the number that suffices."""
    streams = streams_of(some_symbols(100, seed=1))
    with pytest.raises(ConfigurationError) as caught:
        place(streams, streams_per_shard=50, max_shards=4)
    assert str(caught.value) == (
        "300 streams need 6 shards of 50, above the limit of 4: "
        "raise spec.ingest.maxShards to 6 or spec.ingest.streamsPerShard to 75"
    )
    assert len(place(streams, 50, 6)) == 6
    assert len(place(streams, 75, 4)) == 4


@pytest.mark.parametrize(
    ("max_shards", "raised"), [(20, "spec.ingest.shards"), (5, "spec.ingest.shards and spec.ingest.maxShards")]
)
def test_too_few_shards_say_what_to_raise(max_shards: int, raised: str) -> None:
    """The error names both ways out, each with the number that suffices, and the limit where that is in the way too."""
    streams = streams_of(some_symbols(100, seed=1))
    with pytest.raises(ConfigurationError) as caught:
        place(streams, 50, max_shards, 4)
    assert str(caught.value) == (
        f"300 streams do not fit on 4 shards of 50: raise {raised} to 6 or spec.ingest.streamsPerShard to 75"
    )
    assert len(place(streams, 50, 20, 6)) == 6
    assert len(place(streams, 75, max_shards, 4)) == 4


def test_no_streams_need_no_shards() -> None:
    """An empty feed has an empty placement."""
    assert place([], 50, 20) == ()
