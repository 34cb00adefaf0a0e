"""Grafana's dashboards and alert rules as files: current, whole, and about things that exist."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from charting import CHARTS
from grafana import DASHBOARDS, FILES, RULES, alert_rules, panels, targets
from marketfeed.metrics import AnalyticsMetrics, ConsumerMetrics, IngestorMetrics, ServiceMetrics
from marketfeed_operator.dashboards import queries
from marketfeed_operator.dashboards.catalog import boards, files
from marketfeed_operator.metrics import OperatorMetrics

PLATFORM = CHARTS / "marketfeed-platform"
SQL_SOURCE, PROMETHEUS = "grafana-postgresql-datasource", "prometheus"
UIDS = {SQL_SOURCE: "timescaledb", PROMETHEUS: "prometheus"}
OTHERS = {
    "up",  # Prometheus' own, of each target
    "process_cpu_seconds_total",  # of every process that uses its Python client
    "process_resident_memory_bytes",
}
"""Series that panels may name and no catalogue of ours has."""

LOADED: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}


def test_the_files_are_current() -> None:
    """The chart's dashboards and rules are what the builder makes, each of them and no other: else `make generate`."""
    made = files()
    folders = [FILES / "dashboards", FILES / "alerting"]
    assert {path for folder in folders for path in folder.iterdir()} == set(made)
    assert [path.name for path, text in made.items() if path.read_text(encoding="utf-8") != text] == []


def test_every_query_of_the_package_is_used() -> None:
    """A file of SQL that no panel, variable or rule names is a leftover."""
    said = "".join(path.read_text(encoding="utf-8") for path in (*DASHBOARDS, RULES))
    kept = {
        path: json.dumps(path.read_text("utf-8").strip(), ensure_ascii=False) for path in queries.FOLDER.rglob("*.sql")
    }
    rules = [rule["data"][0]["model"]["rawSql"] for rule in alert_rules().values()]
    unused = [
        path.name
        for path, text in kept.items()
        if text[1:-1] not in said and path.read_text("utf-8").strip() not in rules
    ]
    assert unused == []


@pytest.mark.parametrize("name", LOADED)
def test_a_dashboard_is_looked_at_in_the_same_way(name: str) -> None:
    """Each refreshes every 10 s, shows the last 30 minutes in UTC, and has its own lasting uid and the tag."""
    board = LOADED[name]
    assert board["uid"] == f"marketfeed-{name}"
    assert (board["refresh"], board["time"], board["timezone"]) == ("10s", {"from": "now-30m", "to": "now"}, "utc")
    assert board["tags"] == ["marketfeed"]


@pytest.mark.parametrize("name", ["market-overview", "risk-monitor", "completeness", "pipeline"])
def test_exchange_and_symbol_can_be_chosen(name: str) -> None:
    """Both are lists of what the ledger holds, several at once or all, and all at first."""
    chosen = {each["name"]: each for each in LOADED[name]["templating"]["list"]}
    for variable in (chosen["exchange"], chosen["symbol"]):
        assert (variable["multi"], variable["includeAll"], variable["current"]["value"]) == (True, True, ["$__all"])
        assert variable["datasource"]["uid"] == "timescaledb"


@pytest.mark.parametrize("name", LOADED)
def test_every_panel_says_what_it_shows(name: str) -> None:
    """Each has a title, a description, a unit, and words for when there is nothing to show."""
    for panel in panels(LOADED[name]):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"], panel["id"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]
        assert panel["targets"], panel["title"]


@pytest.mark.parametrize("name", LOADED)
def test_panels_are_numbered_and_named_once(name: str) -> None:
    """No two panels of a dashboard share a number or a title: rules and links name them by these."""
    board = LOADED[name]
    numbers = [each["id"] for each in board["panels"]] + [
        inner["id"] for each in board["panels"] if each["type"] == "row" for inner in each["panels"]
    ]
    titles = [panel["title"] for panel in panels(board)]
    assert len(numbers) == len(set(numbers))
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("name", LOADED)
def test_no_panel_covers_another(name: str) -> None:
    """Every panel lies within the 24 columns, and no two share a cell."""
    placed = LOADED[name]["panels"]
    cells = [_cells(panel["gridPos"]) for panel in placed]
    assert all(0 <= x < 24 for found in cells for x, _ in found)
    assert [(a["title"], b["title"]) for (a, one), (b, other) in _pairs(placed, cells) if one & other] == []


def _cells(place: Mapping[str, int]) -> set[tuple[int, int]]:
    columns = range(place["x"], place["x"] + place["w"])
    return set(itertools.product(columns, range(place["y"], place["y"] + place["h"])))


def _pairs(placed: list[Any], cells: list[set[tuple[int, int]]]) -> Iterator[Any]:
    return itertools.combinations(zip(placed, cells, strict=True), 2)


def test_data_sources_are_those_of_the_platform() -> None:
    """Dashboards and rules name the two data sources by the types and uids that the platform provisions."""
    text = (PLATFORM / "files/grafana/datasources.yaml").read_text()
    types = re.findall(r"^  type: (\S+)", text, re.MULTILINE)
    uids = re.findall(r"^  uid: (\w+)", text, re.MULTILINE)
    assert dict(zip(types, uids, strict=True)) == UIDS
    named = {(each["type"], each["uid"]) for board in LOADED.values() for each in _found(board, "datasource")}
    asked = {(each["type"], each["uid"]) for rule in alert_rules().values() for each in _found(rule, "datasource")}
    assert named == set(UIDS.items())
    assert asked == {(SQL_SOURCE, "timescaledb"), ("__expr__", "__expr__")}


