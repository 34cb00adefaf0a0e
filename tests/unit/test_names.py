"""Names: legal and distinct, whatever the feed is called."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed_operator import names

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

labels = st.from_regex(LABEL, fullmatch=True)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (names.shard("binance-spot", 0), "binance-spot-ingestor-0"),
        (names.consumer("binance-spot", "timescale"), "binance-spot-consumer-timescale"),
        (names.consumer_group("binance-spot", "timescale"), "binance-spot-timescale"),
        (names.analytics("binance-spot"), "binance-spot-analytics"),
    ],
)
def test_ordinary_names_are_kept_whole(made: str, expected: str) -> None:
    """A name that fits says feed and part in plain words."""
    assert made == expected


@settings(deadline=None)  # the claim is not about time
@given(labels, labels, st.integers(0, 999))
def test_every_name_is_a_dns_label(feed: str, sink: str, index: int) -> None:
    """However long feed and sink are called, shards and consumers have legal names of at most 63 characters."""
    assert LABEL.fullmatch(names.shard(feed, index))
    assert LABEL.fullmatch(names.consumer(feed, sink))
    assert LABEL.fullmatch(names.analytics(feed))


@pytest.mark.parametrize(
    "name", [lambda i: names.shard("a" * 63, i), lambda i: names.consumer("a" * 63, f"{'b' * 60}-{i}")]
)
def test_names_that_are_cut_stay_distinct(name: Callable[[int], str]) -> None:
    """A thousand parts of a feed with the longest name have a thousand names."""
    assert len({name(index) for index in range(1000)}) == 1000


def test_the_streaming_jobs_name_leaves_room_for_its_pods() -> None:
    """The longest feed's job keeps 23 characters free for what the job's pods append."""
    assert len(names.analytics("a" * 63)) == 40
