"""The metrics' store against a real database: written, judged, compared with the ledger, corrected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal, localcontext

import msgspec
import psycopg2
import pytest

from helpers import wait_until
from marketfeed.analytics.store import Limits, MetricsStore
from marketfeed.analytics.thresholds import Thresholds
from marketfeed.database import Pool
from marketfeed.errors import Unavailable
from marketfeed.local.postgres import EmbeddedPostgres
from marketfeed.migrate import migrate
from marketfeed.settings import Secret
from marketfeed.verify import prove
from metric_windows import (
    Metrics,
    metrics_store,
    minutes,
    print_at,
    quote_at,
    sink_of,
    spread_windows,
    trade_windows,
)
from records import agg_trade

pytestmark = pytest.mark.postgres

USUAL = Thresholds()
_EVENTUALLY_S = 20.0


@pytest.fixture
def metrics(database: Secret) -> Iterator[Metrics]:
    """Return an empty database with a sink and a store over it."""
    migrate(database)
    pool = Pool(database, "test", 2, statement_timeout_s=30)
    store = metrics_store(database)
    yield Metrics(database, sink_of(pool), store)
    store.close()
    pool.close()


def _differing(metrics: Metrics) -> tuple[str, ...]:
    """Return what the independent computation finds wrong, all windows looked at."""
    return tuple(text for table in prove(metrics.dsn, whole_metrics=True).metrics for text in table.different)


def test_what_the_stream_brings_is_what_the_records_add_up_to(metrics: Metrics) -> None:
    """Prints and quotes, stored and summed up apart from each other: every window equals the recomputation."""
    prints, quotes = minutes(8), [quote_at(number, number * 7) for number in range(1, 40)]
    metrics.keep([*prints, *quotes])
    assert metrics.store.write_trades(trade_windows(prints), 1, USUAL).windows == 8
    assert metrics.store.write_spreads(spread_windows(quotes), 1, USUAL).windows == 10
    assert _differing(metrics) == ()
    assert metrics.store.reconcile(USUAL).windows == {}


def test_the_same_batch_again_changes_nothing(metrics: Metrics) -> None:
    """A batch that Spark replays leaves every row as it was, times included, whatever the thresholds are now."""
    prints = [*minutes(6), *minutes(1, "50", first=13, start=6)]
    metrics.keep(prints)
    first = metrics.store.write_trades(trade_windows(prints), 1, USUAL)
    before = metrics.everything()
    again = metrics.store.write_trades(trade_windows(prints), 1, Thresholds(volume_spike=Decimal(100)))
    assert (first.windows, first.alerts, again.windows, again.alerts) == (
        7,
        {"volume_spike": 1, "volatility": 7},
        0,
        {},
    )
    assert metrics.everything() == before


def test_fewer_records_never_win(metrics: Metrics) -> None:
    """A replay with less of a window than is held changes nothing; with more, it does."""
    prints = [print_at(number, number) for number in range(1, 11)]
    assert metrics.store.write_trades(trade_windows(prints[:6]), 2, USUAL).windows == 1
    assert metrics.store.write_trades(trade_windows(prints[:3]), 1, USUAL).windows == 0
    assert metrics.column("record_count") == [6]
    assert metrics.store.write_trades(trade_windows(prints), 3, USUAL).windows == 1
    assert metrics.column("record_count") == [10]


def test_a_batch_without_rows_or_with_a_window_twice_is_none_the_worse(metrics: Metrics) -> None:
    """Nothing to write is nothing written, and of one window twice the one with more records stays."""
    prints = [print_at(1, 1), print_at(2, 2)]
    assert metrics.store.write_trades([], 1, USUAL).windows == 0
    assert metrics.store.write_trades([*trade_windows(prints), *trade_windows(prints[:1])], 1, USUAL).windows == 1
    assert metrics.column("record_count") == [2]


def test_a_window_that_could_not_be_summed_is_computed_from_the_records(metrics: Metrics) -> None:
    """Digits that Spark cannot hold: its row is not written; the reconciliation makes it, exact to the last digit."""
    fine = "0.1234567890123456789"
    prints = [print_at(1, 1, fine, fine), *minutes(2, first=2, start=1)]
    metrics.keep(prints)
    (lost,) = (row._replace(quote_volume=None) for row in trade_windows(prints[:1]))
    assert metrics.store.write_trades([lost], 1, USUAL).windows == 0
    assert metrics.query("SELECT symbol FROM late_minutes") == [("BTCUSDT",)]
    assert metrics.store.reconcile(USUAL).windows == {"trade_metrics": 3}
    with localcontext(prec=60):
        assert metrics.column("quote_volume")[0] == Decimal(fine) * Decimal(fine)
    assert metrics.query("SELECT count(*) FROM late_minutes") == [(0,)]
    assert _differing(metrics) == ()


@pytest.mark.parametrize("window_ms", [10_000, 30_000, 60_000, 300_000])
def test_windows_of_any_length_are_corrected(metrics: Metrics, window_ms: int) -> None:
    """Parts of a minute or several: what the watermark dropped comes back, in the windows that it belongs to."""
    prints = minutes(15)
    metrics.keep(prints)
    with closing(metrics_store(metrics.dsn, window_ms)) as store:
        store.write_trades(trade_windows(prints[:1] + prints[4:], window_ms), 1, USUAL)
        assert _differing(metrics) != ()
        assert store.reconcile(USUAL).windows["trade_metrics"] > 0
    assert _differing(metrics) == ()
    corrected = metrics.query(
        "SELECT count(*) FROM trade_metrics WHERE corrected_at IS NOT NULL AND window_start > '2026-01-01 00:05'"
    )
    assert corrected == [(0,)]


@pytest.mark.parametrize("window_ms", [10_000, 30_000, 300_000])
def test_windows_of_quotes_are_corrected(metrics: Metrics, window_ms: int) -> None:
    """Quotes that the stream has dropped are counted after a pass; none is ever called complete."""
    quotes = [quote_at(number, number * 11, "100.1", f"100.{number % 7 + 2}") for number in range(1, 90)]
    metrics.keep(quotes)
    with closing(metrics_store(metrics.dsn, spread_window_ms=window_ms)) as store:
        store.write_spreads(spread_windows(quotes[:5] + quotes[9:], window_ms), 1, USUAL)
        assert _differing(metrics) != ()
        assert store.reconcile(USUAL).windows["spread_metrics"] > 0
    assert _differing(metrics) == ()
    assert set(metrics.column("complete", "spread_metrics")) == {None}


def test_quotes_without_a_price_have_no_spread_to_divide(metrics: Metrics) -> None:
    """Bid and ask of 0 are 0 basis points; a crossed book is cut off toward zero, as elsewhere."""
    quotes = [quote_at(1, 1, "0", "0"), quote_at(2, 2, "3", "2"), quote_at(3, 70)]
    metrics.keep(quotes)
    metrics.store.write_spreads(spread_windows(quotes[2:]), 1, USUAL)
    metrics.store.write_spreads(spread_windows(quotes[:1]), 1, USUAL)
    metrics.store.reconcile(USUAL)
    assert metrics.column("min_spread_bps", "spread_metrics") == [-4000, spread_windows(quotes[2:])[0].min_spread_bps]
    assert _differing(metrics) == ()


def test_a_symbol_without_any_window_is_found(metrics: Metrics) -> None:
    """Of a symbol that the stream dropped entirely, the ledger alone says that it is there."""
    metrics.keep([*minutes(3), *minutes(3, symbol="ETHUSDT")])
    metrics.store.write_trades(trade_windows(minutes(3)), 1, USUAL)
    assert metrics.store.reconcile(USUAL).windows == {"trade_metrics": 3}
    assert metrics.column("record_count", symbol="ETHUSDT") == [2, 2, 2]
    assert _differing(metrics) == ()


def test_records_that_only_the_stream_knows_are_taken_back(metrics: Metrics) -> None:
    """What the database refused is no part of a window: counted down, or the window goes, its alert withdrawn."""
    prints, poison = minutes(8), print_at(99, 65, "900", "70")
    alone = print_at(98, 400, symbol="ETHUSDT")
    metrics.keep(prints)
    metrics.keep([print_at(1, 300, symbol="ETHUSDT"), print_at(2, 500, symbol="ETHUSDT")])
    stored = [print_at(1, 300, symbol="ETHUSDT"), print_at(2, 500, symbol="ETHUSDT")]
    metrics.store.write_trades(trade_windows([*prints, poison, alone, *stored]), 1, USUAL)
    assert ("BTCUSDT", "volatility") in metrics.query(
        "SELECT symbol, kind FROM alerts WHERE withdrawn_at IS NULL AND value > 0.5"
    )
    assert metrics.store.reconcile(USUAL).windows == {"trade_metrics": 2}
    assert metrics.column("record_count") == [2] * 8
    assert metrics.column("record_count", symbol="ETHUSDT") == [1, 1]
    assert _differing(metrics) == ()


def test_a_replay_of_such_records_is_taken_back_again(metrics: Metrics) -> None:
    """A batch from a lost checkpoint writes over a window that was compared long ago: it is compared once more."""
    prints, poison = minutes(8), print_at(99, 65, "900", "70")
    metrics.keep(prints)
    metrics.store.write_trades(trade_windows(prints), 1, USUAL)
    _let_pass(metrics)
    assert metrics.store.reconcile(USUAL).windows == {}
    metrics.store.write_trades(trade_windows([*prints, poison]), 0, USUAL)
    assert _differing(metrics) != ()
    assert prove(metrics.dsn).metrics[0].waiting == 6
    assert metrics.store.reconcile(USUAL).windows == {"trade_metrics": 1}
    assert _differing(metrics) == ()


def _let_pass(metrics: Metrics) -> None:
    """Let the streams have begun long ago, so that what agrees is not looked at again."""
    metrics.query("UPDATE metrics_checked SET began_at = began_at - interval '1 hour'")
    metrics.store.reconcile(USUAL)


def test_a_backfill_corrects_windows_that_agreed(metrics: Metrics) -> None:
    """Records that are stored hours later mark their minute: only that one is computed anew, and the mark is gone."""
    prints = minutes(60)
    metrics.keep(prints[:20] + prints[22:])
    metrics.store.write_trades(trade_windows(prints[:20] + prints[22:]), 1, USUAL)
    _let_pass(metrics)
    assert metrics.query("SELECT through::text FROM metrics_checked WHERE channel = 'trade'") == [
        ("2026-01-01 00:59:00+00",)
    ]
    metrics.keep(prints[20:22])
    assert metrics.query("SELECT minute::text FROM late_minutes") == [("2026-01-01 00:10:00+00",)]
    assert metrics.store.reconcile(USUAL).windows == {"trade_metrics": 1}
    assert metrics.query("SELECT * FROM late_minutes") == []
    assert _differing(metrics) == ()


def test_streams_that_nobody_sums_up_are_not_marked(metrics: Metrics) -> None:
    """Late records of a channel or a feed without metrics leave no mark: it would stay for ever."""
    metrics.keep([*minutes(3), agg_trade(1)])
    assert metrics.query("SELECT * FROM late_minutes") == []
    metrics.store.write_trades(trade_windows(minutes(3)), 1, USUAL)
    metrics.keep([agg_trade(2), print_at(50, 5)])
    assert metrics.query("SELECT DISTINCT channel FROM late_minutes") == [("trade",)]


def test_recent_minutes_are_not_marked_and_not_left_behind(metrics: Metrics) -> None:
    """Minutes of now cost the consumer nothing: the comparison stays near enough to see what comes to them."""
    now_s = metrics.query("SELECT extract(epoch FROM now() - timestamptz '2026-01-01')::int")[0][0]
    live = [print_at(number, now_s - 400 + 20 * number) for number in range(1, 21)]
    metrics.keep(live)
    metrics.store.write_trades(trade_windows(live), 1, USUAL)
    _let_pass(metrics)
    metrics.query("DELETE FROM late_minutes")
    through = metrics.query(
        "SELECT through <= now() - interval '5 minutes' FROM metrics_checked WHERE channel = 'trade'"
    )
    assert through == [(True,)]
    metrics.keep([print_at(21, now_s - 60)])
    assert metrics.query("SELECT * FROM late_minutes") == []


def test_what_the_consumer_has_not_passed_is_never_counted_down(metrics: Metrics) -> None:
    """A consumer that is behind: the stream's windows stay, and are compared when the ledger has got there."""
    prints = minutes(5)
    metrics.store.write_trades(trade_windows(prints), 1, USUAL)
    metrics.keep(prints[:5])
    assert metrics.store.reconcile(USUAL).windows == {}
    assert metrics.column("record_count") == [2] * 5
    metrics.keep(prints[5:])
    assert metrics.store.reconcile(USUAL).windows == {}
    assert _differing(metrics) == ()


