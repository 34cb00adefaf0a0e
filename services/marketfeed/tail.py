"""`marketfeed tail`: print a topic's records as they come, without a consumer group of its own and without commits."""

from __future__ import annotations

import select
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from threading import Event
from types import FrameType
from typing import BinaryIO

import click
from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaException,
    Message,
    TopicPartition,
)

from marketfeed.errors import ConfigurationError
from marketfeed.kafka import ANSWER_TIMEOUT_S, answered, consumer, consumer_config
from marketfeed.settings import KafkaSettings
from marketfeed.topics import kafka_from_environment

_BATCH = 500
_WAIT_S = 0.2
_GROUP = "marketfeed-tail"  # named because a consumer must have one; nothing is ever committed to it


@click.command("tail", short_help="Print a topic's records as they come.")
@click.argument("topic")
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest record instead of the next one.")
@click.option("-n", "--count", type=click.IntRange(min=1), help="End after this many records.")
@click.option("--key", help="Print only the records with this key, as BTCUSDT.")
@click.option("--timestamps", is_flag=True, help="Print each record's time in Kafka first.")
@click.option("--bootstrap-servers", help="host:port of the brokers [default: $KAFKA_BOOTSTRAP_SERVERS]")
def command(
    topic: str,
    *,
    from_beginning: bool,
    count: int | None,
    key: str | None,
    timestamps: bool,
    bootstrap_servers: str | None,
) -> None:
    """Print TOPIC's records, key TAB value, one a line, until Ctrl-C.

    No consumer group is used and nothing is committed. Security settings come from the KAFKA_* variables.

    \b
    Examples:
      marketfeed tail binance.trades --bootstrap-servers 127.0.0.1:9092
      marketfeed tail binance.trades --from-beginning -n 10 --key BTCUSDT
      marketfeed tail binance.trades | cut -f 2 | jq .price
    """  # noqa: D301 - click's \b keeps the lines of a block
    # A pipe that is closed (`| head`) and Ctrl-C end this as they end `cat`: at once, and without a word.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    stopped = _interruptible()
    kafka = kafka_from_environment(bootstrap_servers)
    reader = consumer(consumer_config(kafka, _GROUP, "latest"))
    try:
        reader.assign(_beginnings(reader, kafka, topic, from_beginning=from_beginning))
        for message in islice(_matching(reader, kafka, stopped, None if key is None else key.encode()), count):
            _print(message, sys.stdout.buffer, timestamps=timestamps)
    except KeyboardInterrupt:
        pass
    finally:
        sys.stdout.flush()
        reader.close()


def _beginnings(reader: Consumer, kafka: KafkaSettings, topic: str, *, from_beginning: bool) -> list[TopicPartition]:
    """Return where to begin in each partition; raises ConfigurationError for a topic that does not exist."""
    with answered(kafka):
        known = reader.list_topics(timeout=ANSWER_TIMEOUT_S).topics
        if topic not in known:
            names = ", ".join(sorted(name for name in known if not name.startswith("__")))
            raise ConfigurationError(f"topic {topic} does not exist (there are: {names or 'none'})")
        partitions = [TopicPartition(topic, number) for number in known[topic].partitions]
        for partition in partitions:
            first, end = reader.get_watermark_offsets(partition, timeout=ANSWER_TIMEOUT_S)
            partition.offset = first if from_beginning else end
    return partitions


def _interruptible() -> Event:
    """Return what Ctrl-C sets, beside raising KeyboardInterrupt: raised inside the Kafka client, that may get lost."""
    stopped = Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    return stopped


def _matching(reader: Consumer, kafka: KafkaSettings, stopped: Event, key: bytes | None) -> Iterator[Message]:
    """Yield records as they come, until stopped; raises Unavailable for what the broker refuses."""
    while not stopped.is_set():
        sys.stdout.flush()
        _end_with_the_reader(sys.stdout.fileno())
        for message in reader.consume(_BATCH, _WAIT_S):
            error = message.error()
            if error is not None and not error.retriable():
                with answered(kafka):
                    raise KafkaException(error)
            if error is None and (key is None or message.key() == key):
                yield message


def _end_with_the_reader(descriptor: int) -> None:
    """End as a write to a closed pipe would: on a quiet topic that write may never come."""
    pipe = select.poll()
    pipe.register(descriptor, 0)
    if any(event & select.POLLERR for _, event in pipe.poll(0)):
        signal.raise_signal(signal.SIGPIPE)


def _print(message: Message, out: BinaryIO, *, timestamps: bool) -> None:
    kind, milliseconds = message.timestamp()
    if timestamps and kind != TIMESTAMP_NOT_AVAILABLE:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
        out.write(moment.isoformat(timespec="milliseconds").encode() + b"\t")
    out.write(b"%b\t%b\n" % (message.key() or b"", message.value() or b""))
