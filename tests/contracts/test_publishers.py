"""What `publishers.Publisher` promises, held against every publisher; Kafka's against a real broker."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka import KafkaError, Message

import truth
from helpers import wait_until
from marketfeed import codec, topics
from marketfeed.errors import ConfigurationError, MarketfeedError
from marketfeed.events import Record, Stream
from marketfeed.publishers import Full, Publisher
from marketfeed.publishers.kafka import KafkaPublisher, parse_headers
from marketfeed.publishers.null import NullPublisher
from marketfeed.publishers.stdout import ReaderGone, StdoutPublisher
from marketfeed.settings import KafkaSettings, KeyStyle, ProducerSettings, Topic
from records import agg_trade, book_ticker, encoded, trade

NOBODY = KafkaSettings(bootstrap_servers="127.0.0.1:1")
FLUSH_S = 20.0
RECORDS: list[Record] = [
    trade(1),
    agg_trade(1),
    book_ticker(1),
    trade(2, "ETHUSDT"),
    trade(2),
    book_ticker(2),
    agg_trade(2, "ETHUSDT"),
]


@dataclass
class Outside:
    """A publisher, and how to look at what came out of it."""

    publisher: Publisher
    delivered: Callable[[], list[Record] | None]


def kafka_publisher(
    kafka: KafkaSettings, prefix: str, producer: ProducerSettings | None = None, key_style: KeyStyle = KeyStyle.SYMBOL
) -> KafkaPublisher:
    """Return a publisher to the topics `prefix`.trades, .book and .dlq."""
    return KafkaPublisher(
        kafka,
        producer or ProducerSettings(),
        exchange="binance",
        shard="feed-0",
        topics={"trade": f"{prefix}.trades", "aggTrade": f"{prefix}.trades", "bookTicker": f"{prefix}.book"},
        key_style=key_style,
        dead_letter_topic=f"{prefix}.dlq",
    )


def make_topics(kafka: KafkaSettings, prefix: str) -> None:
    """Create the three topics."""
    topics.ensure(kafka, [Topic(f"{prefix}.{name}", 3, 1, None) for name in ("trades", "book", "dlq")])


@pytest.fixture(params=["null", "stdout", "kafka"])
def outside(request: pytest.FixtureRequest) -> Iterator[Outside]:
    """Return each publisher in turn; the broker is started for Kafka's only."""
    if request.param == "null":
        yield Outside(NullPublisher("binance"), lambda: None)
    elif request.param == "stdout":
        out = io.BytesIO()
        yield Outside(
            StdoutPublisher(out, "binance"), lambda: [codec.decode(line) for line in out.getvalue().splitlines()]
        )
    else:
        kafka: KafkaSettings = request.getfixturevalue("kafka_settings")
        prefix: str = request.getfixturevalue("topic_name")
        make_topics(kafka, prefix)
        names = [f"{prefix}.trades", f"{prefix}.book"]
        yield Outside(
            kafka_publisher(kafka, prefix),
            lambda: [codec.decode(message.value() or b"") for message in truth.messages(kafka, names)],
        )


def _by_stream(records: list[Record]) -> dict[Stream, list[Record]]:
    streams: dict[Stream, list[Record]] = {}
    for record in records:
        streams.setdefault(Stream(record.symbol, record.channel), []).append(record)
    return streams


@pytest.mark.kafka
def test_records_come_out_in_the_order_of_their_stream(outside: Outside) -> None:
    """Every record that was taken comes out once, unchanged, in its stream's order; none is pending after a flush."""
    publisher = outside.publisher
    wait_until(lambda: publisher.waits_for() is None, FLUSH_S, "the topics to be known to the broker")
    for record in RECORDS:
        publisher.publish(*encoded(record))
    publisher.poll()
    assert publisher.flush(FLUSH_S) == 0
    assert publisher.pending() == 0
    assert publisher.problem() is None
    delivered = outside.delivered()
    assert delivered is None or _by_stream(delivered) == _by_stream(RECORDS)


