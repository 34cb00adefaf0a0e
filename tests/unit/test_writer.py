"""A writer between its lanes and a sink, with a sink that is away, refuses, or breaks."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

import pytest
from prometheus_client import CollectorRegistry

from helpers import wait_until
from marketfeed import codec
from marketfeed.errors import Unavailable
from marketfeed.events import Record
from marketfeed.metrics import ConsumerMetrics
from marketfeed.quarantine import Rejected
from marketfeed.settings import ConsumerSettings, KafkaSettings, Secret
from marketfeed.sinks import Refused, Stored
from marketfeed.store import writer
from marketfeed.store.batches import Batch
from marketfeed.store.dead_letters import DeadLetters
from marketfeed.store.lanes import Lanes
from marketfeed.store.writer import Writer
from records import SourceRecord, trade

SETTINGS = ConsumerSettings(
    feed="spot",
    sink="pg",
    sink_type="postgresql",
    topics=("trades",),
    group="g",
    dsn=Secret("postgresql://nowhere"),
    dead_letter_topic="dlq",
    kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"),
)


class FakeSink:
    """A sink that fails as often as it is told, and refuses some ids."""

    def __init__(self, failures: Sequence[Exception] = (), bad: Sequence[int] = ()) -> None:
        self.failures = list(failures)
        self.bad = set(bad)
        self.ids: list[int] = []

    def store(self, records: Sequence[Record]) -> Stored:
        if self.failures:
            raise self.failures.pop(0)
        ids = [record.trade_id for record in records if not hasattr(record, "update_id")]
        if self.bad.intersection(ids):
            raise Refused("bad row")
        self.ids += ids
        return Stored(new={"trades": len(ids)}, duplicate={})

    def close(self) -> None:
        pass


class FakeLetters(DeadLetters):
    """A dead-letter topic that is away as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__(SETTINGS)
        self.failures = failures
        self.sent: list[Rejected] = []

    def send(self, letters: Sequence[Rejected], abandon: Event) -> None:
        assert not abandon.is_set()
        if self.failures:
            self.failures -= 1
            raise Unavailable("dead-letter topic dlq: away")
        self.sent += letters


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(writer, "_BACKOFF_MAX_S", 0.001)


def started(lanes: Lanes, sink: FakeSink, letters: DeadLetters) -> Writer:
    """Return a writer at work."""
    made = Writer(
        "writer",
        settings=SETTINGS,
        lanes=lanes,
        sink=sink,
        dead_letters=letters,
        metrics=ConsumerMetrics(CollectorRegistry()),
    )
    made.start()
    return made


def batch(*values: bytes) -> Batch:
    """Return a batch of these records."""
    made = Batch(("trades", 0), 0.0)
    for offset, value in enumerate(values):
        made.add(SourceRecord(value, offset))
    return made


def good(*numbers: int) -> list[bytes]:
    """Return prints as they travel."""
    return [codec.encode(trade(number)) for number in numbers]


def collected(lanes: Lanes) -> list[Batch]:
    """Wait for a batch to be completed."""
    return wait_until(lanes.collect, 5, "a completed batch")


def test_a_sink_that_comes_back_gets_the_batch() -> None:
    """However often the sink was away, the batch is stored once it is back, and nothing is wrong any more."""
    lanes, sink = Lanes(), FakeSink(failures=[Unavailable("database: gone")] * 3)
    made = started(lanes, sink, FakeLetters())
    lanes.put(batch(*good(1, 2)))
    collected(lanes)
    assert (sink.ids, made.problem, made.errors, made.rows_new) == ([1, 2], None, 3, 2)
    lanes.close()
    made.finish(5)


def test_a_bad_row_goes_to_quarantine_and_the_others_are_stored() -> None:
    """One refused row and one undecodable record: two dead letters of their types, and every other row stored."""
    lanes, sink, letters = Lanes(), FakeSink(bad=[3]), FakeLetters()
    made = started(lanes, sink, letters)
    lanes.put(batch(*good(1, 2, 3, 4), b"poison"))
    collected(lanes)
    assert sink.ids == [1, 2, 4]
    assert sorted(letter.error_type for letter in letters.sent) == ["not_json", "refused_by_sink"]
    assert made.letters == 2
    lanes.close()
    made.finish(5)


def test_a_batch_is_not_complete_before_its_dead_letters_are() -> None:
    """While the dead-letter topic is away, the batch is not reported, so that its offsets are not committed."""
    lanes, letters = Lanes(), FakeLetters(failures=1_000_000)
    made = started(lanes, FakeSink(), letters)
    lanes.put(batch(b"poison"))
    wait_until(lambda: made.problem, 5, "the problem to show")
    assert lanes.collect() == []
    assert made.problem == "dead-letter topic dlq: away"
    letters.failures = 0
    assert [item.next_offset for item in collected(lanes)] == [1]
    lanes.close()
    made.finish(5)


def test_the_end_does_not_wait_for_a_sink_that_is_away() -> None:
    """After its time is up, a writer leaves what it cannot store: it is not reported, and is read again elsewhere."""
    lanes = Lanes()
    made = started(lanes, FakeSink(failures=[Unavailable("database: gone")] * 1_000_000), FakeLetters())
    lanes.put(batch(*good(1)))
    wait_until(lambda: made.problem, 5, "the problem to show")
    lanes.close()
    made.finish(0.01)
    assert (lanes.collect(), lanes.total()) == ([], 1)


def test_a_fault_of_ours_is_carried_out() -> None:
    """An error that is neither a bad row nor a sink that is away ends the writer, and is kept for who must know."""
    lanes = Lanes()
    made = started(lanes, FakeSink(failures=[ZeroDivisionError()]), FakeLetters())
    lanes.put(batch(*good(1)))
    failure = wait_until(lambda: made.failure, 5, "the failure to show")
    assert isinstance(failure, ZeroDivisionError)
    made.finish(5)