def _found(value: Any, name: str) -> Iterator[Any]:
    """Yield what stands under this name, however deep."""
    if isinstance(value, dict):
        yield from (inner for key, inner in value.items() if key == name)
        yield from (deeper for inner in value.values() for deeper in _found(inner, name))
    elif isinstance(value, list):
        yield from (deeper for inner in value for deeper in _found(inner, name))


def test_what_runs_does_not_need_the_builder() -> None:
    """The operator's command, which the image runs, imports neither the dashboards nor what they are built with."""
    code = (
        "import sys, marketfeed_operator.operate, marketfeed_operator.up, marketfeed.cli;"
        "print([name for name in sys.modules if name.startswith(('grafana', 'marketfeed_operator.dashboards'))])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "target"), list(targets(PROMETHEUS)), ids=lambda each: each if isinstance(each, str) else ""
)
def test_promql_is_read_and_names_series_that_exist(name: str, target: dict[str, Any]) -> None:
    """Every expression of a panel parses, and each series in it is in a catalogue or in the short list of others."""
    named = set(_series(promql_parser.parse(_with_values(target["expr"]))))
    assert named, name
    assert named - _catalogue() - OTHERS == set()


def _with_values(expression: str) -> str:
    return expression.replace("$__rate_interval", "1m").replace("$__range", "30m")


def _series(expression: Any) -> Iterator[str]:
    """Yield the names of the series in a parsed expression."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression.name or ""
    for name in ("vector_selector", "expr", "lhs", "rhs", "param"):
        if (inner := getattr(expression, name, None)) is not None:
            yield from _series(inner)
    for argument in getattr(expression, "args", None) or ():
        yield from _series(argument)


@cache
def _catalogue() -> set[str]:
    """Return the names of all series that a process of ours can have; those without a value now have a type already."""
    registry = CollectorRegistry()
    for metrics in (IngestorMetrics, ConsumerMetrics, AnalyticsMetrics, OperatorMetrics):
        metrics(registry)
    ServiceMetrics(registry, "ingestor", lambda: None)
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", generate_latest(registry).decode(), re.MULTILINE))
    histograms = {
        f"{name}_{part}" for name, kind in kinds.items() if kind == "histogram" for part in ("bucket", "sum", "count")
    }
    return histograms | {name for name, kind in kinds.items() if kind != "histogram"}


def test_alert_rules_are_as_provisioning_wants_them() -> None:
    """One group, asked every 30 s, of rules that hold for a minute, take no data for good, and end in a threshold."""
    document = yaml.safe_load(RULES.read_text())
    assert document["apiVersion"] == 1
    (group,) = document["groups"]
    assert {name: group[name] for name in ("name", "folder", "interval", "orgId")} == {
        "name": "marketfeed",
        "folder": "marketfeed",
        "interval": "30s",
        "orgId": 1,
    }
    assert set(alert_rules()) == {"VolatilityAlert", "SpreadWarning", "VolumeSpike", "FeedIncomplete", "FeedStale"}
    assert len({rule["uid"] for rule in group["rules"]}) == len(group["rules"])
    for rule in group["rules"]:
        assert (rule["for"], rule["noDataState"], rule["condition"]) == ("1m", "OK", "C"), rule["title"]
        assert rule["execErrState"] in ("Error", "Alerting"), rule["title"]
        assert [step["refId"] for step in rule["data"]] == ["A", "B", "C"], rule["title"]
        assert [step["model"].get("type") for step in rule["data"]] == [None, "reduce", "threshold"], rule["title"]
        assert len(rule["uid"]) <= 40, rule["title"]


def test_alert_rules_say_what_where_and_how_bad() -> None:
    """Every rule has a severity, names exchange and symbol in its summary, and links to a panel that is there."""
    panels_of = {board["uid"]: {panel["id"] for panel in panels(board)} for board in LOADED.values()}
    for title, rule in alert_rules().items():
        assert rule["labels"]["severity"] in ("warning", "critical"), title
        assert "{{ .Labels.exchange }} {{ .Labels.symbol }}" in rule["annotations"]["summary"], title
        assert "{{ .Values.B.Value }}" in rule["annotations"]["description"], title
        assert rule["panelId"] in panels_of[rule["dashboardUid"]], title
        assert rule["annotations"]["dashboard"].startswith(f"/d/{rule['dashboardUid']}?var-exchange="), title


def test_alert_rules_hold_no_dollar_sign() -> None:
    """Grafana replaces $NAME in what it provisions by variables of its environment: macros and $labels would vanish."""
    assert "$" not in RULES.read_text()


def test_dashboards_fit_into_config_maps() -> None:
    """Each file is far below the 1 MiB that a ConfigMap may have."""
    assert all(path.stat().st_size < 256 * 1024 for path in (*DASHBOARDS, RULES))


def test_uids_and_titles_are_told_apart() -> None:
    """No two dashboards have one uid or one title: Grafana would keep the last."""
    made = boards()
    assert len({board.uid for board in made}) == len({board.title for board in made}) == len(made) == 5
