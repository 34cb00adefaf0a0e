"""Alerts and recording rules: each has its file, its runbook and its tests, and promtool runs them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

import rule_files
from marketfeed.metrics import AnalyticsMetrics, ConsumerMetrics, IngestorMetrics, ServiceMetrics
from marketfeed_operator.metrics import OperatorMetrics
from promtool import promtool
from rule_files import FILES, RUNBOOKS, TESTS, Rule, aggregations, alert, selectors

OF_TARGETS = {"namespace", "pod", "instance", "job", "feed", "component", "shard", "sink"}
"""Labels that a scrape adds: see the operator's PodMonitors, and the platform chart's Prometheus."""

every_alert = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Run the tests of all alerts in one promtool; return what it said of each, by the alert's file."""
    root = tmp_path_factory.mktemp("rules")
    for file in FILES:
        folder = root / file.stem
        folder.mkdir()
        (folder / "rules.yaml").write_text(yaml.safe_dump(rule_files.group([alert(file)]), sort_keys=False))
        (folder / "tests.yaml").write_text((TESTS / file.name).read_text())
    answer = promtool("test", "rules", *(f"{file.stem}/tests.yaml" for file in FILES), cwd=root)
    # Of a file that passes promtool says so on standard output, of one that fails on standard error.
    _, *parts = re.split(r"^Unit Testing: +(\S+)/tests\.yaml$", answer.stdout, flags=re.MULTILINE)
    said = dict(zip(parts[::2], parts[1::2], strict=True))
    return {file.stem: f"{said.get(file.stem, '')}{answer.stderr}" for file in FILES}


@every_alert
def test_an_alert_fires_when_it_must_and_is_quiet_when_it_must(file: Path, verdicts: Mapping[str, str]) -> None:
    """Every case of the alert's file in tests/rules ends as it says."""
    assert "SUCCESS" in verdicts[file.stem], verdicts[file.stem]


@every_alert
def test_an_alerts_tests_show_both(file: Path) -> None:
    """At least one case fires with all its labels, and one each stays quiet with series and without."""
    cases = yaml.safe_load((TESTS / file.name).read_text())["tests"]
    name = alert(file)["alert"]
    assert any(case.get("promql_expr_test") for case in cases)
    assert all(f'alertname="{name}"' in query["expr"] for case in cases for query in case.get("promql_expr_test", ()))
    quiet = [case for case in cases if case.get("alert_rule_test")]
    assert {check["alertname"] for case in quiet for check in case["alert_rule_test"]} == {name}
    assert not any("exp_alerts" in check for case in quiet for check in case["alert_rule_test"])
    assert len(quiet) >= 2


def test_no_test_and_no_runbook_is_left_over() -> None:
    """What an alert is called, its files are called: rule, test and runbook, each of them once."""
    names = {file.stem for file in FILES}
    assert {file.stem for file in TESTS.iterdir()} == names
    assert {file.stem for file in RUNBOOKS.iterdir()} == names
    assert len(names) > 20


@every_alert
def test_an_alert_says_what_is_wrong_and_where_to_read_on(file: Path) -> None:
    """Name, severity, summary, description and runbook are there, and the name is that of the file."""
    rule = alert(file)
    assert rule["alert"] == "Marketfeed" + "".join(map(str.capitalize, file.stem.split("-")))
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"] == f"runbooks/{file.stem}.md"


@every_alert
def test_a_runbook_helps_at_night(file: Path) -> None:
    """It has the alert's name, what it means, what to look at with commands, what to do, and when it is harmless."""
    text = (RUNBOOKS / f"{file.stem}.md").read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    assert headings == [alert(file)["alert"], "What it means", "Look", "Do", "Harmless when"]
    assert "```" in text


@every_alert
def test_an_alerts_texts_use_the_labels_that_it_has(file: Path) -> None:
    """Each label of summary and description is one that the firing cases show."""
    annotations = alert(file)["annotations"]
    assert set(re.findall(r"\$labels\.(\w+)", " ".join(annotations.values()))) <= _fired(file)


@every_alert
def test_one_broken_feed_is_one_alert(file: Path) -> None:
    """No pod, instance, shard or symbol is left in what fires: whoever is woken is woken once."""
    assert "namespace" in _fired(file)
    assert not _fired(file) & {"pod", "instance", "shard", "symbol", "partition", "job"}


