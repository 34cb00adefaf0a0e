"""`verify` judges metrics: every window computed anew from the records, in words for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from marketfeed.analytics.thresholds import Thresholds
from marketfeed.database import Pool
from marketfeed.migrate import migrate
from marketfeed.proof import Window
from marketfeed.settings import Secret
from marketfeed.verify import prove, render, verdict
from metric_windows import Metrics, metrics_store, minutes, print_at, quote_at, sink_of, spread_windows, trade_windows

pytestmark = pytest.mark.postgres

USUAL = Thresholds()


@pytest.fixture
def metrics(database: Secret) -> Iterator[Metrics]:
    """Return a database with ten minutes of records and their windows, reconciled."""
    migrate(database)
    pool = Pool(database, "test", 2, statement_timeout_s=30)
    store = metrics_store(database)
    quotes = [quote_at(number, number * 7) for number in range(1, 40)]
    made = Metrics(database, sink_of(pool), store)
    made.keep([*minutes(10), *quotes])
    store.write_trades(trade_windows(minutes(10)), 1, USUAL)
    store.write_spreads(spread_windows(quotes), 1, USUAL)
    store.reconcile(USUAL)
    yield made
    store.close()
    pool.close()


def test_equal_windows_are_said_to_be_equal(metrics: Metrics) -> None:
    """One line for each table, and the proof is complete."""
    proof = prove(metrics.dsn)
    assert proof.complete
    assert "  trade_metrics: 10 windows, all equal to the records, 8 complete" in list(render(proof))
    assert "  spread_metrics: 10 windows, all equal to the records, 0 complete" in list(render(proof))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("record_count = 3", "record_count is 3 and must be 2"),
        ("open = 5", "open is 5 and must be 102"),
        ("close = 5", "close is 5 and must be 100"),
        ("volume = volume + 0.00000001", "volume is 2.00000001 and must be 2"),
        ("taker_buy_volume = 0", "taker_buy_share is 0"),
        ("price_square_sum = price_square_sum + 1", "price_stddev is"),
        ("volume_spike = true", "volume_spike is true and must be false, open alert of volume_spike is false"[:38]),
        ("volatility_threshold = 1", "volatility_alert is true and must be false"),
        ("volume_baseline = 3", "volume_baseline is 3 and must be null"),
        ("complete = NULL, last_id = 9", "last_id is 9 and must be 4"),
    ],
)
def test_any_wrong_figure_is_named(metrics: Metrics, change: str, words: str) -> None:
    """One figure of one window is wrong: the proof fails and says which, what it is and what it must be."""
    metrics.query(f"UPDATE trade_metrics SET {change} WHERE window_start = '2026-01-01 00:01+00'")
    proof = prove(metrics.dsn)
    assert not proof.complete
    found = proof.metrics[0].different
    assert any(words in text and text.startswith("BTCUSDT (binance), 2026-01-01 00:01:00") for text in found), found
    assert "1 window of trade_metrics unlike the records" in verdict(proof) or "volume = volume" in change


@pytest.mark.parametrize("change", ["min_spread = 0.5", "spread_bps_sum = 1", "spread_warning = true", "first_id = 0"])
def test_any_wrong_figure_of_spreads_is_named(metrics: Metrics, change: str) -> None:
    """The same for windows of quotes."""
    metrics.query(f"UPDATE spread_metrics SET {change} WHERE window_start = '2026-01-01 00:01+00'")
    (found,) = prove(metrics.dsn).metrics[1].different
    assert change.partition(" ")[0] in found


def test_windows_too_few_and_too_many_are_named(metrics: Metrics) -> None:
    """A window that is gone and one without any record are both wrong."""
    metrics.query("DELETE FROM trade_metrics WHERE window_start = '2026-01-01 00:09+00'")
    metrics.query("DELETE FROM book_ticker WHERE event_time < '2026-01-01 00:00:30'")
    proof = prove(metrics.dsn)
    assert [text.partition(": ")[2] for text in proof.metrics[0].different] == ["it is not there"]
    assert [text.partition(": ")[2] for text in proof.metrics[1].different] == ["no such record is stored"]


def test_alerts_belong_to_the_flags(metrics: Metrics) -> None:
    """A flag without its alert is wrong, as is an alert without its flag."""
    assert metrics.query("SELECT count(*) > 0 FROM alerts WHERE kind = 'volatility'") == [(True,)]
    metrics.query("DELETE FROM alerts")
    assert all(
        "open alert of volatility is false and must be true" in text for text in prove(metrics.dsn).metrics[0].different
    )
    metrics.query("UPDATE trade_metrics SET volatility_alert = false, volatility_threshold = 9")
    assert prove(metrics.dsn).complete


def test_a_part_is_judged_as_in_the_whole(metrics: Metrics) -> None:
    """Some minutes of some symbols: their baselines still know the windows before."""
    part = Window(since=datetime(2026, 1, 1, 0, 6, tzinfo=UTC), until=datetime(2026, 1, 1, 0, 8, tzinfo=UTC))
    proof = prove(metrics.dsn, part)
    assert [(table.table, table.windows, table.different) for table in proof.metrics] == [("trade_metrics", 2, ())]
    assert prove(metrics.dsn, Window(symbols=("ETHUSDT",))).metrics == ()
    assert [table.table for table in prove(metrics.dsn, Window(channels=("bookTicker",))).metrics] == ["spread_metrics"]


def test_windows_that_are_still_written_are_judged_in_the_end(metrics: Metrics) -> None:
    """Windows of the last two minutes are left out of a running feed's proof, and are in the whole one."""
    now_s = metrics.query("SELECT extract(epoch FROM now() - timestamptz '2026-01-01')::int")[0][0]
    metrics.keep([print_at(1000, now_s), print_at(1001, now_s)])
    metrics.store.write_trades(trade_windows([print_at(1000, now_s)]), 2, USUAL)
    assert prove(metrics.dsn).metrics[0].windows == 10
    whole = prove(metrics.dsn, whole_metrics=True).metrics[0]
    assert (whole.windows, len(whole.different)) == (11, 1)
    metrics.store.reconcile(USUAL, whole=True)
    assert prove(metrics.dsn, whole_metrics=True).metrics[0].different == ()


def test_late_records_wait_to_be_corrected(metrics: Metrics) -> None:
    """A record that is stored late makes its window wait, not wrong; the pass ends that."""
    metrics.keep([print_at(500, 61)])
    (waiting, _) = prove(metrics.dsn).metrics
    assert (waiting.different, waiting.waiting) == ((), 6)
    assert any(
        "4 windows, all equal to the records" in line and "6 more waiting" in line
        for line in render(prove(metrics.dsn))
    )
    metrics.store.reconcile(USUAL)
    assert prove(metrics.dsn).metrics[0].waiting == 0


def test_without_metrics_nothing_is_said(database: Secret) -> None:
    """A feed without the job, or a database from before there were metrics: the proof is as it was."""
    migrate(database)
    pool = Pool(database, "test", 1, statement_timeout_s=30)
    made = Metrics(database, sink_of(pool), metrics_store(database))
    made.keep(minutes(2))
    assert (prove(database).complete, prove(database).metrics) == (True, ())
    pool.close()
    made.query("DROP TABLE late_minutes, metrics_checked, trade_metrics, spread_metrics, alerts")
    assert (prove(database).complete, prove(database).metrics) == (True, ())
