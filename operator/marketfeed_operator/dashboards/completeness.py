"""The promise: what the ledger proves, what is missing, what was repaired and corrected."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat, statushistory, table, timeseries

from marketfeed_operator.dashboards.board import Board, Row, exchange_and_symbol
from marketfeed_operator.dashboards.panels import (
    AMBER,
    GREEN,
    GREY,
    RED,
    About,
    bars,
    figures,
    limited,
    lines,
    rows,
    states,
)
from marketfeed_operator.dashboards.queries import PromQl, Sql

MINUTES = "Minutes of each stream"
"""Title of the panel that alert rules point at."""

_NO_LEDGER = "nothing stored in this range"
_NO_WINDOWS = "no windows in this range: the streaming job writes them"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "completeness",
        "completeness",
        "What the venue numbered, what is stored, and how it is known.",
        exchange_and_symbol(),
        [
            Row("Ids", [_totals(), _minutes(), _gaps(), _repairs()]),
            Row("Windows", [*_windows(), _waiting()]),
            Row("The consumers' own checks of the last hour", _proofs()),
        ],
    )


def _totals() -> stat.Panel:
    about = About(
        "Range",
        "Rows of streams whose ids can prove them, ids that are missing between them, and rows that a repair brought.",
        width=24,
        height=4,
        no_data=_NO_LEDGER,
    )
    panel = figures(about, Sql("completeness/totals", "table"))
    return panel.override_by_regexp("missing|minutes with gaps", limited([(1, RED)]))


def _minutes() -> statushistory.Panel:
    about = About(
        MINUTES,
        "Green: every id is stored. Red: ids are missing. Grey: ids that prove nothing. Empty: nothing was stored.",
        width=24,
        height=10,
        no_data=_NO_LEDGER,
        limits=[(1, RED)],
    )
    named = {"-1": ("cannot be proven", GREY), "0": ("proven", GREEN)}
    return states(about, Sql("completeness/minutes"), named)


def _gaps() -> table.Panel:
    about = About("Gaps", "Minutes that lack ids, the newest first.", "none", no_data="no gap in this range")
    return rows(about, Sql("completeness/gaps"), {})


def _repairs() -> timeseries.Panel:
    about = About("Repairs", "Rows that came by backfill.", no_data="nothing was repaired in this range")
    return bars(about, Sql("completeness/repairs"))


def _windows() -> list[timeseries.Panel]:
    share = About(
        "Complete windows",
        "Share of each symbol's windows that the ledger proves; the newest three minutes are left out.",
        unit="percentunit",
        width=8,
        no_data=_NO_WINDOWS,
    )
    corrected = About(
        "Corrected windows",
        "Windows computed anew from the stored records, because the ledger counted others.",
        width=8,
        no_data="nothing was corrected in this range",
    )
    return [
        lines(share, Sql("completeness/complete_share")).min(0).max(1),
        bars(corrected, Sql("completeness/corrections")),
    ]


def _waiting() -> stat.Panel:
    about = About(
        "Corrections to come",
        "Minutes in which something was stored late, and whose windows are not compared again yet.",
        width=8,
        no_data="nothing waits",
        limits=[(300, AMBER), (900, RED)],
    )
    return figures(about, Sql("completeness/waiting", "table"))


def _proofs() -> list[stat.Panel | timeseries.Panel]:
    ids = About(
        "Proof of the last hour",
        "Ids that were expected, stored and missing when a consumer last read the ledger.",
        no_data="no consumer has checked yet",
    )
    streams = About(
        "Streams without a proof",
        "Streams whose ids prove nothing, as book tickers.",
        width=6,
        no_data="no consumer has checked yet",
    )
    age = About(
        "Age of the check",
        "Time since a consumer last read the ledger.",
        unit="s",
        width=6,
        no_data="no consumer has checked yet",
        limits=[(180, AMBER), (600, RED)],
    )
    return [
        lines(ids, PromQl("max by (sink, state) (marketfeed_proof_ids)", "{{sink}} {{state}}")),
        figures(streams, PromQl("max by (sink) (marketfeed_proof_unprovable_streams)", "{{sink}}")),
        figures(age, PromQl("time() - max by (sink) (marketfeed_proof_timestamp_seconds)", "{{sink}}")),
    ]
