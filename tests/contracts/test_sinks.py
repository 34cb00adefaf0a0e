"""What every sink must keep, whatever it is made of; run against each of them on the real thing.

A sink comes into this suite by a fixture that makes it over an empty store and reads back what it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketfeed.database import Pool
from marketfeed.errors import Unavailable
from marketfeed.events import AggTrade, BookTicker, Record, Trade
from marketfeed.ledger import Entry
from marketfeed.migrate import migrate
from marketfeed.proof import Proof
from marketfeed.settings import Secret
from marketfeed.sinks import Refused, Sink
from marketfeed.sinks.postgres import DUPLICATE_WINDOW, PostgresSink
from marketfeed.verify import prove
from records import START_US, agg_trade, book_ticker, trade

pytestmark = pytest.mark.postgres

_ONE_DATABASE = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""Examples share the fixture's database, and empty it first."""

_WINDOW_US = int(DUPLICATE_WINDOW.total_seconds()) * 1_000_000


@dataclass(frozen=True)
class Store:
    """A sink and ways to look at what it holds."""

    dsn: Secret
    sink: Sink
    other: Sink
    """A second sink over the same store, as another writer has it."""

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self.dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def clear(self) -> None:
        self.query("TRUNCATE trades, book_ticker, ledger")

    def rows(self) -> list[Record]:
        """Return everything that is stored, as records, in the order of ids."""
        trades = self.query(
            "SELECT exchange, symbol, channel, trade_id, price::text, quantity::text, side, first_trade_id, "
            "last_trade_id, (extract(epoch FROM event_time) * 1000000)::bigint, "
            "(extract(epoch FROM ingestion_time) * 1000000)::bigint, source FROM trades "
            "ORDER BY trade_id, symbol, channel"
        )
        books = self.query(
            "SELECT exchange, symbol, update_id, bid_price::text, bid_quantity::text, ask_price::text, "
            "ask_quantity::text, (extract(epoch FROM event_time) * 1000000)::bigint, "
            "(extract(epoch FROM ingestion_time) * 1000000)::bigint, source FROM book_ticker "
            "ORDER BY update_id, symbol, event_time"
        )
        return [*(_trade(*row) for row in trades), *(BookTicker(*row) for row in books)]

    def proof(self) -> Proof:
        return prove(self.dsn)


def _trade(exchange: str, symbol: str, channel: str, *rest: Any) -> Trade | AggTrade:
    number, price, quantity, side, first, last, event_time, ingestion_time, source = rest
    if channel == "aggTrade":
        return AggTrade(
            exchange, symbol, number, price, quantity, side, first, last, event_time, ingestion_time, source
        )
    assert (first, last) == (None, None)
    return Trade(exchange, symbol, number, price, quantity, side, event_time, ingestion_time, source)


@pytest.fixture
def store(database: Secret) -> Iterator[Store]:
    """Return PostgreSQL's sink over an empty database."""
    migrate(database)
    pool = Pool(database, "test", 2, statement_timeout_s=10)
    yield Store(database, PostgresSink(pool), PostgresSink(pool))
    pool.close()


def _in_order(records: Sequence[Record]) -> list[Record]:
    def key(record: Record) -> tuple[bool, int, str, str]:
        is_book = isinstance(record, BookTicker)
        number = record.update_id if isinstance(record, BookTicker) else record.trade_id
        return is_book, number, record.symbol, record.channel

    return sorted(records, key=key)


MIXED: list[Record] = [
    record
    for number in range(20)
    for make in (trade, agg_trade, book_ticker)
    for record in (make(number, "BTCUSDT", number * 5_000_000), make(number, "ETHUSDT", number * 5_000_000))
]
"""Three channels of two symbols over two minutes; trade and aggTrade with the same ids."""


def test_what_is_stored_is_what_was_given(store: Store) -> None:
    """Every field of every record comes back as it went in: digits with their zeros, times to the microsecond."""
    stored = store.sink.store(MIXED)
    assert store.rows() == _in_order(MIXED)
    assert stored.new == {"trades": 80, "book_ticker": 40}
    assert not any(stored.duplicate.values())


@pytest.mark.parametrize(
    "digits", ["0", "0.00000000", "1.10", "100", "39432.48000000", "123456789012345678901234567890.123456789012345678"]
)
def test_digits_survive(store: Store, digits: str) -> None:
    """Any number a venue may print is read back digit by digit."""
    store.sink.store([msgspec.structs.replace(trade(1), price=digits, quantity=digits)])
    assert store.query("SELECT price::text, quantity::text FROM trades") == [(digits, digits)]


