"""The chart's rules as Prometheus reads them, without helm: files put together, placeholders replaced.

What does not live here: the chart's own rendering of them, which a chart test holds to be the same, and promtool.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

CHART = Path(__file__).parents[1] / "charts" / "marketfeed-operator"
FILES = sorted((CHART / "files" / "rules").glob("*.yaml"))
RECORDING = CHART / "files" / "recording-rules.yaml"
RUNBOOKS = CHART / "runbooks"
TESTS = Path(__file__).parent / "rules"

Rule = dict[str, Any]


def alert(file: Path, namespace: str = "marketfeed", feeds: str = ".+") -> Rule:
    """Return the one alert of a file.

    namespace: the release's. feeds: the namespaces of the feeds that are meant, a regular expression.
    """
    rule: Rule = yaml.safe_load(_filled(file, namespace, feeds))
    return rule


def recordings(namespace: str = "marketfeed", feeds: str = ".+") -> list[Rule]:
    """Return the recording rules, in the order of their evaluation."""
    rules: list[Rule] = yaml.safe_load(_filled(RECORDING, namespace, feeds))
    return rules


def group(alerts: list[Rule], namespace: str = "marketfeed", feeds: str = ".+") -> dict[str, Any]:
    """Return a rules file as Prometheus loads it: the recording rules, then these alerts."""
    return {"groups": [{"name": "marketfeed", "rules": [*recordings(namespace, feeds), *alerts]}]}


def selectors(expression: str) -> Iterator[promql_parser.VectorSelector]:
    """Yield every series selector of an expression."""
    yield from _selectors(promql_parser.parse(expression))


def aggregations(expression: str) -> Iterator[frozenset[str]]:
    """Yield the labels that each aggregation of an expression keeps."""
    yield from _aggregations(promql_parser.parse(expression))


def _filled(file: Path, namespace: str, feeds: str) -> str:
    return file.read_text().replace("RELEASE_NAMESPACE", namespace).replace("FEED_NAMESPACES", feeds)


def _selectors(expression: Any) -> Iterator[promql_parser.VectorSelector]:
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for part in _parts(expression):
        yield from _selectors(part)


def _aggregations(expression: Any) -> Iterator[frozenset[str]]:
    if isinstance(expression, promql_parser.AggregateExpr):
        yield frozenset(expression.modifier.labels if expression.modifier else ())
    for part in _parts(expression):
        yield from _aggregations(part)


def _parts(expression: Any) -> Iterator[Any]:
    """Yield what an expression is made of, one level down."""
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        if hasattr(expression, name):
            yield getattr(expression, name)
    yield from getattr(expression, "args", ())
