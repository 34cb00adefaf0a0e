"""Whole dashboards: what they have in common, their variables, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    RowPanel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from marketfeed_operator.dashboards.queries import POSTGRESQL, PROMETHEUS, sql_text

TAG = "marketfeed"


@dataclass(frozen=True)
class Row:
    """A heading and the panels below it. A closed one asks nothing until it is opened."""

    title: str
    panels: Sequence[Builder[Panel]]
    is_closed: bool = False


@dataclass(frozen=True)
class Board:
    """One dashboard: its file's name, which is a part of its uid, and what is on it."""

    name: str
    title: str
    description: str
    variables: Sequence[Builder[VariableModel]]
    rows: Sequence[Row]

    @property
    def uid(self) -> str:
        """What links and alert rules name it by; never changed."""
        return f"marketfeed-{self.name.replace('_', '-')}"

    def build(self) -> Dashboard:
        """Return the dashboard, every panel with its number and its place."""
        board = builder.Dashboard(f"marketfeed / {self.title}").uid(self.uid).description(self.description)
        board = board.tags([TAG]).refresh("10s").time("now-30m", "now").timezone("utc").editable()
        board = board.tooltip(DashboardCursorSync.CROSSHAIR).variables(list(self.variables)).link(_links())
        for row in self.rows:
            board = _with_row(board, row)
        built = board.build()
        for number, panel in enumerate(_panels(built), start=1):
            panel.id_val = number
        return built

    def text(self) -> str:
        """Return its JSON, the same for the same code."""
        return json.dumps(self.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def panel_number(board: Board, title: str) -> int:
    """Return the number of the panel with this title; raises KeyError for one that is not there."""
    return {panel.title: panel.id_val for panel in _panels(board.build())}[title] or 0


def of_the_table(name: str, label: str) -> builder.QueryVariable:
    """Return a variable with the values that the ledger has, of which all are chosen at first."""
    return _chosen(builder.QueryVariable(name).label(label).datasource(POSTGRESQL).query(sql_text(f"variables/{name}")))


def of_a_series(name: str, label: str, series: str) -> builder.QueryVariable:
    """Return a variable with the values that a label of one series has, of which all are chosen at first."""
    query: dict[str, object] = {"query": f"label_values({series}, {name})", "refId": "A", "qryType": 1}
    return _chosen(builder.QueryVariable(name).label(label).datasource(PROMETHEUS).query(query))


def exchange_and_symbol() -> list[builder.QueryVariable]:
    """Return the two variables of all that is about a market."""
    return [of_the_table("exchange", "Exchange"), of_the_table("symbol", "Symbol")]


def _chosen(variable: builder.QueryVariable) -> builder.QueryVariable:
    everything = VariableOption(selected=True, text=["All"], value=["$__all"])
    variable = variable.multi(multi=True).include_all(include_all=True).current(everything)
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)


def _links() -> builder.DashboardLink:
    link = builder.DashboardLink("marketfeed").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(as_dropdown=True).include_vars(include_vars=True).keep_time(keep_time=True)


def _with_row(board: builder.Dashboard, row: Row) -> builder.Dashboard:
    head = builder.Row(row.title).collapsed(collapsed=row.is_closed)
    if row.is_closed:
        for panel in row.panels:
            head = head.with_panel(panel)
        return board.with_row(head)
    board = board.with_row(head)
    for panel in row.panels:
        board = board.with_panel(panel)
    return board


def _panels(board: Dashboard) -> Iterator[Any]:
    """Yield every panel and row, those inside of closed rows too."""
    for panel in board.panels or []:
        yield panel
        if isinstance(panel, RowPanel):
            yield from panel.panels
