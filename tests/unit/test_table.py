"""What a person sees of a run."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from marketfeed.local.table import AnalyticsView, ConsumerView, ServerView, ShardView, Snapshot, clock, line, render

SNAPSHOT = Snapshot(
    feed="binance-spot",
    elapsed_s=65.0,
    remaining_s=None,
    servers=(ServerView("Kafka", "running", "127.0.0.1:19092"),),
    shards=(
        ShardView("binance-spot-ingestor-0", "running", 5, 5, 10_000, 1234.4, 0.25),
        ShardView("binance-spot-ingestor-1", "running", 4, 3, 20, 10.0, 2.5),
    ),
    consumers=(ConsumerView("binance-spot-consumer-timescale", "running", 9_876, 500.0, 123, 0.4, 0),),
    missing=0,
)


def _shown(snapshot: Snapshot, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(snapshot))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_line_sums_up_all_shards_and_consumers() -> None:
    """The plain line adds streams, rates and rows up, and shows the oldest shard's silence."""
    assert line(SNAPSHOT) == (
        "1:05 binance-spot | shards 2/2 | streams 8/9 | 1,244 records/s | last message 2.5 s ago"
        " | rows 9,876 | lag 123 | missing 0"
    )


def test_the_line_names_what_does_not_run() -> None:
    """A server or service that is down is named in the plain line."""
    broken = replace(SNAPSHOT, servers=(ServerView("Kafka", "restarting", ""),))
    assert line(broken).endswith("| not running: Kafka")


def test_what_has_not_answered_yet_is_shown_as_unknown() -> None:
    """A shard without stats and a ledger that does not answer show a dash, and break nothing."""
    silent = replace(SNAPSHOT, shards=(ShardView("binance-spot-ingestor-0", "starting"),), missing=None)
    assert "missing -" in line(silent)
    assert "-/-" in _shown(silent)


def test_a_lag_that_nobody_knows_is_not_0() -> None:
    """A consumer that has no partitions yet tells no lag, and counts in floating point are shown whole."""
    starting = replace(SNAPSHOT.consumers[0], rows=385.0, lag_records=None)
    assert "| rows 385 | lag - |" in line(replace(SNAPSHOT, consumers=(starting,)))
    assert "| lag 123 |" in line(replace(SNAPSHOT, consumers=(starting, SNAPSHOT.consumers[0])))


def test_the_table_shows_every_part() -> None:
    """Servers, shards and consumers each have their row with state and numbers."""
    shown = _shown(SNAPSHOT)
    for part in ("no print missing", "127.0.0.1:19092", "ingestor-1", "3/4", "1,234", "9,876", "123"):
        assert part in shown


def test_numbers_are_whole_in_a_narrow_terminal() -> None:
    """In 80 columns and after restarts, names are shortened and every number and heading is whole."""
    busy = ConsumerView("binance-spot-consumer-timescale", "running", 12_345_678, 9_876.0, 54_321, 12.5, 987, 12)
    shown = _shown(replace(SNAPSHOT, consumers=(busy,)), width=80)
    for part in ("12,345,678", "9,876", "54,321", "12.5 s", "987", "running (12 restarts)", "quarantined"):
        assert part in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_missing_prints_and_restarts_stand_out() -> None:
    """A known gap and a restarted shard are said in words."""
    shown = _shown(replace(SNAPSHOT, missing=7, shards=(replace(SNAPSHOT.shards[0], restarts=2),)))
    assert "7 prints missing" in shown
    assert "running (2 restarts)" in shown


def test_analytics_are_shown_where_there_are_any() -> None:
    """Their windows are in the line and in the table, and a job that is being fetched is no running one."""
    job = AnalyticsView("binance-spot-analytics", "running", 42, 1, 2, 77, 3.5)
    assert "| windows 42" in line(replace(SNAPSHOT, analytics=job))
    shown = _shown(replace(SNAPSHOT, analytics=job), width=80)
    assert [part for part in ("analytics", "corrected", "alerts", "42", "77", "3.5 s ago") if part not in shown] == []
    fetched = replace(SNAPSHOT, analytics=AnalyticsView("binance-spot-analytics", "fetching"))
    assert line(fetched).endswith("| windows - (analytics fetching)")
    assert "windows" not in line(SNAPSHOT)


def test_without_kafka_no_rows_are_promised() -> None:
    """A feed without consumers shows neither rows nor lag."""
    assert "rows" not in line(replace(SNAPSHOT, consumers=(), missing=None))


@pytest.mark.parametrize(("seconds", "text"), [(5.9, "0:05"), (754, "12:34"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    """Durations are shown as a clock shows them."""
    assert clock(seconds) == text