def test_what_the_stream_lacks_of_the_newest_minute_is_added(metrics: Metrics) -> None:
    """A symbol that has gone quiet: its last window is completed although no later minute says that it is over."""
    prints = minutes(2)
    metrics.keep(prints)
    metrics.store.write_trades(trade_windows(prints[:3]), 1, USUAL)
    assert metrics.store.reconcile(USUAL).windows == {"trade_metrics": 1}
    assert _differing(metrics) == ()


def test_at_the_end_of_a_feed_everything_is_compared(metrics: Metrics) -> None:
    """The whole at once: the newest window too, whatever it holds too much, in as many passes as it takes."""
    prints, poison = minutes(30), print_at(99, 29 * 60 + 5)
    metrics.keep(prints)
    with closing(metrics_store(metrics.dsn, limits=Limits(groups=4))) as store:
        store.write_trades(trade_windows([prints[0], poison]), 1, USUAL)
        found = store.reconcile(USUAL, whole=True)
    assert (found.windows, found.left) == ({"trade_metrics": 30}, 0)
    assert _differing(metrics) == ()


def test_a_pass_is_bounded_and_the_next_goes_on(metrics: Metrics) -> None:
    """Four groups at a time, the oldest first; marks that are not reached stay, and all agree in the end."""
    prints = minutes(12)
    metrics.keep(prints)
    metrics.store.write_trades(trade_windows(prints[:1]), 1, USUAL)
    metrics.query("INSERT INTO late_minutes SELECT exchange, symbol, channel, minute FROM ledger")
    with closing(metrics_store(metrics.dsn, limits=Limits(groups=5))) as store:
        assert [store.reconcile(USUAL).left for _ in range(3)] == [7, 2, 0]
    assert metrics.column("record_count") == [2] * 12
    assert metrics.query("SELECT * FROM late_minutes") == []


