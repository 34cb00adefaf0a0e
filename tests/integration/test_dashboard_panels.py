"""Every panel's SQL, every variable's and every alert rule's, on the real schema with data in it.

Records come by the sink that consumers use, so that tables and ledger are as they are in life; windows are summed up
here from the records, and flagged by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg2
import pytest
from psycopg2.extras import RealDictCursor

from grafana import DASHBOARDS, View, alert_rules, expand, firing, load, panels, targets
from marketfeed.analytics.store import MetricsStore
from marketfeed.analytics.thresholds import Thresholds
from marketfeed.database import Pool
from marketfeed.events import Record
from marketfeed.local.postgres import DATABASE, EmbeddedPostgres
from marketfeed.migrate import migrate
from marketfeed.settings import Secret
from marketfeed.sinks.postgres import PostgresSink
from metric_windows import print_at, quote_at, spread_windows, trade_windows
from records import START_US, agg_trade, book_ticker, trade

pytestmark = pytest.mark.postgres

SQL = "grafana-postgresql-datasource"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
MINUTES = 40
PER_MINUTE = 4
GAP = 20
"""The minute, counted from the first, in which two prints of BTCUSDT are missing."""

_SUM_UP = """
INSERT INTO trade_metrics (exchange, symbol, window_start, window_end, channel, record_count, trade_count, first_id,
                           last_id, open, high, low, close, volume, quote_volume, taker_buy_volume, price_sum,
                           price_square_sum, volume_baseline, volatility_threshold, volume_spike_threshold, complete,
                           updated_at)
SELECT exchange, symbol, date_trunc('minute', event_time), date_trunc('minute', event_time) + INTERVAL '1 minute',
       channel, count(*), count(*), min(trade_id), max(trade_id),
       (array_agg(price ORDER BY trade_id))[1], max(price), min(price), (array_agg(price ORDER BY trade_id DESC))[1],
       sum(quantity), sum(price * quantity), coalesce(sum(quantity) FILTER (WHERE side = 'buy'), 0),
       sum(price), sum(price * price), sum(quantity), 0.005, 3, true,
       date_trunc('minute', event_time) + INTERVAL '75 seconds'
FROM trades WHERE channel = 'trade' GROUP BY 1, 2, 3, 5;

INSERT INTO spread_metrics (exchange, symbol, window_start, window_end, quote_updates, first_id, last_id, spread_sum,
                            min_spread, max_spread, spread_bps_sum, min_spread_bps, max_spread_bps, spread_threshold,
                            complete, updated_at)
SELECT exchange, symbol, date_trunc('minute', event_time), date_trunc('minute', event_time) + INTERVAL '30 seconds',
       count(*), min(update_id), max(update_id), sum(ask_price - bid_price), min(ask_price - bid_price),
       max(ask_price - bid_price), sum(0.02536), min(0.02536), max(0.02536), 3, NULL,
       date_trunc('minute', event_time) + INTERVAL '45 seconds'