@pytest.mark.kafka
def test_taken_records_are_counted_by_stream(outside: Outside) -> None:
    """`flows` counts what was taken, stream by stream, and nothing counts as failed."""
    for record in RECORDS:
        outside.publisher.publish(*encoded(record))
    taken = {flow.stream: flow.taken for flow in outside.publisher.flows()}
    assert taken == {stream: len(records) for stream, records in _by_stream(RECORDS).items()}
    assert {flow.exchange for flow in outside.publisher.flows()} == {"binance"}
    assert outside.publisher.flush(FLUSH_S) == 0
    assert outside.publisher.failed.total() == 0


@pytest.mark.kafka
def test_a_quarantined_frame_is_no_record(outside: Outside) -> None:
    """A frame that could not be understood never comes out among the records."""
    outside.publisher.quarantine(b"\xff{", "not_json", "frame is not JSON")
    assert outside.publisher.flush(FLUSH_S) == 0
    assert not outside.delivered()


# ---- Standard output ----


class _ClosedPipe(io.BytesIO):
    def write(self, _: object) -> int:
        raise BrokenPipeError


def test_a_reader_that_is_gone_ends_the_process_and_is_counted() -> None:
    """Records for a closed pipe count as failed, and the next poll says that it cannot go on."""
    publisher = StdoutPublisher(_ClosedPipe(), "binance")
    publisher.publish(*encoded(trade(1)))
    publisher.publish(*encoded(trade(2)))
    assert publisher.failed.total() == 2
    assert publisher.problem() is not None
    with pytest.raises(ReaderGone):
        publisher.poll()


# ---- Kafka ----


def _messages(kafka: KafkaSettings, topic: str) -> list[Message]:
    return truth.messages(kafka, [topic])


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("key_style", "key"), [(KeyStyle.SYMBOL, b"BTCUSDT"), (KeyStyle.EXCHANGE_SYMBOL, b"binance|BTCUSDT")]
)
def test_a_key_keeps_its_symbol_in_one_partition(
    kafka_settings: KafkaSettings, topic_name: str, key_style: KeyStyle, key: bytes
) -> None:
    """The key is the configured one, the partition is the Java clients' choice for it, the digits are untouched."""
    make_topics(kafka_settings, topic_name)
    publisher = kafka_publisher(kafka_settings, topic_name, key_style=key_style)
    for number in range(20):
        publisher.publish(*encoded(trade(number)))
    assert publisher.flush(FLUSH_S) == 0
    messages = _messages(kafka_settings, f"{topic_name}.trades")
    assert {message.key() for message in messages} == {key}
    assert {message.partition() for message in messages} == {_murmur2(key) % 3}
    assert [codec.decode(message.value() or b"") for message in messages] == [trade(number) for number in range(20)]
    assert {str(message.headers()) for message in messages} == {"None"}


def _murmur2(data: bytes) -> int:
    """Return the hash of the Java clients' partitioner, made positive (org.apache.kafka.common.utils.Utils)."""
    mask, mix = 0xFFFFFFFF, 0x5BD1E995
    state = 0x9747B28C ^ len(data)
    whole = len(data) - len(data) % 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * mix & mask
        word = (word ^ word >> 24) * mix & mask
        state = state * mix & mask ^ word
    if whole < len(data):
        state = (state ^ int.from_bytes(data[whole:], "little")) * mix & mask
    state = (state ^ state >> 13) * mix & mask
    return (state ^ state >> 15) & 0x7FFFFFFF


@pytest.mark.kafka
def test_configured_headers_travel_with_each_record(kafka_settings: KafkaSettings, topic_name: str) -> None:
    """KAFKA_HEADERS becomes headers of every record."""
    make_topics(kafka_settings, topic_name)
    publisher = kafka_publisher(kafka_settings, topic_name, ProducerSettings(headers=("schema=1", "team=a=b")))
    publisher.publish(*encoded(trade(1)))
    assert publisher.flush(FLUSH_S) == 0
    (message,) = _messages(kafka_settings, f"{topic_name}.trades")
    assert message.headers() == [("schema", b"1"), ("team", b"a=b")]