def test_complete_is_what_the_ledger_proves(metrics: Metrics) -> None:
    """All windows but the first and the newest, where nothing says that no id is missing before or after."""
    prints = minutes(6)
    metrics.keep(prints)
    metrics.store.write_trades(trade_windows(prints), 1, USUAL)
    assert metrics.column("complete") == [False] * 6
    metrics.store.reconcile(USUAL)
    assert metrics.column("complete") == [False, True, True, True, True, False]


def test_a_gap_makes_its_neighbours_incomplete_until_it_is_repaired(metrics: Metrics) -> None:
    """A minute without any record between two others: neither is complete; when it is stored, all three are."""
    prints = minutes(8)
    metrics.keep(prints[:6] + prints[8:])
    metrics.store.write_trades(trade_windows(prints[:6] + prints[8:]), 1, USUAL)
    _let_pass(metrics)
    assert metrics.column("complete") == [False, True, False, False, True, True, False]
    metrics.keep(prints[6:8])
    metrics.store.reconcile(USUAL)
    assert metrics.column("complete") == [False, True, True, True, True, True, True, False]


def test_parts_of_a_minute_are_complete_with_it(metrics: Metrics) -> None:
    """Windows of 30 s: both halves of a proven minute are complete, none of one that lacks an id."""
    prints = minutes(5)
    kept = prints[:4] + prints[5:]
    metrics.keep(kept)
    with closing(metrics_store(metrics.dsn, 30_000)) as store:
        store.write_trades(trade_windows(kept, 30_000), 1, USUAL)
        store.reconcile(USUAL)
    assert metrics.column("complete") == [False, False, False, False, False, True, True, False, False]