FROM book_ticker GROUP BY 1, 2, 3;
"""

_FLAG = """
UPDATE trade_metrics
SET volatility_alert = true, volume_spike = true, corrected_at = now(), volume_baseline = volume / 4
WHERE symbol = 'BTCUSDT' AND window_start = %(at)s;
UPDATE spread_metrics SET spread_warning = true, corrected_at = now()
WHERE symbol = 'BTCUSDT' AND window_start = %(at)s;
INSERT INTO alerts (exchange, symbol, kind, window_start, window_end, value, threshold, evidence)
SELECT 'binance', 'BTCUSDT', kind, %(at)s, %(at)s + INTERVAL '1 minute', 4, 3, '{"volume": "4"}'
FROM unnest('{volatility,volume_spike,spread}'::text[]) AS kind;
INSERT INTO late_minutes (exchange, symbol, channel, minute) VALUES ('binance', 'BTCUSDT', 'trade', %(at)s);
"""


@dataclass(frozen=True)
class Filled:
    """A database with a feed's last forty minutes in it, and how somebody looks at it."""

    dsn: str
    now: datetime

    @property
    def view(self) -> View:
        chosen = {"exchange": ["binance"], "symbol": list(SYMBOLS)}
        return View(self.now - timedelta(minutes=MINUTES + 5), self.now, chosen)

    def query(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        connect = psycopg2.connect(self.dsn, cursor_factory=RealDictCursor)
        with closing(connect) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def firing(self, title: str) -> dict[tuple[str, ...], bool]:
        """Return of each series of a rule whether it holds now."""
        rule = alert_rules()[title]
        return firing(rule, self.query(rule["data"][0]["model"]["rawSql"]))


@pytest.fixture(scope="module")
def server_database(postgres_server: EmbeddedPostgres) -> Iterator[Secret]:
    """Return the DSN of a database that the tests of this file look at, and none changes."""
    with closing(psycopg2.connect(postgres_server.dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE dashboards")
            yield Secret(postgres_server.dsn.removesuffix(DATABASE) + "dashboards")
            cursor.execute("DROP DATABASE dashboards WITH (FORCE)")


@pytest.fixture(scope="module")
def filled(server_database: Secret) -> Filled:
    """Return a database with records, ledger, windows, flags and alerts up to now."""
    return _filled(server_database, missing=(1, 2))


@pytest.fixture
def whole(database: Secret) -> Filled:
    """Return the same for one test, which may change it: without a gap, and without a flag."""
    return _filled(database, missing=(), flagged=False)


def _filled(dsn: Secret, *, missing: Sequence[int], flagged: bool = True) -> Filled:
    migrate(dsn)
    now = datetime.now(UTC)
    begin = now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES)
    filled = Filled(dsn, now)
    pool = Pool(dsn, "test", 1, statement_timeout_s=10)
    sink = PostgresSink(pool)
    lacking = {GAP * PER_MINUTE + each for each in missing}
    sink.store([record for record in _records(begin) if not _is_lacking(record, lacking)])
    sink.close()
    pool.close()
    filled.query(_SUM_UP)
    if flagged:
        filled.query(_FLAG, at=begin + timedelta(minutes=MINUTES - 1))
    return filled


def _is_lacking(record: Record, lacking: set[int]) -> bool:
    return record.symbol == "BTCUSDT" and record.channel == "trade" and getattr(record, "trade_id", -1) in lacking


def _records(begin: datetime) -> list[Record]:
    """Return four records per minute of every stream, which end with the minute that is over."""
    begin_us = round(begin.timestamp() * 1_000_000)
    spacing_us = 60_000_000 // PER_MINUTE
    made = []
    for number in range(MINUTES * PER_MINUTE):
        at_us = begin_us + number * spacing_us
        for symbol in SYMBOLS:
            source = "backfill" if number % 10 == 0 else "stream"
            new: Any = trade(number, symbol, at_us - START_US, source)  # type: ignore[arg-type]
            price = f"{39400 + number % PER_MINUTE * 10}.00"
            new = msgspec.structs.replace(new, price=price)
            made += [_received(new, at_us), _received(agg_trade(number, symbol, at_us - START_US), at_us)]
            made.append(book_ticker(number, symbol, at_us - START_US))
    return made


def _received(record: Any, at_us: int) -> Record:
    changed: Record = msgspec.structs.replace(record, ingestion_time=at_us + 40_000)
    return changed


@pytest.mark.parametrize(("name", "target"), list(targets(SQL)), ids=lambda each: each if isinstance(each, str) else "")
def test_a_panels_query_returns_rows(name: str, target: dict[str, Any], filled: Filled) -> None:
    """Each query runs as Grafana sends it, and returns rows; a series has a time, and a number at least once."""
    rows = filled.query(expand(target["rawSql"], filled.view))
    assert rows, name
    if target["format"] == "time_series":
        assert "time" in rows[0], name
        numbers = [value for row in rows for key, value in row.items() if key not in ("time", "metric")]
        assert any(value is not None and float(value) == float(value) for value in numbers), name


def test_panels_are_empty_and_not_broken_before_the_first_record(database: Secret) -> None:
    """Over an empty schema, with nothing to choose from, no query of a panel, a variable or a rule fails."""
    migrate(database)
    now = datetime.now(UTC)
    view = View(now - timedelta(minutes=30), now, {"exchange": [], "symbol": []})
    empty = Filled(database, now)
    for name, target in targets(SQL):
        rows = empty.query(expand(target["rawSql"], view))
        assert len(rows) <= 1, name
    for variable in load("pipeline")["templating"]["list"][:2]:
        assert empty.query(expand(variable["query"], view)) == []
    assert all(empty.firing(title) == {} for title in alert_rules())


@pytest.mark.parametrize(("variable", "expected"), [("exchange", ["binance"]), ("symbol", list(SYMBOLS))])
def test_variables_offer_what_the_ledger_has(variable: str, expected: list[str], filled: Filled) -> None:
    """The lists of exchanges and symbols are those of the tables."""
    listed = {each["name"]: each["query"] for each in load("market-overview")["templating"]["list"]}
    assert [row[variable] for row in filled.query(expand(listed[variable], filled.view))] == expected


def test_choosing_one_symbol_leaves_the_others_out(filled: Filled) -> None:
    """What a panel shows is of the symbols that are chosen."""
    view = View(filled.view.since, filled.view.until, {"exchange": ["binance"], "symbol": ["ETHUSDT"]})
    for name, target in targets(SQL):
        said = json.dumps(filled.query(expand(target["rawSql"], view)), default=str)
        assert "BTCUSDT" not in said, name


def _panel(dashboard: str, title: str, letter: str = "A") -> str:
    panel = next(each for each in panels(load(dashboard)) if each["title"] == title)
    sql: str = next(each["rawSql"] for each in panel["targets"] if each["refId"] == letter)
    return sql


def test_the_grid_shows_the_gap_and_nothing_else(filled: Filled) -> None:
    """Two ids that are missing make their minute red by 2; all others are proven, and book tickers are grey."""
    rows = filled.query(expand(_panel("completeness", "Minutes of each stream"), filled.view))
    values = {(row["metric"], float(row["time"])): int(row["missing"]) for row in rows}
    assert len(values) == len(SYMBOLS) * 3 * MINUTES
    assert [(metric, value) for (metric, _), value in values.items() if value > 0] == [("binance BTCUSDT trade", 2)]
    assert {metric for (metric, _), value in values.items() if value < 0} == {
        f"binance {symbol} bookTicker" for symbol in SYMBOLS
    }
    (gap,) = filled.query(expand(_panel("completeness", "Gaps"), filled.view))
    assert (gap["symbol"], gap["channel"], gap["missing"], gap["stored"]) == ("BTCUSDT", "trade", 2, 2)


def test_a_gap_between_minutes_is_counted(whole: Filled) -> None:
    """A whole minute that is missing shows in the one after it; prints that changed places at a minute's end do not."""
    whole.query(
        "DELETE FROM ledger WHERE symbol = 'ETHUSDT' AND channel = 'trade' AND minute = "
        "(SELECT minute FROM ledger WHERE symbol = 'ETHUSDT' AND channel = 'trade' ORDER BY minute OFFSET 9 LIMIT 1)"
    )
    swapped = (
        "(SELECT minute FROM ledger WHERE symbol = 'BTCUSDT' AND channel = 'trade' ORDER BY minute OFFSET {} LIMIT 1)"
    )
    for offset, column, step in ((9, "last_id", "+ 1"), (10, "first_id", "- 1")):
        whole.query(
            f"UPDATE ledger SET {column} = {column} {step} WHERE symbol = 'BTCUSDT' AND channel = 'trade' "
            f"AND minute = {swapped.format(offset)}"
        )
    rows = whole.query(expand(_panel("completeness", "Gaps"), whole.view))
    assert [(row["symbol"], row["missing"]) for row in rows] == [("ETHUSDT", PER_MINUTE)]


def test_prices_are_those_of_the_records(filled: Filled) -> None:
    """The mean price of a minute, the last one, the change and the takers' share are what its four prints make."""
    vwap = filled.query(expand(_panel("market-overview", "Price"), filled.view))
    assert {float(row["vwap"]) for row in vwap if "ETHUSDT" in row["metric"]} == {39415.0}
    last = filled.query(expand(_panel("market-overview", "Last prices"), filled.view))
    assert {row["symbol"] for row in last} == set(SYMBOLS)
    assert {(float(row["last_price"]), float(row["taker_buy_share"])) for row in last} == {(39430.0, 1.0)}
    assert {round(float(row["change"]), 9) for row in last} == {round(30 / 39400, 9)}
    newest = filled.query(expand(_panel("market-overview", "Newest prints"), filled.view))
    assert len(newest) == 50
    assert newest == sorted(newest, key=lambda row: row["event_time"], reverse=True)


def test_latency_is_from_the_venue_to_the_receipt(filled: Filled) -> None:
    """Prints that were received 40 ms after their match show 40 ms, in every minute."""
    rows = filled.query(expand(_panel("pipeline", "From the venue to the ingestor"), filled.view))
    assert {round(float(row["half"]), 6) for row in rows} == {0.04}
    assert len(rows) >= MINUTES


def test_raw_records_are_read_by_index_alone(filled: Filled) -> None:
    """No panel, variable or rule reads through all trades or book tickers: with a billion rows, none would return."""
    texts = {name: expand(target["rawSql"], filled.view) for name, target in targets(SQL)}
    texts |= {title: rule["data"][0]["model"]["rawSql"] for title, rule in alert_rules().items()}
    raw = {name: text for name, text in texts.items() if "FROM trades" in text or "FROM book_ticker" in text}
    assert {name.split("/")[1] for name in raw} == {"Newest prints", "From the venue to the ingestor"}
    for name, text in raw.items():
        lines = [row["QUERY PLAN"] for row in filled.query(f"SET enable_seqscan = off; EXPLAIN {text}")]
        assert not any("Seq Scan on trades" in line for line in lines), name
        assert any("Limit" in line for line in lines), name


FLAGS = ("VolatilityAlert", "SpreadWarning", "VolumeSpike")


@pytest.mark.parametrize("title", FLAGS)
def test_a_flag_fires_for_its_symbol_alone(title: str, filled: Filled) -> None:
    """A window that was flagged in the last five minutes makes the rule hold for its symbol, and for no other."""
    assert filled.firing(title) == {("binance", "BTCUSDT"): True, ("binance", "ETHUSDT"): False}


@pytest.mark.parametrize("title", FLAGS)
def test_without_a_flag_a_rule_is_quiet(title: str, whole: Filled) -> None:
    """Windows that nobody flagged, and a flag of ten minutes ago, are no alarm."""
    whole.query(_FLAG, at=whole.now.replace(second=0, microsecond=0) - timedelta(minutes=10))
    assert set(whole.firing(title).values()) == {False}
    assert len(whole.firing(title)) == len(SYMBOLS)


def test_what_the_streaming_job_flags_fires(database: Secret) -> None:
    """Windows that the job's own store judges set off the rules: one of ten times the volume, at prices far apart."""
    migrate(database)
    begin = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=8)
    after_s = begin.timestamp() - START_US / 1_000_000
    calm = [print_at(number, after_s + number * 30) for number in range(14)]
    wild = [print_at(14, after_s + 420, "90", "10"), print_at(15, after_s + 450, "110", "10")]
    tight = [quote_at(number, after_s + 420 + number, "100", "100.01") for number in range(9)]
    with closing(
        MetricsStore(
            database, exchange="binance", trade_channel="trade", trade_window_ms=60_000, spread_window_ms=30_000
        )
    ) as store:
        store.write_trades(trade_windows([*calm, *wild]), 1, Thresholds())
        store.write_spreads(spread_windows([*tight, quote_at(9, after_s + 429, "100", "101")]), 1, Thresholds())
    filled = Filled(database, datetime.now(UTC))
    assert {title: filled.firing(title) for title in FLAGS} == {
        title: {("binance", "BTCUSDT"): True} for title in FLAGS
    }
    view = View(filled.now - timedelta(minutes=30), filled.now, {"exchange": ["binance"], "symbol": ["BTCUSDT"]})
    listed = filled.query(expand(_panel("risk-monitor", "Alerts"), view))
    assert {row["kind"] for row in listed} == {"volatility", "volume_spike", "spread"}


def test_missing_ids_fire_until_they_are_repaired(filled: Filled, whole: Filled) -> None:
    """A gap of the last hour makes the rule hold for its stream; a feed without one is quiet."""
    found = filled.firing("FeedIncomplete")
    assert [labels for labels, holds in found.items() if holds] == [("binance", "BTCUSDT", "trade")]
    quiet = whole.firing("FeedIncomplete")
    assert set(quiet.values()) == {False}
    assert {channel for _, _, channel in quiet} == {"trade", "aggTrade"}


def test_a_gap_of_this_minute_is_left_to_the_repair(whole: Filled) -> None:
    """What is missing since less than five minutes may still be repaired, and is no alarm."""
    whole.query(
        "UPDATE ledger SET stored = stored - 1 WHERE channel = 'trade' AND minute > now() - INTERVAL '4 minutes'"
    )
    assert set(whole.firing("FeedIncomplete").values()) == {False}


def test_a_symbol_that_stopped_fires(whole: Filled) -> None:
    """Nothing stored for more than five minutes is an alarm for that symbol; the one that goes on is quiet."""
    assert set(whole.firing("FeedStale").values()) == {False}
    whole.query("DELETE FROM ledger WHERE symbol = 'ETHUSDT' AND minute > now() - INTERVAL '10 minutes'")
    assert whole.firing("FeedStale") == {("binance", "BTCUSDT"): False, ("binance", "ETHUSDT"): True}


def test_a_quiet_symbol_and_a_forgotten_one_are_not_stale(whole: Filled) -> None:
    """A symbol that trades every tenth minute, or was last seen a day ago, is no alarm."""
    whole.query(
        "DELETE FROM ledger WHERE symbol = 'ETHUSDT' "
        "AND (minute > now() - INTERVAL '10 minutes' OR extract(minute FROM minute)::int % 10 <> 0)"
    )
    whole.query("UPDATE ledger SET minute = minute - INTERVAL '2 days' WHERE symbol = 'BTCUSDT'")
    assert set(whole.firing("FeedStale").values()) <= {False}


def test_every_dashboard_with_tables_is_tried() -> None:
    """Four dashboards ask the database and are tried here; the operator's asks Prometheus alone."""
    asked = {name.split("/")[0] for name, _ in targets(SQL)}
    assert asked == {path.stem for path in DASHBOARDS} - {"operator"}
