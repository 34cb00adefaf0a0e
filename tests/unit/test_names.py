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


@pytest.mark.parametrize(
    ("topic", "resource"),
    [
        ("binance.trades", "binance.trades"),
        ("binance.book_ticker", "binance.book-ticker-5e7053c4"),
        ("Trades", "trades-2a9e948a"),
        ("a..b.", "a.b-d25337fd"),
        ("___", "topic-76fccf9f"),
    ],
)
def test_a_topics_resource_is_named_after_it(topic: str, resource: str) -> None:
    """A legal name is kept, another one becomes legal, with a hash of the topic's."""
    assert names.topic_resource(topic) == resource


topics = st.from_regex(r"[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,248}", fullmatch=True)


@settings(deadline=None)  # the claim is not about time
@given(topics, topics)
def test_every_topics_resource_has_a_legal_name_of_its_own(topic: str, other: str) -> None:
    """Names of resources are subdomains of at most 253 characters, and as different as their topics."""
    for name in (names.topic_resource(topic), names.topic_resource(other)):
        assert len(name) <= 253
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name)
    assert (topic == other) == (names.topic_resource(topic) == names.topic_resource(other))


def test_services_and_jobs_begin_with_a_letter() -> None:
    """A feed may begin with a digit, their names may not."""
    assert names.service("1inch", "ingestor") == "mf-1inch-ingestor"
    assert names.analytics("1inch") == "mf-1inch-analytics"


def test_no_feed_takes_an_account_that_it_did_not_make() -> None:
    """A feed called `default` leaves the namespace's own account alone."""
    assert names.service_account("default") == "default-services"