def test_ids_that_prove_nothing_make_nothing_complete(metrics: Metrics) -> None:
    """Where the ledger's grade is not proven, complete says nothing at all."""
    prints = minutes(4)
    metrics.keep(prints)
    metrics.query("UPDATE ledger SET grade = 'unknown'")
    metrics.store.write_trades(trade_windows(prints), 1, USUAL)
    metrics.store.reconcile(USUAL)
    assert metrics.column("complete") == [None] * 4


def test_a_spike_is_judged_by_five_windows_when_so_many_are_known(metrics: Metrics) -> None:
    """No baseline in the first five windows; then their mean, absent ones counting as zero; a quiet one has none."""
    volumes = {0: "1", 1: "1", 3: "2", 5: "1", 6: "30", 40: "5"}
    prints = [print_at(minute + 1, minute * 60, quantity=volume) for minute, volume in volumes.items()]
    metrics.keep(prints)
    written = metrics.store.write_trades(trade_windows(prints), 1, USUAL)
    assert metrics.column("volume_baseline") == [None, None, None, Decimal("0.8"), Decimal("0.8"), 0]
    assert metrics.column("volume_spike") == [False, False, False, False, True, False]
    assert written.alerts == {"volume_spike": 1}
    ((value, threshold, evidence),) = metrics.query("SELECT value, threshold, evidence FROM alerts")
    assert (value, threshold) == (Decimal("37.5"), Decimal("3.0"))
    assert (evidence["volume"], evidence["volume_baseline"]) == (30, 0.8)
    assert _differing(metrics) == ()


