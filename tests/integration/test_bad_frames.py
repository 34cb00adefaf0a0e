"""What cannot be understood or stored goes to quarantine, byte by byte, and holds up nothing beside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from http import HTTPStatus
from itertools import chain, pairwise
from random import Random
from typing import Any

import pytest
from confluent_kafka import Message, Producer

import truth
from fake_venue import FakeVenue, Frame
from helpers import wait_until
from marketfeed import codec
from marketfeed.events import Trade
from pipeline import RECOVERY_S, Pipeline, Service

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

TIME_MS = 1_767_225_600_000
TIME_US = TIME_MS * 1000
DIGITS = ("39432.48000000", "0.00026300")

PAYLOAD: dict[str, Any] = {"e": "trade", "E": TIME_MS, "s": "BTCUSDT", "t": 1, "p": DIGITS[0], "q": DIGITS[1]}
PAYLOAD |= {"T": TIME_MS, "m": True, "M": True}


def _frame(number: int = 1, *, stream: str = "btcusdt@trade", without: str = "", **changes: Any) -> str:
    """Return a trade's frame, changed."""
    data = {name: value for name, value in (PAYLOAD | {"t": number} | changes).items() if name != without}
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":"))


BAD_FRAMES: dict[str, tuple[Frame, str]] = {
    "not JSON": ("hello", "not_json"),
    "truncated": (_frame()[:-20], "not_json"),
    "two in one": (_frame() + _frame(), "not_json"),
    "empty": ("", "not_json"),
    "binary": (bytes(range(256)), "not_json"),
    "text that is no UTF-8": (_frame(s="BTC").encode().replace(b'BTC"', b'\xff\xfe"'), "not_json"),
    "nested without end": ('{"stream":"btcusdt@trade","more":' + "[" * 20_000, "not_json"),
    "huge": ("x" * 900_000, "not_json"),
    "in fragments": (["hel", "", "lo"], "not_json"),
    "no object": ("[1,2,3]", "wrong_type"),
    "null": ("null", "wrong_type"),
    "says nothing": ("{}", "unknown_type"),
    "unknown stream": (_frame(stream="btcusdt@blockTrade"), "unknown_type"),
    "unknown type": (_frame(e="tradeLite"), "unknown_type"),
    "another stream's payload": (_frame(stream="btcusdt@aggTrade"), "unknown_type"),
    "missing id": (_frame(without="t"), "missing_field"),
    "missing price": (_frame(without="p"), "missing_field"),
    "price as a number": (_frame(p=39432.48), "wrong_type"),
    "price of null": (_frame(p=None), "wrong_type"),
    "id as text": (_frame(t="1"), "wrong_type"),
    "side as text": (_frame(m="true"), "wrong_type"),
    "price that is no number": (_frame(p="abc"), "not_a_number"),
    "price of NaN": (_frame(p="NaN"), "not_a_number"),
    "price of infinity": (_frame(p="Infinity"), "not_a_number"),
    "price with an exponent": (_frame(p="3e4"), "not_a_number"),
    "negative price": (_frame(p="-1.00000000"), "not_a_number"),
    "empty quantity": (_frame(q=""), "not_a_number"),
    "Coinbase's broken size": (_frame(q="0.-10000"), "not_a_number"),
    "digits that are not ASCII": (_frame(p="\u0661\u0662.\u0660"), "not_a_number"),
    "negative id": (_frame(t=-1), "out_of_range"),
    "id beyond a bigint": (_frame(t=2**63), "out_of_range"),
    "time in seconds": (_frame(T=TIME_MS // 1000), "out_of_range"),
    "time in microseconds": (_frame(T=TIME_US), "out_of_range"),
}


def _good_frames(count: int) -> list[Frame]:
    """Return trades with the ids from 1 on; now and then one comes in fragments."""
    frames = [_frame(number) for number in range(1, count + 1)]
    return [[frame[:40], frame[40:]] if index % 10 == 0 else frame for index, frame in enumerate(frames)]


def _bytes(frame: Frame) -> bytes:
    parts = frame if isinstance(frame, list) else [frame]
    return b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)


def _ingest(pipeline: Pipeline, venue: FakeVenue) -> Service:
    return pipeline.ingest(websocket_url=venue.url)


def _headers(letter: Message) -> dict[str, bytes]:
    return {name: value for name, value in dict(letter.headers() or ()).items() if isinstance(value, bytes)}


def _error_types(letters: Iterable[Message]) -> Counter[tuple[bytes | None, str]]:
    return Counter((letter.value(), _headers(letter)["error_type"].decode()) for letter in letters)


# ---- Frames of the venue ----


def test_bad_frames_are_quarantined_and_good_ones_stored(pipeline: Pipeline) -> None:
    """Each kind of bad frame goes to the dead-letter topic untouched and named; every good one between is stored."""
    good = _good_frames(len(BAD_FRAMES))
    with FakeVenue() as venue:
        consumer, ingestor = pipeline.consume(), _ingest(pipeline, venue)
        bad: list[Frame] = [frame for frame, _ in BAD_FRAMES.values()]
        venue.send(chain.from_iterable(zip(good, bad, strict=True)))
        wait_until(lambda: ingestor.stats()["bad_frames"] == len(BAD_FRAMES), RECOVERY_S, "the bad frames to be seen")
        wait_until(lambda: pipeline.rows() == len(good), RECOVERY_S, "the good frames to be stored")
        assert ingestor.reason() is None
        assert len(venue.connections) == 1
        kinds = Counter(kind for _, kind in BAD_FRAMES.values())
        assert {kind: ingestor.metric("marketfeed_bad_frames_total", error_type=kind) for kind in kinds} == kinds
        assert ingestor.terminate() == 0
    pipeline.drain(consumer)
    assert truth.stored(pipeline.dsn) == {
        "BTCUSDT@trade": dict.fromkeys(range(1, len(good) + 1), (*DIGITS, "sell", TIME_US, None, None))
    }
    letters = truth.messages(pipeline.kafka, [pipeline.dead_letter_topic])
    assert _error_types(letters) == Counter((_bytes(frame), kind) for frame, kind in BAD_FRAMES.values())


def test_frame_that_no_topic_takes_is_counted(pipeline: Pipeline) -> None:
    """A bad frame larger than the broker takes is reported as not delivered; the connection and its neighbours stay."""
    with FakeVenue() as venue:
        ingestor = _ingest(pipeline, venue)
        venue.send([_frame(1), "x" * 2_000_000, _frame(2)])
        wait_until(lambda: ingestor.stats()["error_count"] == 1, RECOVERY_S, "the failure to be counted")
        wait_until(lambda: ingestor.stats()["publish_count"] == 2, RECOVERY_S, "the neighbours to be published")
        assert ingestor.metric("kafka_delivery_errors_total", topic=pipeline.dead_letter_topic) == 1
        assert [entry["topic"] for entry in ingestor.entries("delivery_failed")] == [pipeline.dead_letter_topic]
        assert len(venue.connections) == 1
        assert ingestor.terminate() == 0
    assert truth.published(pipeline.kafka, pipeline.record_topics)["BTCUSDT@trade"].keys() == {1, 2}


# ---- Records in the topic ----


def _record(number: int, **changes: Any) -> bytes:
    trade = Trade("binance", "BTCUSDT", number, *DIGITS, "sell", TIME_US, TIME_US)
    fields = json.loads(codec.encode(trade)) | changes
    return json.dumps(fields).encode()


# An index entry takes a third of a page and no more, and what is random cannot be compressed.
LONG_SYMBOL = Random(1).randbytes(10_000).hex()  # noqa: S311 - no secret

BAD_RECORDS: dict[str, tuple[bytes | None, str]] = {
    "not JSON": (b"hello", "not_json"),
    "empty": (b"", "not_json"),
    "without a value": (None, "not_json"),
    "not UTF-8": (_record(1).replace(b"BTCUSDT", b"\xff\xfe"), "not_json"),
    "price of NaN": (_record(1, price="NaN"), "not_a_number"),
    "price as a number": (_record(1, price=1.5), "wrong_type"),
    "another schema": (b'{"hello": "world"}', "missing_field"),
    "unknown channel": (_record(1, channel="liquidation"), "unknown_type"),
    "event time of 1970": (_record(1, event_time=0), "out_of_range"),
    "event time in nanoseconds": (_record(1, event_time=TIME_US * 1000), "out_of_range"),
    "version to come": (_record(1, v=2), "out_of_range"),
    "NUL in a symbol": (_record(1, symbol="BTC\0USDT"), "refused_by_sink"),
    "more digits than a number has": (_record(1, price="9" * 140_000), "refused_by_sink"),
    "symbol too long for an index": (_record(1, symbol=LONG_SYMBOL), "refused_by_sink"),
}


def test_bad_records_are_quarantined_and_their_neighbours_stored(pipeline: Pipeline) -> None:
    """What a topic holds and no table takes is quarantined with its origin; its neighbours are stored and committed."""
    producer = Producer({"bootstrap.servers": pipeline.kafka.bootstrap_servers})
    topic = pipeline.topics["trade"]
    for index, (bad, _) in enumerate(BAD_RECORDS.values()):
        producer.produce(topic, _record(index), b"BTCUSDT", partition=0)
        producer.produce(topic, bad, b"key", partition=0)
    assert producer.flush(10) == 0
    consumer = pipeline.consume()
    wait_until(pipeline.consumed, RECOVERY_S, "every offset to be committed")
    assert consumer.stats()["dead_letters"] == len(BAD_RECORDS)
    assert consumer.metric("kafka_dlq_published_total", source_topic=topic) == len(BAD_RECORDS)
    assert consumer.reason() is None
    pipeline.drain(consumer)
    assert truth.stored(pipeline.dsn)["BTCUSDT@trade"].keys() == set(range(len(BAD_RECORDS)))
    truth.assert_ledger_agrees(pipeline.dsn)
    letters = truth.messages(pipeline.kafka, [pipeline.dead_letter_topic])
    assert {letter.key() for letter in letters} == {b"key"}
    assert _error_types(letters) == Counter(BAD_RECORDS.values())
    origins = sorted(int(_headers(letter)["__connect.errors.offset"]) for letter in letters)
    assert origins == list(range(1, 2 * len(BAD_RECORDS), 2))


# ---- Handshakes ----

REFUSALS = {
    HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS: "geo_blocked",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.IM_A_TEAPOT: "banned",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limited",
    HTTPStatus.INTERNAL_SERVER_ERROR: "http_500",
}
LONGEST_BACKOFF_S = 1.0


@pytest.mark.parametrize(("status", "reason"), REFUSALS.items(), ids=REFUSALS.values())
def test_refused_connection_is_named_and_not_retried_hot(pipeline: Pipeline, status: HTTPStatus, reason: str) -> None:
    """A refused handshake is named in `/health` and in the log, retried with pauses, and forgotten once it works."""
    with FakeVenue() as venue:
        venue.refusal = status
        ingestor = pipeline.ingest(websocket_url=venue.url, backoff_max_s=LONGEST_BACKOFF_S)
        wait_until(lambda: len(venue.attempts) > 3, RECOVERY_S, "three attempts more")
        health = ingestor.get("/health")
        assert health[0] == HTTPStatus.SERVICE_UNAVAILABLE
        assert f"no connection to binance: HTTP {status.value}" in health[1]["reason"]
        assert {entry["reason"] for entry in ingestor.entries("connect_failed")} == {reason}
        assert ingestor.metric("vendor_fetch_failure_total", reason=reason) >= 3
        assert ingestor.get("/livez")[0] == HTTPStatus.OK
        pauses = [later - earlier for earlier, later in pairwise(venue.attempts)]
        assert min(pauses) >= (LONGEST_BACKOFF_S / 2 if status < HTTPStatus.INTERNAL_SERVER_ERROR else 0.01)
        venue.refusal = None
        venue.send([_frame(1)])
        wait_until(lambda: ingestor.reason() is None, RECOVERY_S, "the ingestor to be ready")
        assert ingestor.terminate() == 0
    assert truth.published(pipeline.kafka, pipeline.record_topics)["BTCUSDT@trade"].keys() == {1}
