"""Batches: when they are due, how a refused one is taken apart, which offsets may be committed."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed import codec
from marketfeed.errors import Unavailable
from marketfeed.events import Record
from marketfeed.sinks import Refused
from marketfeed.store.batches import Batch, Offsets, due, isolate, rejected
from records import SourceRecord, trade

PARTITION = ("trades", 0)


def batch(rows: int, opened_at: float = 0.0) -> Batch:
    """Return a batch of good records."""
    made = Batch(PARTITION, opened_at)
    for number in range(rows):
        made.add(SourceRecord(codec.encode(trade(number)), number))
    return made


def test_a_full_batch_is_due_at_once() -> None:
    """500 rows of 500 are due without any delay, 499 are not."""
    assert due(batch(500), 0.0, rows=500, max_delay_s=2.0)
    assert not due(batch(499), 0.0, rows=500, max_delay_s=2.0)


def test_a_row_waits_no_longer_than_the_delay() -> None:
    """One row alone is due when the delay has passed since it came, and not before."""
    assert not due(batch(1, opened_at=10.0), 11.9, rows=500, max_delay_s=2.0)
    assert due(batch(1, opened_at=10.0), 12.0, rows=500, max_delay_s=2.0)


def test_an_empty_batch_is_never_due() -> None:
    """Nothing to store is nothing to commit."""
    assert not due(Batch(PARTITION, 0.0), 1e9, rows=1, max_delay_s=0.001)


def test_what_cannot_be_decoded_counts_as_a_row() -> None:
    """A batch of poison alone fills up, becomes due, and carries the offset after its last record."""
    made = Batch(PARTITION, 0.0)
    assert [made.add(SourceRecord(b"{", offset)) for offset in (7, 8)] == [1, 2]
    assert (made.records, made.next_offset, len(made)) == ([], 9, 2)
    assert [item.error_type for item in made.rejected] == ["not_json", "not_json"]


def test_a_record_without_a_value_is_poison() -> None:
    """A tombstone is no record: it is rejected, with its missing value untouched."""
    made = Batch(PARTITION, 0.0)
    made.add(SourceRecord(None, 0))
    assert made.rejected[0].source.value() is None


class Table:
    """A store that refuses some ids, and counts how often it was asked."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.rows: list[int] = []
        self.calls = 0

    def store(self, records: Sequence[Record]) -> None:
        self.calls += 1
        ids = [record.trade_id for record in records if not hasattr(record, "update_id")]
        if self.bad & set(ids):
            raise Refused(f"one of {len(ids)} rows is bad")
        self.rows += ids


@given(st.integers(min_value=1, max_value=300), st.data())
def test_every_good_row_is_stored_once_and_every_bad_one_named(rows: int, data: st.DataObject) -> None:
    """Whatever rows are bad: the others are stored, once each and in their order, and the bad ones come back."""
    bad = data.draw(st.sets(st.integers(min_value=0, max_value=rows - 1)))
    table = Table(bad)
    found = isolate([trade(number) for number in range(rows)], table.store)
    assert {index for index, _ in found} == bad
    assert table.rows == [number for number in range(rows) if number not in bad]


@given(st.integers(min_value=2, max_value=5000), st.data())
def test_one_bad_row_costs_a_logarithm_of_calls(rows: int, data: st.DataObject) -> None:
    """One bad row among n costs at most 2 * ceil(log2 n) calls more than the one that a good batch costs."""
    table = Table({data.draw(st.integers(min_value=0, max_value=rows - 1))})
    isolate([trade(number) for number in range(rows)], table.store)
    assert table.calls <= 1 + 2 * math.ceil(math.log2(rows))


def test_a_sink_that_is_away_is_no_bad_row() -> None:
    """Unavailable passes through: no row is blamed for a database that is down."""

    def store(_: Sequence[Record]) -> None:
        raise Unavailable

    with pytest.raises(Unavailable):
        isolate([trade(1)], store)


def test_nothing_to_store_asks_nobody() -> None:
    """A batch of poison alone does not touch the sink."""
    table = Table(set())
    assert isolate([], table.store) == []
    assert table.calls == 0


def test_a_refused_row_keeps_its_record() -> None:
    """What the sink refuses is quarantined as the record that it came from, beside what could not be decoded."""
    made = Batch(PARTITION, 0.0)
    for offset, value in enumerate([codec.encode(trade(1)), b"poison", codec.encode(trade(2))]):
        made.add(SourceRecord(value, offset))
    letters = rejected(made, [(1, Refused("too long"))])
    assert [(letter.error_type, letter.source.offset()) for letter in letters] == [
        ("not_json", 1),
        ("refused_by_sink", 2),
    ]


def test_offsets_are_taken_once() -> None:
    """What was taken for a commit is not taken again, unless something newer is stored."""
    offsets = Offsets()
    offsets.assign([PARTITION])
    offsets.stored(PARTITION, 10)
    assert offsets.take() == {PARTITION: 10}
    assert offsets.take() == {}
    offsets.stored(PARTITION, 12)
    assert offsets.take() == {PARTITION: 12}


def test_offsets_never_go_back() -> None:
    """A batch that reports late does not undo a newer one."""
    offsets = Offsets()
    offsets.assign([PARTITION])
    offsets.stored(PARTITION, 10)
    offsets.stored(PARTITION, 5)
    assert (offsets.take(), offsets.next_offset(PARTITION)) == ({PARTITION: 10}, 10)


def test_offsets_of_others_are_not_committed() -> None:
    """After a partition was revoked, what is stored of it late is its new owner's to commit."""
    offsets = Offsets()
    offsets.assign([PARTITION])
    offsets.revoke([PARTITION])
    offsets.stored(PARTITION, 10)
    assert (offsets.take(), offsets.assigned) == ({}, frozenset())


def test_a_failed_commit_is_tried_again() -> None:
    """Offsets whose commit failed are taken again; a newer one that came meanwhile wins."""
    offsets = Offsets()
    offsets.assign([PARTITION, ("trades", 1)])
    offsets.stored(PARTITION, 10)
    offsets.stored(("trades", 1), 3)
    taken = offsets.take()
    offsets.stored(PARTITION, 20)
    offsets.failed(taken)
    assert offsets.take() == {PARTITION: 20, ("trades", 1): 3}
