"""The operator's own pulse: each reason to start it anew, each reason that it could not take over, and no other."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from marketfeed_operator import health
from marketfeed_operator.health import Progress
from marketfeed_operator.metrics import OperatorMetrics


class Bench:
    """A pulse, and a clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.metrics = OperatorMetrics(CollectorRegistry())
        self.progress = Progress(self.metrics, lambda: self.now)

    def after(self, seconds: float, *, beating: bool = True) -> str | None:
        """Return what `/livez` says so much later."""
        self.now += seconds
        if beating:
            self.progress._beat = self.now
        return self.progress.live()


@pytest.fixture
def b() -> Bench:
    """Return a pulse that has just begun."""
    return Bench()


def test_it_is_alive_from_the_start_and_while_the_cluster_is_away(b: Bench) -> None:
    """No look at a cluster, no lease: a restart would help neither."""
    assert b.after(3600) is None
    assert b.progress.ready() is not None


def test_a_hung_loop_is_a_reason(b: Bench) -> None:
    """Half a minute without a turn; less is a busy machine."""
    assert b.after(30, beating=False) is None
    assert b.after(1, beating=False) == "the loop has not turned for 31 s"
    assert b.after(0) is None


def test_work_that_never_ends_is_a_reason(b: Bench) -> None:
    """One piece of five minutes; many short ones one after the other are none, however they end."""
    b.progress.begun("a")
    for _ in range(10):
        b.progress.begun("b")
        assert b.after(30) is None
        b.progress.ended("b")
    assert b.after(1) == "a reconciliation has been at work for 301 s"
    b.progress.ended("a")
    assert b.after(0) is None


def test_a_watch_that_misses_changes_twice_in_a_row_is_a_reason(b: Bench) -> None:
    """Once may be a moment's lag; a comparison that finds nothing clears it; each kind counts by itself."""
    b.progress.compared("Pod", 3)
    b.progress.compared("Deployment", 0)
    assert b.after(0) is None
    b.progress.compared("Pod", 1)
    assert b.after(0) == "the watch of Pod misses changes"
    b.progress.compared("Deployment", 1)
    b.progress.compared("Deployment", 1)
    assert b.after(0) == "the watch of Pod, Deployment misses changes"
    b.progress.compared("Pod", 0)
    b.progress.compared("Deployment", 0)
    assert b.after(0) is None


def test_it_is_ready_once_it_has_seen_the_cluster_and_stays_so(b: Bench) -> None:
    """Before, it says what it waits for; leading is not asked for, since a standby must count as ready."""
    assert b.progress.ready() == "starting: the cluster has not been looked at yet"
    b.progress.waits_for = "marketfeeds.marketfeed.dev is not installed"
    assert b.progress.ready() == "starting: marketfeeds.marketfeed.dev is not installed"
    b.progress.in_sync()
    assert b.progress.ready() is None
    assert b.progress.stats()["leading"] is False


def test_stats_say_what_it_does(b: Bench) -> None:
    """Whether it leads and has seen the cluster, how much is at work, and the figures of the assembly."""
    b.progress.figures = lambda: {"feeds": 7, "queue": 2}
    b.progress.leading = True
    b.progress.begun("a")
    b.progress.in_sync()
    assert b.progress.stats() == {"leading": True, "synced": True, "at_work": 1, "feeds": 7, "queue": 2}


def test_the_beat_notes_how_late_the_loop_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each turn is counted, with how much later than due it came."""
    monkeypatch.setattr(health, "BEAT_S", 0.0)
    b = Bench()

    async def run() -> None:
        beating = asyncio.create_task(b.progress.beat())
        b.now += 100
        for _ in range(3):
            await asyncio.sleep(0)
        b.now += 0.3
        await asyncio.sleep(0)
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)

    asyncio.run(run())
    late_s = b.metrics.registry.get_sample_value("marketfeed_operator_loop_lag_seconds_sum")
    assert late_s == pytest.approx(0.3)
    assert b.progress._beat == b.now