def test_a_correction_judges_the_five_windows_after_it(metrics: Metrics) -> None:
    """A late volume raises the baseline of the windows after it: their flag goes, their alert says since when."""
    prints = [print_at(minute + 1, minute * 60, quantity="10" if minute == 8 else "1") for minute in range(12)]
    late = print_at(100, 5 * 60 + 1, quantity="50")
    metrics.keep(prints)
    metrics.store.write_trades(trade_windows(prints), 1, USUAL)
    metrics.store.reconcile(USUAL)
    assert metrics.query("SELECT window_start::text FROM alerts") == [("2026-01-01 00:08:00+00",)]
    metrics.keep([late])
    assert metrics.store.reconcile(USUAL).alerts == {"volume_spike": 1}
    assert metrics.query("SELECT window_start::text, withdrawn_at IS NULL FROM alerts ORDER BY 1") == [
        ("2026-01-01 00:05:00+00", True),
        ("2026-01-01 00:08:00+00", False),
    ]
    assert _differing(metrics) == ()


def test_an_earlier_first_window_warms_later_ones(metrics: Metrics) -> None:
    """A first window that comes late lets be judged what knew too little before, however far after it."""
    prints = [print_at(minute + 2, minute * 60) for minute in (60, 61, 62)]
    early = print_at(1, 0)
    metrics.keep([early, *prints])
    metrics.store.write_trades(trade_windows(prints), 1, USUAL)
    assert metrics.column("volume_baseline") == [None, None, None]
    metrics.store.write_trades(trade_windows([early]), 2, USUAL)
    assert metrics.column("volume_baseline") == [None, 0, Decimal("0.2"), Decimal("0.4")]
    assert _differing(metrics) == ()


def test_judged_windows_keep_their_thresholds_until_their_figures_change(metrics: Metrics) -> None:
    """New thresholds hold for what is written from now on, and for a window that another record changes."""
    prints = minutes(3)
    metrics.keep(prints)
    metrics.store.write_trades(trade_windows(prints[:4]), 1, USUAL)
    strict = Thresholds(volatility=Decimal("0.0001"))
    more = print_at(50, 65, "101")
    metrics.keep([more])
    metrics.store.write_trades(trade_windows([*prints[2:], more]), 2, strict)
    assert metrics.column("volatility_threshold") == [Decimal("0.005"), Decimal("0.0001"), Decimal("0.0001")]
    assert _differing(metrics) == ()


def test_wide_spreads_raise_an_alert_with_its_evidence(metrics: Metrics) -> None:
    """An average above the threshold's multiple of the least spread; a least spread of zero raises nothing."""
    quotes = [quote_at(1, 1, "100", "101"), quote_at(2, 2, "100", "109"), quote_at(3, 31, "5", "5"), quote_at(4, 32)]
    metrics.keep(quotes)
    assert metrics.store.write_spreads(spread_windows(quotes), 1, USUAL).alerts == {"spread": 1}
    assert metrics.column("spread_warning", "spread_metrics") == [True, False]
    ((value, evidence),) = metrics.query("SELECT value, evidence FROM alerts WHERE kind = 'spread'")
    assert (value, evidence["avg_spread"], evidence["min_spread"], evidence["quote_updates"]) == (5, 5, 1, 2)
    narrower = [quote_at(number, 3, "100", "101") for number in range(10, 30)]
    metrics.keep(narrower)
    assert metrics.store.write_spreads(spread_windows([*quotes[:2], *narrower]), 2, USUAL).alerts == {}
    assert metrics.query("SELECT withdrawn_at IS NOT NULL FROM alerts WHERE kind = 'spread'") == [(True,)]
    assert _differing(metrics) == ()