def _fired(file: Path) -> set[str]:
    """Return the labels of the alerts that an alert's tests expect; promtool holds them to be exactly these."""
    cases = yaml.safe_load((TESTS / file.name).read_text())["tests"]
    samples = [
        sample["labels"]
        for case in cases
        for query in case.get("promql_expr_test", ())
        for sample in query["exp_samples"]
    ]
    return {label for labels in samples for label in re.findall(r"(\w+)=", labels)}


def test_promtool_takes_all_rules(tmp_path: Path) -> None:
    """Expressions, durations and the annotations' templates are right in the eyes of Prometheus itself."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule_files.group([*map(alert, FILES)])))
    answer = promtool("check", "rules", "rules.yaml", cwd=tmp_path)
    assert "SUCCESS" in answer.stdout, answer.stdout + answer.stderr
    assert answer.returncode == 0


def _expressions() -> Iterator[tuple[str, str]]:
    for rule in (*map(alert, FILES), *rule_files.recordings()):
        yield rule.get("alert") or rule["record"], rule["expr"]


def test_rules_ask_for_series_that_there_are() -> None:
    """Every metric of a rule is in a catalogue or recorded before, with the labels that it is chosen by."""
    known = _catalogue() | {"up": frozenset(), **_recorded(rule_files.recordings())}
    for name, expression in _expressions():
        for selector in selectors(expression):
            assert selector.name in known, f"{name} asks for {selector.name}, which nobody has"
            asked = {matcher.name for matcher in selector.matchers.matchers}
            assert asked <= known[selector.name] | OF_TARGETS, f"{name} asks {selector.name} for {sorted(asked)}"


def test_rules_count_by_labels_that_there_are() -> None:
    """What is kept by a sum is a label that a target or one of the metrics of the expression has."""
    known = _catalogue() | {"up": frozenset(), **_recorded(rule_files.recordings())}
    for name, expression in _expressions():
        labels = OF_TARGETS.union(*(known[str(selector.name)] for selector in selectors(expression)))
        assert frozenset().union(*aggregations(expression)) <= labels, name


def test_a_recorded_name_says_what_it_counts_by() -> None:
    """`level:metric:operation`: the level is what the outermost aggregation keeps, in its order."""
    for rule in rule_files.recordings():
        level, metric, _ = rule["record"].split(":")
        assert set(level.split("_")) == next(aggregations(rule["expr"])), rule["record"]
        assert metric.startswith("marketfeed_")


def test_rules_look_at_their_own_installation() -> None:
    """Every series is chosen by namespace, the operator's or its feeds'; only `offset` repeats a choice."""
    for name, expression in _expressions():
        for selector in selectors(expression):
            chosen = {matcher.name for matcher in selector.matchers.matchers}
            assert "namespace" in chosen or ":" in str(selector.name) or selector.offset is not None, name


def _catalogue() -> dict[str, frozenset[str]]:
    """Return all series that services and operator can have, with their labels."""
    registry = CollectorRegistry()
    for catalogue in (IngestorMetrics, ConsumerMetrics, AnalyticsMetrics, OperatorMetrics):
        made: Any = catalogue(registry)
        if isinstance(made, IngestorMetrics):
            made.last_records(list)
    ServiceMetrics(registry, "ingestor", lambda: None)
    return {name: labels for collector in _collectors(registry) for name, labels in _series(collector)}


def _collectors(registry: CollectorRegistry) -> set[Any]:
    return set(registry._collector_to_names)


def _series(collector: Any) -> Iterator[tuple[str, frozenset[str]]]:
    labels = frozenset(getattr(collector, "_labelnames", getattr(collector, "_labels", ())))
    families = collector.describe() if hasattr(collector, "_values") else collector.collect()
    for family in families:
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        yield from ((f"{family.name}{end}", labels | ({"le"} if end == "_bucket" else frozenset())) for end in ends)


def _recorded(rules: list[Rule]) -> dict[str, frozenset[str]]:
    return {rule["record"]: next(aggregations(rule["expr"])) for rule in rules}
