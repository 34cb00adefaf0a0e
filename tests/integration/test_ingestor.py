"""The real ingestor process against a venue that misbehaves on demand; what it received comes out of its stdout."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import truth
from helpers import wait_until
from ingestors import SOON_S, Start, ids, received, starter, trade, wait_ready, wait_reason, write_streams
from marketfeed import codec, topics
from marketfeed.events import Trade
from marketfeed.settings import KafkaSettings, ProducerSettings, Topic
from pipeline import Service
from scripted_venue import ScriptedVenue

MOST_MEMORY = 120 * 1024 * 1024


@pytest.fixture
def venue() -> Iterator[ScriptedVenue]:
    """Return a venue that listens."""
    with ScriptedVenue() as scripted:
        yield scripted


@pytest.fixture
def streams_file(tmp_path: Path) -> Path:
    """Return the streams file, with one stream."""
    path = tmp_path / "streams.json"
    write_streams(path, "BTCUSDT@trade")
    return path


@pytest.fixture
def ingest(tmp_path: Path, venue: ScriptedVenue, streams_file: Path) -> Iterator[Start]:
    """Return a function that starts an ingestor to stdout; its arguments are changes of the settings."""
    with starter(tmp_path, venue.url, streams_file) as start:
        yield start


def test_frames_become_records_in_order(venue: ScriptedVenue, ingest: Start) -> None:
    """What the venue sends comes out in its order, with the digits unchanged and the time of receipt; exit code 0."""
    service = ingest()
    wait_ready(service)
    venue.send(*(trade(number) for number in range(1, 101)))
    wait_until(lambda: len(ids(service)) == 100, SOON_S, "a hundred records")
    assert ids(service) == list(range(1, 101))
    record = received(service)[0]
    assert isinstance(record, Trade)
    assert (record.price, record.quantity, record.side) == ("39432.48000000", "0.00026300", "sell")
    assert record.event_time == 1767225600000000 < record.ingestion_time
    assert service.terminate() == 0
    assert service.entries("drained")[0]["delivered"] == 100
    assert venue.paths == ["/stream?streams=btcusdt@trade"]


BAD = [
    (b"not json", "not_json"),
    (json.dumps(trade(7)).encode()[:60], "not_json"),
    (json.dumps({"stream": "btcusdt@kline_1m", "data": {}}).encode(), "unknown_type"),
    (json.dumps({"stream": "btcusdt@trade", "data": {"e": "trade"}}).encode(), "missing_field"),
    (json.dumps(trade(7, t="x")).encode(), "wrong_type"),
    (json.dumps(trade(7, p="abc")).encode(), "not_a_number"),
    (json.dumps(trade(7, T=1)).encode(), "out_of_range"),
]


@pytest.mark.kafka
def test_bad_frames_go_to_quarantine(
    venue: ScriptedVenue, ingest: Start, kafka_settings: KafkaSettings, topic_name: str
) -> None:
    """Each kind of bad frame lands in the dead-letter topic as it came, is counted, and harms no neighbour."""
    names = [topic_name, f"{topic_name}.dlq"]
    topics.ensure(kafka_settings, [Topic(name, 1, 1, None) for name in names])
    service = ingest(
        publisher="kafka", kafka=kafka_settings, topics={"trade": topic_name}, dead_letter_topic=f"{topic_name}.dlq"
    )
    wait_ready(service)
    for number, (frame, _) in enumerate(BAD):
        venue.send(trade(number), frame)
    venue.send(trade(len(BAD)))
    wait_until(lambda: service.stats()["publish_count"] == len(BAD) + 1, SOON_S, "all good records")
    assert service.stats()["bad_frames"] == len(BAD)
    assert service.reason() is None
    assert service.metric("marketfeed_bad_frames_total", error_type="not_json") == 2
    assert service.terminate() == 0
    records = [codec.decode(message.value() or b"") for message in truth.messages(kafka_settings, [topic_name])]
    assert [record.trade_id for record in records if isinstance(record, Trade)] == list(range(len(BAD) + 1))
    letters = truth.messages(kafka_settings, [f"{topic_name}.dlq"])
    found = [(letter.value(), dict(letter.headers() or [])["error_type"]) for letter in letters]
    assert found == [(frame, error_type.encode()) for frame, error_type in BAD]


def test_a_message_in_parts_is_one_message(venue: ScriptedVenue, ingest: Start) -> None:
    """A fragmented message is put together, around the ping in its midst, which is answered with its payload."""
    service = ingest()
    wait_ready(service)
    venue.send(trade(1))
    venue.send_in_parts(json.dumps(trade(2)).encode())
    venue.send(trade(3))
    wait_until(lambda: ids(service) == [1, 2, 3], SOON_S, "three records")
    assert service.stats()["bad_frames"] == 0
    wait_until(lambda: venue.pongs == [b"between"], SOON_S, "the pong")


def test_streams_change_on_the_open_connection(venue: ScriptedVenue, ingest: Start, streams_file: Path) -> None:
    """A changed file is subscribed and unsubscribed without a new connection, and checked against the venue's list."""
    service = ingest()
    wait_ready(service)
    write_streams(streams_file, "ETHUSDT@trade", "ETHUSDT@bookTicker")
    wait_until(lambda: venue.carried == {"ethusdt@trade", "ethusdt@bookTicker"}, SOON_S, "the change at the venue")
    wait_until(lambda: service.stats()["streams"]["subscribed"] == 2, SOON_S, "the acknowledgement")
    wait_until(lambda: venue.requests[-1]["method"] == "LIST_SUBSCRIPTIONS", SOON_S, "the check")
    venue.send(trade(1, "ETHUSDT"))
    wait_until(lambda: ids(service) == [1], SOON_S, "a record of a new stream")
    assert len(venue.paths) == 1
    assert service.get("/pairs")[1] == {"count": 1, "pairs": ["ETHUSDT"]}