def test_generated_figures_agree_with_the_servers_own(metrics: Metrics) -> None:
    """The standard deviation made of exact sums is PostgreSQL's own within its rounding; one print has none."""
    prints = [print_at(number, number / 10, f"394{number % 97}.{number:08}") for number in range(1, 500)]
    metrics.keep([*prints, print_at(1000, 90)])
    metrics.store.write_trades(trade_windows([*prints, print_at(1000, 90)]), 1, USUAL)
    ((theirs,),) = metrics.query("SELECT stddev_samp(price) FROM trades WHERE trade_id < 1000")
    ours, single = metrics.column("price_stddev")
    assert abs(ours - theirs) < Decimal("1e-9")
    assert (single, metrics.column("volatility_alert")[1]) == (None, False)


def test_a_record_stored_while_its_minute_is_compared_is_not_lost(metrics: Metrics) -> None:
    """A consumer's transaction is open: the pass leaves its mark alone, and the next one finds what it brought."""
    prints = minutes(6)
    metrics.keep(prints)
    metrics.store.write_trades(trade_windows(prints), 1, USUAL)
    _let_pass(metrics)
    metrics.query(_MARK)
    with closing(psycopg2.connect(metrics.dsn)) as consumer, consumer.cursor() as cursor:
        cursor.execute(_MARK)
        cursor.execute(_LATE_ROW)
        cursor.execute(_COUNT_IT)
        assert metrics.store.reconcile(USUAL).windows == {}
        consumer.commit()
    assert metrics.query("SELECT count(*) FROM late_minutes") == [(1,)]
    assert metrics.store.reconcile(USUAL).windows == {"trade_metrics": 1}
    assert _differing(metrics) == ()


_MARK = """INSERT INTO late_minutes VALUES ('binance', 'BTCUSDT', 'trade', '2026-01-01 00:01+00')
           ON CONFLICT (exchange, symbol, channel, minute) DO UPDATE SET marked_at = now()"""
_LATE_ROW = """INSERT INTO trades VALUES ('binance', 'BTCUSDT', 'trade', 77, 5, 5, 'buy', NULL, NULL,
               '2026-01-01 00:01:10+00', now(), 'backfill')"""
_COUNT_IT = """UPDATE ledger SET stored = stored + 1, last_id = 77
               WHERE symbol = 'BTCUSDT' AND minute = '2026-01-01 00:01+00'"""


def test_a_mark_is_held_while_it_is_looked_after(metrics: Metrics) -> None:
    """A consumer that marks a minute which a pass holds waits for the pass, and its mark is there afterwards."""
    prints = minutes(6)
    metrics.keep(prints)
    metrics.store.write_trades(trade_windows(prints), 1, USUAL)
    _let_pass(metrics)
    metrics.query(_MARK)
    metrics.query("UPDATE metrics_checked SET through = through - interval '2 minutes'")
    with closing(psycopg2.connect(metrics.dsn)) as blocker, blocker.cursor() as cursor, ThreadPoolExecutor(2) as pool:
        # The pass stops where it moves on, after it has taken the mark and compared.
        cursor.execute("SELECT FROM metrics_checked FOR UPDATE")
        reconciling = pool.submit(metrics.store.reconcile, USUAL)
        _wait_for_waiting(metrics, 1)
        storing = pool.submit(metrics.keep, [print_at(77, 70)])
        _wait_for_waiting(metrics, 2)
        blocker.commit()
        assert reconciling.result(_EVENTUALLY_S).windows == {}
        storing.result(_EVENTUALLY_S)
    assert metrics.query("SELECT count(*) FROM late_minutes") == [(1,)]
    assert metrics.store.reconcile(USUAL).windows == {"trade_metrics": 1}
    assert _differing(metrics) == ()


def _wait_for_waiting(metrics: Metrics, count: int) -> None:
    statement = (
        "SELECT count(*) >= %s FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    wait_until(lambda: metrics.query(statement, [count])[0][0], _EVENTUALLY_S, f"{count} that wait for a lock")


def test_two_passes_do_not_meet(metrics: Metrics) -> None:
    """While one reconciles, another finds nothing to do, and waits for nothing."""
    prints = minutes(3)
    metrics.keep(prints)
    metrics.store.write_trades(trade_windows(prints[:1]), 1, USUAL)
    with closing(psycopg2.connect(metrics.dsn)) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('reconcile trade_metrics'), hashtext('binance'))")
        assert metrics.store.reconcile(USUAL).windows == {}
        other.rollback()
    assert metrics.store.reconcile(USUAL).windows == {"trade_metrics": 3}


