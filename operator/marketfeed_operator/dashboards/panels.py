"""Panels as all dashboards have them: what a line, a bar, a figure, a table and a grid of states look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, candlestick, stat, statushistory, table, timeseries
from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as dashboard_builder
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)

from marketfeed_operator.dashboards.queries import POSTGRESQL, PROMETHEUS, PromQl, Query, Sql

Limits = Sequence[tuple[float, str]]
"""From which value on which colour; below the first it is green."""

GREEN, AMBER, RED, BLUE, GREY = "green", "orange", "red", "blue", "#808080"

_P = TypeVar("_P", timeseries.Panel, stat.Panel, table.Panel, statushistory.Panel, candlestick.Panel, bargauge.Panel)


@dataclass(frozen=True)
class About:
    """What every panel says of itself. `unit` is Grafana's name of a unit, `width` of 24 columns."""

    title: str
    description: str
    unit: str = "short"
    width: int = 12
    height: int = 8
    no_data: str = "nothing in this range"
    limits: Limits = ()


def lines(about: About, *queries: Query) -> timeseries.Panel:
    """Return lines over time; limits are lines across."""
    panel = _series(about, queries).draw_style(common.GraphDrawStyle.LINE).fill_opacity(6).span_nulls(180_000)
    if about.limits:
        style = common_builder.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds_style(style)
    return panel


def bars(about: About, *queries: Query) -> timeseries.Panel:
    """Return stacked bars over time: counts and sums."""
    stacking = common_builder.StackingConfig().mode(common.StackingMode.NORMAL).group("A")
    return _series(about, queries).draw_style(common.GraphDrawStyle.BARS).fill_opacity(60).stacking(stacking)


def logarithmic(panel: timeseries.Panel) -> timeseries.Panel:
    """Return the panel with a scale on which prices of any size show."""
    scale = common_builder.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
    return panel.scale_distribution(scale)


def with_threshold_line(panel: timeseries.Panel) -> timeseries.Panel:
    """Return the panel, in which the series `threshold` is a dashed red line."""
    looks = {
        "custom.lineStyle": {"fill": "dash", "dash": [10, 10]},
        "custom.fillOpacity": 0,
        "color": {"mode": "fixed", "fixedColor": RED},
    }
    return panel.override_by_regexp("threshold", _properties(looks))


def with_points(panel: timeseries.Panel, ref_id: str, color: str = RED) -> timeseries.Panel:
    """Return the panel, in which the series of one query are points."""
    looks = {
        "custom.drawStyle": "points",
        "custom.pointSize": 9,
        "custom.showPoints": "always",
        "color": {"mode": "fixed", "fixedColor": color},
    }
    return panel.override_by_query(ref_id, _properties(looks))


def figures(about: About, *queries: Query) -> stat.Panel:
    """Return single numbers, each the last of its series or the only one of its column."""
    panel = _dressed(stat.Panel(), about, queries).color_mode(common.BigValueColorMode.VALUE)
    panel = panel.graph_mode(common.BigValueGraphMode.NONE)
    return panel.reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]).values(False))  # noqa: FBT003 - the SDK's signature, which differs between its versions


def rows(about: About, query: Sql, units: Mapping[str, str]) -> table.Panel:
    """Return a table. units: of columns that have another than the panel's."""
    panel = _dressed(table.Panel(), about, [replace(query, format="table")]).cell_height(common.TableCellHeight.SM)
    for column, unit in units.items():
        panel = panel.override_by_name(column, _properties({"unit": unit}))
    return panel.filterable(filterable=True)


def states(about: About, query: Query, named: Mapping[str, tuple[str, str]]) -> statushistory.Panel:
    """Return a grid of series by time, coloured by value. named: of some values their text and colour."""
    panel = _dressed(statushistory.Panel(), about, [query]).show_value(common.VisibilityMode.NEVER)
    mapped: dict[str, ValueMappingResult] = {
        value: ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(named.items())
    }
    mappings: list[ValueMapping] = [ValueMap(options=mapped)]
    legend = common_builder.VizLegendOptions().show_legend(show_legend=False)
    return panel.mappings(mappings).legend(legend).line_width(1).fill_opacity(80).row_height(0.9)


def limited(limits: Limits) -> list[DynamicConfigValue]:
    """Return what makes the fields of an override green below, and coloured from the first limit on."""
    return [
        DynamicConfigValue(id_val="thresholds", value=_thresholds(limits).build()),
        DynamicConfigValue(id_val="color", value={"mode": FieldColorModeId.THRESHOLDS}),
    ]


def candles(about: About, query: Query) -> candlestick.Panel:
    """Return candles and volume of columns open, high, low, close and volume."""
    legend = common_builder.VizLegendOptions().show_legend(show_legend=False)
    return _dressed(candlestick.Panel(), about, [query]).legend(legend)


def _series(about: About, queries: Sequence[Query]) -> timeseries.Panel:
    legend = common_builder.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).show_legend(show_legend=True)
    tooltip = common_builder.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    panel = _dressed(timeseries.Panel(), about, queries).show_points(common.VisibilityMode.AUTO)
    return panel.legend(legend.placement(common.LegendPlacement.BOTTOM)).tooltip(tooltip).line_width(1)


def _dressed(panel: _P, about: About, queries: Sequence[Query]) -> _P:
    """Return the panel with what all have; queries are called A, B, C."""
    panel = panel.title(about.title).description(about.description).unit(about.unit).no_value(about.no_data)
    panel = panel.span(about.width).height(about.height).thresholds(_thresholds(about.limits))
    panel = panel.datasource(PROMETHEUS if isinstance(queries[0], PromQl) else POSTGRESQL)
    mode = FieldColorModeId.THRESHOLDS if about.limits and not _draws_lines(panel) else FieldColorModeId.PALETTE_CLASSIC
    panel = panel.color_scheme(dashboard_builder.FieldColor().mode(mode))
    if isinstance(queries[0], Sql):
        panel = panel.interval("1m").max_data_points(240)  # windows and ledger have minutes; a wide range needs no more
    for letter, query in zip("ABCDEFGHIJ", queries, strict=False):
        panel = panel.with_target(replace(query, ref_id=letter))
    return panel


def _draws_lines(panel: Builder[Panel]) -> bool:
    return isinstance(panel, timeseries.Panel | candlestick.Panel)


def _thresholds(limits: Limits) -> dashboard_builder.ThresholdsConfig:
    steps = [Threshold(value=None, color=GREEN), *(Threshold(value=value, color=color) for value, color in limits)]
    return dashboard_builder.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _properties(values: Mapping[str, object]) -> list[DynamicConfigValue]:
    return [DynamicConfigValue(id_val=name, value=value) for name, value in values.items()]
