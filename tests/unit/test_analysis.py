"""The streaming job of a run on one machine: its settings, how far it is, and when it counts as finished."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from documents import changed
from marketfeed.analytics.thresholds import Thresholds, parse
from marketfeed.local import analysis
from marketfeed.local.analysis import Analysis, behind
from marketfeed.local.supervisor import Service, State
from marketfeed.local.workload import Addresses, Analytics, analytics_settings
from marketfeed.settings import AnalyticsSettings, Secret
from marketfeed_operator.plan import plan
from marketfeed_operator.spec import parse as parse_feed
from marketfeed_operator.up import workload

HERE = Addresses(kafka="127.0.0.1:19092", dsn=Secret("postgresql://marketfeed:hunter2@127.0.0.1:1/marketfeed"))
ENDS = {"trades": {"0": 10, "1": 0}, "quotes": {"0": 5}}


def _analytics(**alerts: float) -> Analytics:
    changes = {"spec.analytics": {"alerts": alerts}, "spec.channels": ["trade", "bookTicker"]}
    found = workload(plan(parse_feed(changed(changes)))).analytics
    assert found is not None
    return found


def _settings() -> AnalyticsSettings:
    settings = analytics_settings(_analytics(), HERE, Path("/run/analytics"))
    return replace(settings, trade_topic="trades", quote_topic="quotes")


def _stats(trades: Mapping[str, int], quotes: Mapping[str, int], at: datetime | None = None) -> dict[str, Any]:
    return {
        "queries": {
            "trade_metrics": {"processed": {"trades": trades}},
            "spread_metrics": {"processed": {"quotes": quotes}},
        },
        "reconciled_at": None if at is None else at.isoformat(),
    }


class _Nobody:
    """An observer that is told nothing worth a test."""

    def listening(self, name: str, entry: Mapping[str, Any]) -> None:
        """Pass."""

    def trouble(self, name: str, text: str) -> None:
        """Pass."""

    def gave_up(self, name: str, error: Exception) -> None:
        """Pass."""


def test_the_job_gets_this_machine_s_addresses() -> None:
    """Broker, database, progress and thresholds are the run's own; windows stay the feed's; no secret is shown."""
    settings = analytics_settings(_analytics(), HERE, Path("/run/analytics"))
    assert settings.kafka.bootstrap_servers == HERE.kafka
    assert settings.dsn == HERE.dsn
    assert (settings.checkpoint, settings.thresholds_file, settings.http.port) == (
        "/run/analytics/checkpoint", "/run/analytics/thresholds.json", 0,
    )  # fmt: skip
    assert settings.trade_window_ms == 60_000
    assert "hunter2" not in str(settings.to_env())


def test_thresholds_are_the_feed_s_own_digits() -> None:
    """No digit of a threshold is a floating-point artefact."""
    assert _analytics(volatility=0.1, volumeSpike=2.5, spread=3.3).thresholds == Thresholds(
        Decimal("0.1"), Decimal("2.5"), Decimal("3.3")
    )


@pytest.mark.parametrize("changes", [{}, {"spec.analytics": {"enabled": False}}])
def test_a_feed_without_analytics_has_no_job(changes: dict[str, Any]) -> None:
    """Neither without the section nor with it switched off."""
    assert workload(plan(parse_feed(changed(changes)))).analytics is None


def test_each_query_is_behind_by_itself() -> None:
    """A partition that was never read counts whole, an empty one not at all, and a silent job has done nothing."""
    settings = _settings()
    assert behind(settings, ENDS, {}) == 15
    assert behind(settings, ENDS, _stats({"0": 4}, {})) == 11
    assert behind(settings, ENDS, _stats({"0": 10}, {"0": 5})) == 0


def _finished(tmp_path: Path, answers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Return what `finished` says of a job that answers so, the last answer again and again."""
    (tmp_path / "logs").mkdir()
    job = Analysis(tmp_path, _Nobody(), lambda _text: None)
    job.settings = _settings()
    job.service = Service("job", lambda: None, tmp_path, _Nobody())  # type: ignore[arg-type,return-value]
    job.service.state = State.RUNNING

    async def stats() -> dict[str, Any]:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    monkeypatch.setattr(job, "stats", stats)
    monkeypatch.setattr(analysis, "POLL_S", 0.001)
    monkeypatch.setattr(analysis, "START_PATIENCE_S", 0.0)
    return asyncio.run(job.finished(ENDS, 0.05))


def test_a_job_is_finished_after_a_comparison_that_began_late_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All records and then a pass over the ledger: that is the end."""
    later = datetime.now(UTC) + timedelta(hours=1)
    assert _finished(tmp_path, [{}, _stats({"0": 10}, {"0": 5}, later)], monkeypatch) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "15 records"),
        (_stats({"0": 9}, {"0": 5}), "1 records"),
        (_stats({"0": 10}, {"0": 5}), "the comparison of its windows with the ledger"),
        (
            _stats({"0": 10}, {"0": 5}, datetime(2026, 1, 1, tzinfo=UTC)),
            "the comparison of its windows with the ledger",
        ),
    ],
)
def test_patience_ends_with_what_is_left(
    answer: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that stands still is waited for so long and no longer, also one that compared before it had everything."""
    assert _finished(tmp_path, [answer], monkeypatch) == words


def test_only_what_changed_restarts_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New thresholds go to the file that the running job watches; another window starts it anew; none ends it."""
    (tmp_path / "logs").mkdir()
    started: list[str] = []
    monkeypatch.setattr(Service, "start", lambda service: started.append(service.name))
    job = Analysis(tmp_path, _Nobody(), lambda _text: None)
    file = tmp_path / "analytics" / "thresholds.json"

    async def edits() -> None:
        first = _analytics(volatility=0.1)
        await job.apply(first, HERE)
        before = job.service
        await job.apply(_analytics(volatility=0.2), HERE)
        assert job.service is before
        assert parse(file.read_text()).volatility == Decimal("0.2")
        longer = replace(first, settings=replace(first.settings, trade_window_ms=120_000))
        await job.apply(longer, HERE)
        assert job.service is not before
        await job.apply(None, HERE)

    asyncio.run(edits())
    assert started == ["spot-analytics"] * 2
    assert job.service is None