def test_a_broken_file_keeps_the_streams_and_says_so(venue: ScriptedVenue, ingest: Start, streams_file: Path) -> None:
    """A broken file makes the shard unready with its reason, while the streams of before flow on; mending heals."""
    service = ingest()
    wait_ready(service)
    streams_file.write_text('{"streams": ["BTCUSDT"]}')
    wait_reason(service, "'BTCUSDT' is not a stream")
    venue.send(trade(1))
    wait_until(lambda: ids(service) == [1], SOON_S, "a record in spite of the broken file")
    assert service.entries("streams_refused")
    write_streams(streams_file, "BTCUSDT@trade")
    wait_ready(service)


def test_no_streams_is_idle_and_ready(venue: ScriptedVenue, ingest: Start, streams_file: Path) -> None:
    """An empty list needs no connection; streams that come later open one, and going back to none closes it."""
    write_streams(streams_file)
    service = ingest()
    wait_ready(service)
    assert venue.paths == []
    write_streams(streams_file, "BTCUSDT@trade")
    wait_until(lambda: venue.connected, SOON_S, "a connection")
    write_streams(streams_file)
    wait_until(lambda: not venue.connected, SOON_S, "the end of the connection")
    wait_ready(service)


def test_many_streams_are_subscribed_in_parts(venue: ScriptedVenue, ingest: Start, streams_file: Path) -> None:
    """More streams than one request holds: all are carried in the end, and the venue's message rate is kept."""
    write_streams(streams_file, *(f"S{number}USDT@trade" for number in range(650)))
    service = ingest()
    wait_ready(service)
    assert len(venue.carried) == 650
    assert [len(request.get("params", ())) for request in venue.requests[:6]] == [100, 100, 100, 100, 100, 50]


def test_too_many_streams_are_bad_configuration(ingest: Start, streams_file: Path) -> None:
    """More streams than the venue carries on a connection end the process with exit code 2 and the limit."""
    write_streams(streams_file, *(f"S{number}USDT@trade" for number in range(1025)))
    service = ingest()
    assert service.exit_code() == 2
    assert "at most 1024" in service.log


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (451, "geo_blocked", "does not serve this country"),
        (403, "forbidden", "firewall"),
        (418, "banned", "banned"),
        (429, "rate_limited", "too many connection attempts"),
        (503, "http_503", "HTTP 503"),
    ],
)
def test_a_refused_handshake_is_named_and_overcome(
    venue: ScriptedVenue, ingest: Start, status: int, reason: str, words: str
) -> None:
    """The venue's refusal is the reason in /readyz, a word in the metric, and the shard connects once it is let in."""
    venue.status = status
    service = ingest()
    wait_reason(service, words)
    wait_until(lambda: service.metric("vendor_fetch_failure_total", reason=reason) >= 2, SOON_S, "a second attempt")
    assert service.entries("connect_failed")[0]["status"] == status
    venue.status = None
    wait_ready(service)


def test_a_ban_is_not_met_with_haste(venue: ScriptedVenue, ingest: Start) -> None:
    """After a 418 the next attempt waits for about the longest delay, not for the first one."""
    venue.status = 418
    service = ingest(backoff_first_s=0.01, backoff_max_s=600.0)
    wait_reason(service, "banned")
    assert service.terminate() == 0
    assert len(venue.paths) == 1


def test_a_cut_connection_is_made_again(venue: ScriptedVenue, ingest: Start) -> None:
    """After every cut the shard comes back by itself, counts it, and goes on with the same streams."""
    service = ingest()
    for number in range(3):
        wait_until(lambda: venue.connected, SOON_S, "a connection")
        wait_ready(service)
        venue.send(trade(number))
        wait_until(partial(_has_last, service, number), SOON_S, "a record")
        venue.cut()
        wait_until(partial(_has_connected, venue, number + 2), SOON_S, "another connection")
    wait_until(lambda: service.stats()["reconnects"] == 3, SOON_S, "three reconnects to be counted")
    wait_ready(service)
    assert len(set(venue.paths)) == 1


def _has_last(service: Service, number: int) -> bool:
    return ids(service)[-1:] == [number]