def test_storing_again_changes_nothing(store: Store) -> None:
    """The same batch again: no row, no count in the ledger, and the answer calls all of them duplicates."""
    store.sink.store(MIXED)
    before = store.rows(), store.query("SELECT * FROM ledger ORDER BY 1, 2, 3, 4")
    stored = store.sink.store(MIXED)
    assert (store.rows(), store.query("SELECT * FROM ledger ORDER BY 1, 2, 3, 4")) == before
    assert (sum(stored.new.values()), stored.duplicate) == (0, {"trades": 80, "book_ticker": 40})


@_ONE_DATABASE
@given(data=st.data())
def test_any_replay_in_any_split(store: Store, data: st.DataObject) -> None:
    """However records are cut, repeated and given to writers, each is stored once and the ledger equals a recount."""
    store.clear()
    chosen = data.draw(st.lists(st.sampled_from(MIXED), min_size=1, max_size=80))
    cuts = sorted(data.draw(st.lists(st.integers(min_value=0, max_value=len(chosen)), max_size=5)))
    new = duplicate = 0
    for start, end in zip([0, *cuts], [*cuts, len(chosen)], strict=True):
        if start == end:
            continue
        stored = data.draw(st.sampled_from([store.sink, store.other])).store(chosen[start:end])
        new += sum(stored.new.values())
        duplicate += sum(stored.duplicate.values())
    distinct = {msgspec.json.encode(record): record for record in chosen}
    assert store.rows() == _in_order([*distinct.values()])
    assert (new, duplicate) == (len(distinct), len(chosen) - len(distinct))
    assert store.proof().disagreements == ()


def test_the_ledger_counts_repairs(store: Store) -> None:
    """Backfilled rows are counted as repaired once, on both ways in; a row that the stream brought first is none."""
    store.sink.store([trade(1), trade(2, source="backfill")])
    store.sink.store([trade(1, source="backfill"), trade(2, source="backfill"), trade(3, source="backfill")])
    assert store.query("SELECT stored, repaired, first_id, last_id, grade FROM ledger") == [(3, 2, 1, 3, "proven")]


def test_trade_and_aggregate_ids_do_not_meet(store: Store) -> None:
    """The same number on trade and aggTrade, of one symbol at one time, is two rows."""
    store.sink.store([trade(7), agg_trade(7)])
    assert store.query("SELECT channel FROM trades ORDER BY channel") == [("aggTrade",), ("trade",)]


def test_two_venues_do_not_meet(store: Store) -> None:
    """The same number, symbol and time of two venues is two rows."""
    store.sink.store([trade(7), msgspec.structs.replace(trade(7), exchange="binance_us")])
    assert store.query("SELECT count(*) FROM trades") == [(2,)]


@pytest.mark.parametrize("together", [True, False])
def test_one_update_received_twice_is_one_row(store: Store, *, together: bool) -> None:
    """Two receipts of one book ticker within the window are one row, the first one, in one batch or in two."""
    first, again = book_ticker(5, after_us=0), book_ticker(5, after_us=_WINDOW_US)
    if together:
        store.sink.store([first, again])
    else:
        store.sink.store([first])
        store.other.store([again, book_ticker(6, after_us=_WINDOW_US)])
    kept = [record for record in store.rows() if isinstance(record, BookTicker) and record.update_id == 5]
    assert kept == [first]
    assert store.proof().disagreements == ()


def test_beyond_the_window_an_update_is_another_one(store: Store) -> None:
    """The window is bounded, as is the search: a number that comes back later is stored as a new row."""
    store.sink.store([book_ticker(5, after_us=0)])
    store.sink.store([book_ticker(5, after_us=_WINDOW_US + 1)])
    assert store.query("SELECT count(*) FROM book_ticker") == [(2,)]


def test_an_older_update_that_was_never_stored_is_stored(store: Store) -> None:
    """Below the newest id is not the same as stored: a second leg's late update is not lost."""
    store.sink.store([book_ticker(4), book_ticker(9, after_us=10)])
    store.sink.store([book_ticker(6, after_us=20), book_ticker(9, after_us=25)])
    assert store.query("SELECT update_id FROM book_ticker ORDER BY 1") == [(4,), (6,), (9,)]


