"""The ingestor's numbers: counted in plain integers, turned into metrics that only ever rise."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from marketfeed.events import Channel, Stream
from marketfeed.ingest.report import Report
from marketfeed.publishers.null import NullPublisher
from records import book_ticker, encoded, trade

BTC = Stream("BTCUSDT", Channel.TRADE)
ETH = Stream("ETHUSDT", Channel.TRADE)


def test_records_are_counted_once_however_often_one_looks() -> None:
    """Each gathering adds what is new since the last one, by stream and by topic."""
    registry, publisher = CollectorRegistry(), NullPublisher("binance")
    report = Report(registry, "binance", "feed-0")
    for number in range(5):
        publisher.publish(*encoded(trade(number)))
        publisher.publish(*encoded(book_ticker(number)))
        report.publisher(publisher, now=float(number))
        report.publisher(publisher, now=float(number))
    of_trades = {"exchange": "binance", "symbol": "BTCUSDT", "channel": "trade"}
    assert registry.get_sample_value("marketfeed_records_received_total", of_trades) == 5
    by_topic = {"exchange": "binance", "topic": "null", "type": "bookTicker"}
    assert registry.get_sample_value("kafka_messages_published_total", by_topic) == 5
    assert report.taken == 10


def test_failures_are_counted_once() -> None:
    """Failed deliveries rise by topic, and a second look adds nothing."""
    registry, publisher = CollectorRegistry(), NullPublisher("binance")
    report = Report(registry, "binance", "feed-0")
    publisher.failed["t"] += 2
    report.publisher(publisher, now=0.0)
    report.publisher(publisher, now=1.0)
    publisher.failed["t"] += 1
    report.publisher(publisher, now=2.0)
    assert registry.get_sample_value("kafka_delivery_errors_total", {"topic": "t"}) == 3


def test_fresh_streams_are_those_that_had_a_record_lately() -> None:
    """A stream is fresh within the time after its last record, and was never fresh without one."""
    publisher, report = NullPublisher("binance"), Report(CollectorRegistry(), "binance", "feed-0")
    publisher.publish(*encoded(trade(1)))
    report.publisher(publisher, now=100.0)
    assert report.fresh([BTC, ETH], now=109.0, within_s=10.0) == 1
    assert report.fresh([BTC, ETH], now=111.0, within_s=10.0) == 0


def test_the_age_of_the_last_frame_counts_from_the_last_change() -> None:
    """Only a higher number of frames makes the connection fresh."""
    report = Report(CollectorRegistry(), "binance", "feed-0")
    report.frames(0, now=1.0, wall_s=1.0)
    assert report.frame_at is None
    report.frames(3, now=2.0, wall_s=2.0)
    report.frames(3, now=9.0, wall_s=9.0)
    assert report.frame_at == 2.0


def test_each_wanted_stream_has_the_time_of_its_last_record() -> None:
    """Before its first record a stream counts from when it was wanted; one that is dropped is not shown any more."""
    registry, publisher = CollectorRegistry(), NullPublisher("binance")
    report = Report(registry, "binance", "feed-0")
    report.streams(frozenset({BTC, ETH}), now=10.0)
    report.frames(0, now=10.0, wall_s=1010.0)
    assert _last_records(registry) == {"BTCUSDT": 1010, "ETHUSDT": 1010}
    publisher.publish(*encoded(trade(1)))
    report.publisher(publisher, now=20.0)
    report.streams(frozenset({BTC}), now=21.0)
    assert _last_records(registry) == {"BTCUSDT": 1020}


def test_a_shard_that_never_connected_says_so() -> None:
    """No connection and no stream are figures from the beginning, so that an alert can rest on them."""
    registry = CollectorRegistry()
    report = Report(registry, "binance", "feed-0")
    labels = {"exchange": "binance", "shard": "feed-0"}
    assert registry.get_sample_value("marketfeed_connected", labels) == 0
    assert registry.get_sample_value("marketfeed_streams", labels) == 0
    report.connected(again=False)
    report.streams(frozenset({BTC}), now=1.0)
    assert registry.get_sample_value("marketfeed_connected", labels) == 1
    assert registry.get_sample_value("marketfeed_streams", labels) == 1


def _last_records(registry: CollectorRegistry) -> dict[str, float]:
    (family,) = (each for each in registry.collect() if each.name == "marketfeed_last_record_timestamp_seconds")
    return {sample.labels["symbol"]: sample.value for sample in family.samples}
