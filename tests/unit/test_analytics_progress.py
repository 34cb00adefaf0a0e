"""How far a query is, by Spark's own events, and what the service makes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from marketfeed.analytics.progress import Progress
from marketfeed.analytics.watch import Watch
from marketfeed.metrics import AnalyticsMetrics

_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _event(**changes: Any) -> dict[str, Any]:
    """Return an event as Spark 4.3 words it, cut down to what is read."""
    source = {
        "description": "KafkaV2[Subscribe[t]]",
        "startOffset": {"t": {"0": 4}},
        "endOffset": {"t": {"0": 5, "1": 7}},
        "latestOffset": {"t": {"0": 5, "1": 9}},
        **changes.pop("source", {}),
    }
    return {
        "timestamp": "2026-01-01T11:59:58.253Z",
        "batchDuration": 1442,
        "numInputRows": 8,
        "inputRowsPerSecond": 0.6,
        "eventTime": {"watermark": "2026-01-01T11:59:30.000Z"},
        "stateOperators": [
            {"numRowsTotal": 3, "memoryUsedBytes": 800},
            {"numRowsTotal": 4, "memoryUsedBytes": 200},
        ],
        "sources": [source],
        "observedMetrics": {"records": {"records": 8, "malformed": 2}},
        **changes,
    }


def test_a_batch_moves_everything_on() -> None:
    """State of all operators is summed, counts add up, the lag is what the topic held when the batch began."""
    progress = Progress(0.0).after_batch(_event(), 5.0).after_batch(_event(), 6.0)
    assert progress.as_stats(8.0, _NOON) == {
        "batch_age_s": 2.0,
        "batch_seconds": 1.442,
        "input_records": 16,
        "input_records_per_second": 0.6,
        "lag_records": 2,
        "processed": {"t": {"0": 5, "1": 7}},
        "state_rows": 7,
        "watermark_delay_s": 30.0,
        "malformed": 4,
    }


def test_a_partition_of_which_nothing_was_read_counts_whole() -> None:
    """Spark leaves such a partition out of the end; its records are all behind."""
    event = _event(source={"endOffset": {"t": {"0": 5}}})
    assert Progress(0.0).after_batch(event, 1.0).lag_records == 9


def test_a_replayed_batch_does_not_claim_to_be_at_the_end() -> None:
    """Spark does not look at the topic's end before a batch that it had planned already: the lag is unknown, not 0."""
    assert Progress(0.0).after_batch(_event(source={"latestOffset": None}), 1.0).lag_records is None


def test_before_the_first_event_nothing_is_claimed() -> None:
    """Neither a lag nor an age of the watermark."""
    stats = Progress(0.0).as_stats(3.0, _NOON)
    assert (stats["lag_records"], stats["watermark_delay_s"], stats["batch_age_s"]) == (None, None, None)


def test_no_watermark_is_not_one_of_1970() -> None:
    """Before Spark has seen a time, its watermark is the epoch's start: that is none."""
    event = _event(eventTime={"watermark": "1970-01-01T00:00:00.000Z"})
    assert Progress(0.0).after_batch(event, 1.0).watermark is None
    assert Progress(0.0).after_batch(_event(eventTime={}), 1.0).watermark is None


def test_an_idle_query_has_processed_what_its_checkpoint_says() -> None:
    """After a restart that finds nothing new, no batch tells: what is committed does, and nothing is behind."""
    progress = Progress(0.0).after_idle("2026-01-01T11:59:59.500Z", {"t": {"0": 5}}, 4.0)
    assert (progress.processed, progress.lag_records) == ({"t": {"0": 5}}, 0)
    assert progress.batch_began == datetime(2026, 1, 1, 11, 59, 59, 500_000, UTC)


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    """Return a clock that stands still."""
    return _Clock()


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture
def watch(clock: _Clock, registry: CollectorRegistry) -> Watch:
    """Return the watch of two queries with a trigger of 20 s."""
    made = Watch(AnalyticsMetrics(registry), 20_000, monotonic=clock, wall=lambda: _NOON)
    for query in ("trade_metrics", "spread_metrics"):
        made.started(query)
    return made


def test_all_queries_must_have_looked_once(watch: Watch) -> None:
    """A batch of the one and an idle look of the other make both known."""
    assert watch.pending() == "the first batch of spread_metrics is not written yet"
    watch.idle("spread_metrics", "2026-01-01T11:59:59.500Z", {})
    watch.batch("trade_metrics", _event())
    assert watch.pending() is None


def test_silence_is_death_after_twelve_triggers(watch: Watch, clock: _Clock) -> None:
    """Any event of a query starts its patience anew; the query that is silent is named."""
    clock.now += 240
    watch.batch("trade_metrics", _event())
    assert watch.dead() is None
    clock.now += 1
    assert watch.dead() == "nothing was heard of the query spread_metrics for 241 s"


def test_a_query_that_ended_is_death(watch: Watch) -> None:
    """However lively the other one is."""
    watch.ended("trade_metrics")
    watch.batch("spread_metrics", _event())
    assert watch.dead() == "the query trade_metrics has ended"


def test_caught_up_is_the_earliest_look_of_all(watch: Watch) -> None:
    """One query that is behind, or has not looked, keeps all from it."""
    watch.idle("trade_metrics", "2026-01-01T11:59:59.500Z", {})
    assert watch.caught_up() is None
    watch.batch("spread_metrics", _event())
    assert watch.caught_up() is None
    watch.batch("spread_metrics", _event(source={"latestOffset": {"t": {"0": 5, "1": 7}}}))
    assert watch.caught_up() == datetime(2026, 1, 1, 11, 59, 58, 253_000, UTC)


def test_metrics_follow(watch: Watch, registry: CollectorRegistry) -> None:
    """Each event is on the next scrape."""
    watch.batch("trade_metrics", _event())
    watch.batch("trade_metrics", _event())
    labels = {"query": "trade_metrics"}
    expected = {
        "batch_timestamp_seconds": _NOON.timestamp(),
        "batch_seconds": 1.442,
        "input_records_total": 16,
        "input_records_per_second": 0.6,
        "malformed_records_total": 4,
        "lag_records": 2,
        "state_rows": 7,
        "state_bytes": 1000,
        "watermark_delay_seconds": 30,
    }
    found = {name: registry.get_sample_value(f"marketfeed_analytics_{name}", labels) for name in expected}
    assert found == expected