def test_two_stores_at_once_end_as_one(metrics: Metrics) -> None:
    """An old driver and a new one write the same windows in other portions: no deadlock, and every flag is right."""
    prints = [
        print_at(n, n * 11, str(100 + n % 9), str(1 + n % 13), symbol) for symbol in ("A", "B") for n in range(1, 300)
    ]
    metrics.keep(prints)

    def write(store: MetricsStore, step: int) -> None:
        for end in range(step, len(prints) + step, step):
            store.write_trades(trade_windows(prints[:end]), end, USUAL)

    with closing(metrics_store(metrics.dsn)) as other, ThreadPoolExecutor(2) as pool:
        for writing in [pool.submit(write, metrics.store, 50), pool.submit(write, other, 70)]:
            writing.result(60)
    assert _differing(metrics) == ()


def test_another_length_of_windows_begins_anew(metrics: Metrics) -> None:
    """Windows of another length lie beside the old ones, which stay as they were; both are judged by their own kind."""
    prints = minutes(20)
    metrics.keep(prints)
    metrics.store.write_trades(trade_windows(prints[:20]), 1, USUAL)
    metrics.store.reconcile(USUAL)
    with closing(metrics_store(metrics.dsn, 300_000)) as store:
        store.write_trades(trade_windows(prints[20:], 300_000), 1, USUAL)
        store.reconcile(USUAL)
    assert metrics.query(
        "SELECT count(*) FROM trade_metrics WHERE window_end - window_start = interval '5 minutes'"
    ) == [(2,)]
    assert [text for text in _differing(metrics) if not text.endswith("it is not there")] == []


def test_aggregates_count_their_prints(metrics: Metrics) -> None:
    """A feed without the trade channel: windows of aggTrade, with as many trades as these sum up."""
    records = [
        msgspec.structs.replace(agg_trade(number), event_time=agg_trade(0).event_time + number * 40_000_000)
        for number in range(9)
    ]
    metrics.keep(records)
    with closing(
        MetricsStore(
            metrics.dsn, exchange="binance", trade_channel="aggTrade", trade_window_ms=60_000, spread_window_ms=30_000
        )
    ) as store:
        (lost,) = (row._replace(channel="aggTrade", volume=None) for row in trade_windows([print_at(1, 1)]))
        store.write_trades([lost], 1, USUAL)
        store.reconcile(USUAL, whole=True)
    assert metrics.query("SELECT sum(record_count), sum(trade_count), min(channel) FROM trade_metrics") == [
        (9, 18, "aggTrade")
    ]
    assert _differing(metrics) == ()


def test_records_gone_by_retention_leave_their_windows(metrics: Metrics) -> None:
    """Where the ledger counts records that are no longer stored, a window is not taken back."""
    prints = minutes(4)
    metrics.keep(prints)
    metrics.store.write_trades(trade_windows([*prints, print_at(50, 5)]), 1, USUAL)
    metrics.query("DELETE FROM trades WHERE event_time < '2026-01-01 00:01'")
    assert metrics.store.reconcile(USUAL).windows == {}
    assert metrics.column("record_count") == [3, 2, 2, 2]


def test_a_database_that_goes_is_unavailable_and_then_written_again(
    own_postgres: Callable[[], EmbeddedPostgres],
) -> None:
    """Stopped in the middle: Unavailable, again and again; when it is back, the same batch is written once."""
    server = own_postgres()
    migrate(server.dsn)
    rows = trade_windows(minutes(3))
    with closing(metrics_store(server.dsn)) as store:
        store.write_trades(rows[:1], 1, USUAL)
        server.stop()
        for _ in range(2):
            with pytest.raises(Unavailable):
                store.write_trades(rows, 2, USUAL)
        with pytest.raises(Unavailable):
            store.reconcile(USUAL)
        server.start()

        def written() -> int:
            try:
                return store.write_trades(rows, 2, USUAL).windows
            except Unavailable:
                return 0

        assert wait_until(written, _EVENTUALLY_S, "the store to write again") == 2


def test_a_database_without_tables_is_waited_for(database: Secret) -> None:
    """Before the schema is there the store is unavailable, and says what would help."""
    with closing(metrics_store(database)) as store, pytest.raises(Unavailable, match="marketfeed migrate"):
        store.write_trades(trade_windows(minutes(1)), 1, USUAL)
