"""Lanes: order within a partition, partitions side by side."""

from threading import Thread

from hypothesis import given
from hypothesis import strategies as st

from marketfeed.quarantine import Rejected
from marketfeed.store.batches import Batch
from marketfeed.store.lanes import Lanes
from records import SourceRecord


def batch(partition: int, rows: int = 1) -> Batch:
    """Return a batch of one partition."""
    made = Batch(("trades", partition), 0.0)
    made.rejected = [Rejected(SourceRecord(b""), "not_json", "")] * rows
    return made


def test_a_lane_is_worked_on_by_one_writer_at_a_time() -> None:
    """The second batch of a partition is not given out before the first is completed; another partition's is."""
    lanes = Lanes()
    first, second, other = batch(0), batch(0), batch(1)
    for item in (first, second, other):
        lanes.put(item)
    assert lanes.take() is first
    assert lanes.take() is other
    lanes.complete(first)
    assert lanes.take() is second


def test_completed_batches_are_collected_once() -> None:
    """What a writer completed is reported once, and its rows no longer wait."""
    lanes = Lanes()
    item = batch(0, rows=3)
    lanes.put(item)
    assert (lanes.rows(("trades", 0)), lanes.total()) == (3, 3)
    taken = lanes.take()
    assert taken is item
    assert lanes.rows(("trades", 0)) == 3, "rows wait until they are completed"
    lanes.complete(item)
    assert (lanes.rows(("trades", 0)), lanes.total()) == (0, 0)
    assert lanes.collect() == [item]
    assert lanes.collect() == []


def test_closed_lanes_are_emptied_first() -> None:
    """After close, what was put is still given out; then writers are told to end."""
    lanes = Lanes()
    item = batch(0)
    lanes.put(item)
    lanes.close()
    assert lanes.take() is item
    assert lanes.take() is None


def test_a_waiting_writer_is_woken_by_close() -> None:
    """A writer that waits for work ends when the lanes are closed."""
    lanes = Lanes()
    seen: list[Batch | None] = []
    writer = Thread(target=lambda: seen.append(lanes.take()))
    writer.start()
    lanes.close()
    writer.join(5)
    assert seen == [None]


@given(st.lists(st.integers(min_value=0, max_value=3), max_size=60))
def test_two_writers_keep_each_partition_in_order(partitions: list[int]) -> None:
    """Whatever is put, two writers complete every batch once, and those of a partition in the order they were put."""
    lanes = Lanes()
    batches = [batch(partition) for partition in partitions]

    def write() -> None:
        while (item := lanes.take()) is not None:
            lanes.complete(item)

    writers = [Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for item in batches:
        lanes.put(item)
    lanes.close()
    for writer in writers:
        writer.join(5)
    completed = lanes.collect()
    for partition in set(partitions):
        expected = [id(item) for item in batches if item.partition[1] == partition]
        assert [id(item) for item in completed if item.partition[1] == partition] == expected
    assert lanes.total() == 0
