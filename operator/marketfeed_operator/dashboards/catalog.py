"""All dashboards, and the chart's files that they and the alert rules become."""

from __future__ import annotations

from pathlib import Path

from marketfeed_operator.dashboards import (
    alerting,
    completeness,
    market_overview,
    operations,
    pipeline,
    risk_monitor,
)
from marketfeed_operator.dashboards.board import Board

FILES = Path(__file__).parents[3] / "charts" / "marketfeed-operator" / "files"
"""Where the operator's chart keeps them, in the checkout."""


def boards() -> list[Board]:
    """Return every dashboard. A new one is a module, its SQL, and a line here."""
    return [module.board() for module in (market_overview, risk_monitor, completeness, pipeline, operations)]


def files() -> dict[Path, str]:
    """Return the files' texts by path."""
    dashboards = {FILES / "dashboards" / f"{board.name.replace('_', '-')}.json": board.text() for board in boards()}
    return dashboards | {FILES / "alerting" / "rules.yaml": alerting.text()}