def test_days_are_made_when_they_come(store: Store) -> None:
    """Rows of any day find their place, and the last microsecond of a day is that day's."""
    day_us = 86_400_000_000
    times = [-1, 0, day_us - 1, day_us, -300 * day_us]
    store.sink.store([trade(number, after_us=after_us) for number, after_us in enumerate(times)])
    assert {record.event_time - START_US for record in store.rows()} == set(times)


def test_a_day_that_was_dropped_is_made_again(store: Store) -> None:
    """When retention drops a day that the sink has seen, late rows wait for one more try and are stored."""
    store.sink.store([trade(1)])
    store.query("DROP TABLE trades_20260101")
    with pytest.raises(Unavailable):
        store.sink.store([trade(2)])
    store.sink.store([trade(2)])
    assert [record.trade_id for record in store.rows() if isinstance(record, Trade)] == [2]


@pytest.mark.parametrize(
    "bad",
    [
        msgspec.structs.replace(trade(2), symbol="BTC\0USDT"),
        msgspec.structs.replace(trade(2), price="1" * 140_000),
        msgspec.structs.replace(trade(2), symbol="".join(chr(0x4E00 + number % 20_000) for number in range(9_000))),
    ],
    ids=["nul", "more digits than a number can have", "too long for the index"],
)
def test_a_row_that_cannot_be_stored_is_refused(store: Store, bad: Trade) -> None:
    """Refused, with nothing of its batch stored; the batch without it is stored afterwards."""
    with pytest.raises(Refused):
        store.sink.store([trade(1), bad, trade(3)])
    assert store.rows() == []
    store.sink.store([trade(1), trade(3)])
    assert [record.trade_id for record in store.rows() if isinstance(record, Trade)] == [1, 3]


@_ONE_DATABASE
@given(name=st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_name_is_stored_as_it_is(store: Store, name: str) -> None:
    """Quotes, tabs, newlines, backslashes, any script: a symbol reads back as the same text, on both ways in."""
    store.clear()
    record = msgspec.structs.replace(trade(1), symbol=name)
    store.sink.store([record, msgspec.structs.replace(book_ticker(1), symbol=name)])
    store.sink.store([record, msgspec.structs.replace(trade(2), symbol=name)])
    assert store.query("SELECT symbol FROM trades UNION ALL SELECT symbol FROM book_ticker") == [(name,)] * 3
    assert store.proof().disagreements == ()


def test_a_database_that_restarts_is_found_again(store: Store) -> None:
    """A connection that the server cut is Unavailable once, and replaced."""
    store.sink.store([trade(1)])
    store.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test' AND pid <> "
        "pg_backend_pid() AND datname = current_database()"
    )
    _until_available(lambda: store.sink.store([trade(2)]))
    assert len(store.rows()) == 2


def _until_available(work: Callable[[], object]) -> None:
    """Do the work, as a writer does; each pooled connection may be found cut once."""
    for _ in range(3):
        try:
            work()
        except Unavailable:
            continue
        return
    pytest.fail("The sink did not reconnect")


def test_the_ledger_and_the_rows_are_one_transaction(store: Store) -> None:
    """When the ledger cannot be written, the rows are not there either."""
    store.sink.store([trade(1)])
    store.query("ALTER TABLE ledger ADD CONSTRAINT full_ledger CHECK (stored < 2) NOT VALID")
    with pytest.raises((Refused, Unavailable)):
        store.sink.store([trade(2)])
    assert [record.trade_id for record in store.rows() if isinstance(record, Trade)] == [1]


def test_entries_agree_on_both_ways_in(store: Store) -> None:
    """A batch that is new and the same batch told apart by the database leave the same ledger."""
    repaired = [msgspec.structs.replace(record, source="backfill") for record in MIXED[::7]]
    batch: list[Record] = [*(record for index, record in enumerate(MIXED) if index % 7), *repaired]
    store.sink.store(batch)
    fresh = _ledger(store)
    store.clear()
    store.sink.store(batch[:1])
    store.sink.store(batch)
    assert _ledger(store) == fresh


def _ledger(store: Store) -> list[Entry]:
    rows = store.query(
        "SELECT exchange, symbol, channel, (extract(epoch FROM minute) * 1000000)::bigint, stored, repaired, first_id, "
        "last_id FROM ledger ORDER BY 1, 2, 3, 4"
    )
    return [Entry(*row) for row in rows]
