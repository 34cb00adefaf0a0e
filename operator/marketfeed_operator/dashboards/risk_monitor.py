"""The flags: volatility, spikes of volume, wide spreads, and the alerts that they raised."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat, table, timeseries

from marketfeed_operator.dashboards.board import Board, Row, exchange_and_symbol
from marketfeed_operator.dashboards.panels import (
    AMBER,
    RED,
    About,
    bars,
    figures,
    lines,
    rows,
    with_points,
    with_threshold_line,
)
from marketfeed_operator.dashboards.queries import Sql

VOLATILITY, VOLUME, SPREAD = "Volatility", "Volume against its baseline", "Spread"
"""Titles of the panels that alert rules point at."""

_NO_WINDOWS = "no windows in this range: the streaming job writes them"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "risk_monitor",
        "risk monitor",
        "What the feed's thresholds flag, and what it was judged by.",
        exchange_and_symbol(),
        [Row("Flags", [_counts(), _flags()]), Row("Figures", _judged()), Row("Alerts", [_alerts()])],
    )


def _counts() -> stat.Panel:
    about = About(
        "Flags of the range",
        "Flags by kind; those that a correction took back are counted apart.",
        no_data="no flags",
        limits=[(1, AMBER), (10, RED)],
    )
    return figures(about, Sql("risk_monitor/flag_counts", "table"))


def _flags() -> timeseries.Panel:
    return bars(
        About("Flags over time", "Windows that were flagged, by kind.", no_data="no flags"), Sql("risk_monitor/flags")
    )


def _judged() -> list[timeseries.Panel]:
    volatility = About(
        VOLATILITY,
        "Standard deviation of a window's prices as a share of its VWAP; dashed: the threshold.",
        unit="percentunit",
        no_data=_NO_WINDOWS,
    )
    volume = About(
        VOLUME,
        "Volume as a multiple of the mean of the five windows before; dots: spikes; dashed: the threshold.",
        unit="none",
        no_data="no baseline yet: five windows make one",
    )
    spread = About(
        SPREAD,
        "Mean and least spread in basis points; dots: windows whose mean is too many times their least.",
        unit="none",
        width=24,
        no_data="no quotes in this range: the feed needs the channel bookTicker",
    )
    return [
        with_threshold_line(
            lines(volatility, Sql("risk_monitor/volatility"), Sql("risk_monitor/volatility_threshold"))
        ),
        with_points(
            with_threshold_line(
                lines(
                    volume,
                    Sql("risk_monitor/volume_ratio"),
                    Sql("risk_monitor/volume_spikes"),
                    Sql("risk_monitor/volume_threshold"),
                )
            ),
            "B",
        ),
        with_points(lines(spread, Sql("risk_monitor/spread"), Sql("risk_monitor/spread_warnings")), "B"),
    ]


def _alerts() -> table.Panel:
    about = About("Alerts", "Each flag with the figures that it was made of.", "none", 24, 10, no_data="no flags")
    return rows(about, Sql("risk_monitor/alerts"), {})
