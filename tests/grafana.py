"""Grafana as far as tests need it: its macros in SQL, its variables, and how it evaluates an alert rule.

What does not live here: Grafana itself, which is no package that a test could fetch. Macros are those of its PostgreSQL
data source, for a database without TimescaleDB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from charting import CHARTS

FILES = CHARTS / "marketfeed-operator" / "files"
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
RULES = FILES / "alerting" / "rules.yaml"

_MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")  # Grafana's own: an argument may hold no parenthesis
_REDUCERS: dict[str, Callable[[Sequence[float]], float]] = {"max": max, "sum": sum, "last": lambda values: values[-1]}
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class View:
    """What somebody looks at: a time range, its interval, and the values chosen of each variable."""

    since: datetime
    until: datetime
    chosen: Mapping[str, Sequence[str]]
    interval_s: int = 60


def load(name: str) -> dict[str, Any]:
    """Return a committed dashboard by its file's stem."""
    found: dict[str, Any] = json.loads((FILES / "dashboards" / f"{name}.json").read_text())
    return found


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels that ask something, those of closed rows too."""
    for panel in dashboard["panels"]:
        yield from panel["panels"] if panel["type"] == "row" else [panel]


def targets(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (dashboard/panel/query, target) of every panel's queries to one kind of data source."""
    for path in DASHBOARDS:
        for panel in panels(json.loads(path.read_text())):
            for target in panel["targets"]:
                if target["datasource"]["type"] == kind:
                    yield f"{path.stem}/{panel['title']}/{target['refId']}", target


def alert_rules() -> dict[str, dict[str, Any]]:
    """Return the committed alert rules by title."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["title"]: rule for group in groups for rule in group["rules"]}


def expand(text: str, view: View) -> str:
    """Return SQL as Grafana sends it; raises KeyError for a macro or a variable that it does not know."""
    with_numbers = text.replace("$__interval_ms", str(view.interval_s * 1000))
    with_numbers = with_numbers.replace("$__interval", f"{view.interval_s}s")
    with_values = re.sub(r"\$([a-z]+)\b", lambda match: _list(view.chosen[match[1]]), with_numbers)
    expanded = _MACRO.sub(lambda match: _macro(match[1], match[2], view), with_values)
    if "$" in expanded:
        raise KeyError(re.findall(r"\$\S*", expanded))
    return expanded


def _list(values: Sequence[str]) -> str:
    return ",".join("'" + value.replace("'", "''") + "'" for value in values)


def _macro(name: str, arguments: str, view: View) -> str:
    since, until = (f"'{moment.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}'" for moment in (view.since, view.until))
    column, _, interval = (part.strip() for part in arguments.partition(","))
    known: dict[str, Callable[[], str]] = {
        "__timeFilter": lambda: f"{column} BETWEEN {since} AND {until}",
        "__timeFrom": lambda: since,
        "__timeTo": lambda: until,
        "__timeGroup": lambda: _group(column, interval),
        "__timeGroupAlias": lambda: f'{_group(column, interval)} AS "time"',
    }
    return known[name]()


def _group(column: str, interval: str) -> str:
    seconds = int(interval.strip("'")[:-1]) * _UNITS_S[interval.strip("'")[-1]]
    return f"floor(extract(epoch from {column})/{seconds})*{seconds}"


def firing(rule: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], bool]:
    """Return of each series, known by its labels, whether the rule's condition holds, as query, reduce, threshold say.

    rows: what the query returned, with columns time and value; all other columns are labels.
    """
    steps = {step["refId"]: step["model"] for step in rule["data"]}
    threshold = steps[rule["condition"]]
    reduction = steps[threshold["expression"]]
    assert (threshold["type"], reduction["type"], reduction["expression"]) == ("threshold", "reduce", "A")
    evaluator = threshold["conditions"][0]["evaluator"]
    assert evaluator["type"] == "gt"
    return {
        labels: _REDUCERS[reduction["reducer"]](values) > evaluator["params"][0]
        for labels, values in _series(rows).items()
    }


def _series(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], list[float]]:
    series: dict[tuple[str, ...], list[float]] = {}
    for row in sorted(rows, key=lambda row: row["time"]):
        labels = tuple(str(value) for name, value in row.items() if name not in ("time", "value"))
        series.setdefault(labels, []).append(float(row["value"]))
    return series