@pytest.mark.kafka
def test_a_dead_letter_is_the_untouched_frame(kafka_settings: KafkaSettings, topic_name: str) -> None:
    """Quarantine keeps the bytes as they came; the reason, its type and who refused it stand in the headers."""
    make_topics(kafka_settings, topic_name)
    publisher = kafka_publisher(kafka_settings, topic_name)
    publisher.quarantine(b'{"stream":\xff', "not_json", "frame is not JSON: here")
    assert publisher.flush(FLUSH_S) == 0
    (message,) = _messages(kafka_settings, f"{topic_name}.dlq")
    headers = dict(message.headers() or [])
    assert message.value() == b'{"stream":\xff'
    assert headers["error_type"] == b"not_json"
    assert headers["kafka_dlt-exception-message"] == b"frame is not JSON: here"
    assert b"feed-0" in headers.values()


@pytest.mark.kafka
def test_a_missing_topic_is_named_and_not_created(kafka_settings: KafkaSettings, topic_name: str) -> None:
    """The publisher waits for a topic by name, takes no record for it meanwhile, and never creates it."""
    publisher = kafka_publisher(kafka_settings, topic_name)
    for _ in range(2):
        assert publisher.waits_for() == f"topic {topic_name}.trades does not exist yet"
    make_topics(kafka_settings, topic_name)
    wait_until(lambda: publisher.waits_for() is None, FLUSH_S, "the topics to be known to the broker")


@pytest.mark.kafka
def test_a_record_that_the_broker_can_never_take_is_counted(kafka_settings: KafkaSettings, topic_name: str) -> None:
    """A frame too large for the topic is counted as failed, and the records around it are delivered."""
    make_topics(kafka_settings, topic_name)
    publisher = kafka_publisher(kafka_settings, topic_name)
    publisher.publish(*encoded(trade(1)))
    publisher.quarantine(b"x" * 2_000_000, "not_json", "too large")
    publisher.publish(*encoded(trade(2)))
    assert publisher.flush(FLUSH_S) == 0
    assert publisher.failed == {f"{topic_name}.dlq": 1}
    assert len(_messages(kafka_settings, f"{topic_name}.trades")) == 2


def test_a_broker_that_is_away_fills_the_queue_and_loses_nothing() -> None:
    """Without a broker records are taken up to the configured bytes, then refused with Full; all taken stay pending."""
    publisher = kafka_publisher(NOBODY, "t", ProducerSettings(queue_bytes=64 * 1024))
    taken = _fill(publisher)
    assert 0 < taken < 1_000
    assert sum(flow.taken for flow in publisher.flows()) == taken

    def all_pending() -> bool:
        publisher.poll()  # the client's own notices count until they are polled
        return publisher.pending() == taken

    wait_until(all_pending, 5, "every taken record to be pending")
    assert publisher.failed.total() == 0


def _fill(publisher: Publisher) -> int:
    """Publish until the publisher is full; return how many records it took."""
    for number in range(10_000):
        try:
            publisher.publish(*encoded(trade(number)))
        except Full:
            return number
    pytest.fail("the queue has no bound")


def test_a_fatal_error_ends_the_process() -> None:
    """After an error from which a producer cannot recover, poll says so, and problem names it."""
    publisher = kafka_publisher(NOBODY, "t")
    fatal = KafkaError(KafkaError._FATAL, "the producer was fenced", fatal=True)
    publisher._on_error(fatal)
    assert publisher.problem() == "the producer was fenced"
    with pytest.raises(MarketfeedError, match="fenced"):
        publisher.poll()


@pytest.mark.parametrize("headers", [("novalue",), ("=x",), ("a=1", "")])
def test_headers_must_be_pairs(headers: tuple[str, ...]) -> None:
    """A header that is not name=value is refused with what would be right."""
    with pytest.raises(ConfigurationError, match="write name=value"):
        parse_headers(headers)


def test_settings_that_the_client_refuses_are_configuration_errors() -> None:
    """What librdkafka refuses at its making ends as bad configuration, with its words."""
    with pytest.raises(ConfigurationError, match=r"max\.in\.flight"):
        kafka_publisher(NOBODY, "t", ProducerSettings(max_in_flight=6))