def _has_connected(venue: ScriptedVenue, times: int) -> bool:
    return len(venue.paths) >= times


def test_a_silent_connection_is_given_up(venue: ScriptedVenue, ingest: Start) -> None:
    """An open socket without a frame counts as stale: another connection is made."""
    service = ingest(stale_after_s=1.0)
    wait_until(lambda: len(venue.paths) >= 2, SOON_S, "another connection")
    assert "no frame for" in service.entries("disconnected")[0]["reason"]


def test_an_announced_shutdown_is_not_waited_for(venue: ScriptedVenue, ingest: Start) -> None:
    """After serverShutdown the shard leaves by itself, and connects again at once."""
    service = ingest(backoff_first_s=30.0, backoff_max_s=60.0)
    wait_ready(service)
    venue.send(trade(1), {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1770123456789}}, trade(2))
    wait_until(lambda: len(venue.paths) == 2, SOON_S, "another connection")
    wait_ready(service)
    venue.send(trade(3))
    wait_until(lambda: ids(service) == [1, 2, 3], SOON_S, "all records")


def test_an_unanswered_request_leaves_the_shard_unready(
    venue: ScriptedVenue, ingest: Start, streams_file: Path
) -> None:
    """A stream that was asked for and not acknowledged keeps the shard unready, in so many words."""
    service = ingest()
    wait_ready(service)
    wait_until(lambda: venue.requests, SOON_S, "the first check")
    venue.acknowledges = False
    write_streams(streams_file, "BTCUSDT@trade", "ETHUSDT@trade")
    wait_reason(service, "1 of 2 streams are not acknowledged yet")


def test_a_full_queue_stops_reading_and_loses_nothing(
    venue: ScriptedVenue, ingest: Start, own_kafka: Callable[[], Any], topic_name: str
) -> None:
    """While the broker is away the queue fills and reading stops, in bounded memory; then all arrive in order."""
    broker = own_kafka()
    topics.ensure(broker.settings, [Topic(topic_name, 1, 1, None), Topic(f"{topic_name}.dlq", 1, 1, None)])
    service = ingest(
        publisher="kafka",
        kafka=broker.settings,
        producer=ProducerSettings(queue_bytes=256 * 1024),
        topics={"trade": topic_name},
        dead_letter_topic=f"{topic_name}.dlq",
    )
    wait_ready(service)
    broker.kill()
    wait_reason(service, "no Kafka broker answers")
    count = 20_000
    venue.send(*(trade(number) for number in range(count)))
    wait_until(lambda: service.metric("kafka_producer_queue_full_total") >= 1, SOON_S, "the queue to be full")
    assert service.stats()["publish_count"] < count
    assert service.get("/livez")[0] == 200
    assert psutil.Process(service.pid).memory_info().rss < MOST_MEMORY
    broker.start()
    wait_until(lambda: service.stats()["publish_count"] == count, 60, "all records to be taken")
    wait_ready(service)
    assert service.terminate() == 0
    records = [codec.decode(message.value() or b"") for message in truth.messages(broker.settings, [topic_name])]
    assert [record.trade_id for record in records if isinstance(record, Trade)] == list(range(count))


def test_what_cannot_be_delivered_is_said(
    venue: ScriptedVenue, ingest: Start, own_kafka: Callable[[], Any], topic_name: str
) -> None:
    """SIGTERM without a broker ends in time with exit code 1 and the number of records that were left."""
    broker = own_kafka()
    topics.ensure(broker.settings, [Topic(topic_name, 1, 1, None), Topic(f"{topic_name}.dlq", 1, 1, None)])
    service = ingest(
        publisher="kafka",
        kafka=broker.settings,
        topics={"trade": topic_name},
        dead_letter_topic=f"{topic_name}.dlq",
        drain_timeout_s=0.5,
    )
    wait_ready(service)
    broker.kill()
    venue.send(*(trade(number) for number in range(10)))
    wait_until(lambda: service.stats()["total_messages"] >= 10, SOON_S, "the frames")
    assert service.terminate() == 1
    assert service.entries("drained")[0]["undelivered"] == 10


def test_an_interrupt_ends_as_in_order(venue: ScriptedVenue, ingest: Start) -> None:
    """Ctrl-C drains as SIGTERM does."""
    service = ingest()
    wait_ready(service)
    venue.send(trade(1))
    wait_until(lambda: service.stats()["total_messages"] >= 1, SOON_S, "the frame")
    psutil.Process(service.pid).send_signal(signal.SIGINT)
    assert service.exit_code() == 0
    assert ids(service) == [1]


def test_memory_is_small(venue: ScriptedVenue, ingest: Start) -> None:
    """A shard stays below 120 MiB, after tens of thousands of frames as before."""
    service = ingest(publisher="null")
    wait_ready(service)
    venue.send(*(trade(number) for number in range(50_000)))
    wait_until(lambda: service.stats()["total_messages"] >= 50_000, SOON_S, "the frames")
    assert psutil.Process(service.pid).memory_info().rss < MOST_MEMORY
