"""What a feed may ask for and this version does not do. A row goes when its part is built.

What would change where records go is refused; what runs without it is planned, with a warning that says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args, get_type_hints

from marketfeed.settings import ConsumerSettings
from marketfeed_operator.models import Ingest, MarketFeed
from marketfeed_operator.problems import Problem

_CONSUMED: tuple[str, ...] = get_args(get_type_hints(ConsumerSettings)["sink_type"])


def refused(feed: MarketFeed) -> list[Problem]:
    """Return what cannot be planned, because records would not go where the feed says."""
    return [*_encodings(feed), *_legs(feed), *_sinks(feed)]


def _encodings(feed: MarketFeed) -> Iterator[Problem]:
    if feed.spec.kafka.encoding != "json":
        sentence = f"{feed.spec.kafka.encoding} is not written by this version: write json"
        yield Problem(("spec", "kafka", "encoding"), sentence)


def _legs(feed: MarketFeed) -> Iterator[Problem]:
    if feed.spec.ingest.redundancy > 1:
        yield Problem(("spec", "ingest", "redundancy"), "redundant legs are not run by this version: write 1")


def _sinks(feed: MarketFeed) -> Iterator[Problem]:
    kafka = feed.spec.kafka.enabled
    filled = _CONSUMED if kafka else ("stdout",)
    for index, sink in enumerate(feed.spec.sinks):
        if sink.type not in filled:
            source = "from Kafka" if kafka else "without Kafka"
            sentence = f"{sink.type} is not filled {source} by this version: use {' or '.join(filled)}"
            yield Problem(("spec", "sinks", index, "type"), sentence)


def ignored(feed: MarketFeed) -> tuple[str, ...]:
    """Return a sentence for each setting that has no effect."""
    # By value: an API server writes every default out, and then all fields are set.
    ingest, usual = feed.spec.ingest, Ingest()
    found = [
        f"spec.ingest.{name} has no effect in this version"
        for field, name in _INGEST
        if getattr(ingest, field) != getattr(usual, field)
    ]
    found.extend(
        f"sink {sink.name}: retention and compressAfter have no effect in this version"
        for sink in feed.spec.sinks
        if sink.retention or sink.compress_after
    )
    return tuple(found)


_INGEST = (("rotate_after", "rotateAfter"), ("validate_on_start", "validateOnStart"))
