"""The operator: what it reconciles, how it gets on with the API server, whether it is well."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from marketfeed_operator.dashboards.board import Board, Row, of_a_series
from marketfeed_operator.dashboards.panels import AMBER, RED, About, Limits, lines
from marketfeed_operator.dashboards.queries import PromQl

_CHOSEN = 'namespace=~"$namespace"'


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "operator",
        "operator",
        "What the operator does for feeds, and whether it gets on.",
        [of_a_series("namespace", "Namespace", "marketfeed_operator_leader")],
        [Row("Feeds", _feeds()), Row("Queue", _queue()), Row("API server", _api()), Row("Health", _health())],
    )


def _panel(title: str, description: str, unit: str, *queries: PromQl, limits: Limits = ()) -> timeseries.Panel:
    no_data = "no metrics: Prometheus has not found the operator"
    return lines(About(title, description, unit, 8, no_data=no_data, limits=limits), *queries)


def _rate(name: str, by: str) -> str:
    return f"sum by ({by}) (rate(marketfeed_operator_{name}{{{_CHOSEN}}}[$__rate_interval]))"


def _now(function: str, name: str) -> str:
    return f"{function} (marketfeed_operator_{name}{{{_CHOSEN}}})"


def _quantile(share: float, name: str, by: str) -> str:
    return f"histogram_quantile({share}, {_rate(f'{name}_bucket', by)})"


def _feeds() -> list[timeseries.Panel]:
    return [
        _panel(
            "Replica that leads",
            "1 while a replica holds the Lease. It is one replica at a time.",
            "short",
            PromQl(_now("max by (pod)", "leader"), "{{pod}}"),
        ),
        _panel(
            "Feeds",
            "Feeds by their condition Ready.",
            "short",
            PromQl(_now("max by (ready)", "feeds"), "{{ready}}"),
        ),
        _panel(
            "Reconciliations",
            "Reconciliations per second by how they ended.",
            "ops",
            PromQl(_rate("reconciles_total", "result"), "{{result}}"),
        ),
        _panel(
            "Errors",
            "Failed reconciliations per second by kind of error.",
            "ops",
            PromQl(_rate("errors_total", "kind"), "{{kind}}"),
        ),
        _panel(
            "Objects written",
            "Children written per second, by kind and by what made it necessary.",
            "ops",
            PromQl(_rate("children_applied_total", "kind, why"), "{{kind}} {{why}}"),
        ),
        _panel(
            "Time of a reconciliation",
            "Waits for the API server included.",
            "s",
            PromQl(_quantile(0.5, "reconcile_seconds", "le"), "half"),
            PromQl(_quantile(0.99, "reconcile_seconds", "le"), "99 %"),
        ),
    ]


def _queue() -> list[timeseries.Panel]:
    return [
        _panel("Queue", "Feeds that wait for a worker.", "short", PromQl(_now("max", "queue_depth"), "waiting")),
        _panel(
            "Oldest in the queue",
            "Age of the feed that has waited longest.",
            "s",
            PromQl(_now("max", "queue_oldest_seconds"), "oldest"),
            limits=[(60, AMBER), (300, RED)],
        ),
        _panel(
            "Retries",
            "Reconciliations per second that were put off after a failure.",
            "ops",
            PromQl(_rate("retries_total", "pod"), "{{pod}}"),
        ),
    ]


def _api() -> list[timeseries.Panel]:
    return [
        _panel(
            "API calls",
            "Requests per second by verb and answer; code 0 is one without an answer.",
            "reqps",
            PromQl(_rate("api_calls_total", "verb, code"), "{{verb}} {{code}}"),
        ),
        _panel(
            "Time of an API call",
            "99 of 100 requests took less.",
            "s",
            PromQl(_quantile(0.99, "api_seconds", "le, verb"), "{{verb}}"),
        ),
        _panel(
            "Held back",
            "Part of the time that requests were held back, by why.",
            "percentunit",
            PromQl(_rate("api_wait_seconds_total", "why"), "{{why}}"),
        ),
    ]


def _health() -> list[timeseries.Panel]:
    return [
        _panel(
            "Age of watches",
            "Time since a watch brought anything, bookmarks included.",
            "s",
            PromQl(_now("max by (kind)", "watch_age_seconds"), "{{kind}}"),
        ),
        _panel(
            "Loop lag",
            "99 of 100 timers of the event loop ran less late.",
            "s",
            PromQl(_quantile(0.99, "loop_lag_seconds", "le, pod"), "{{pod}}"),
        ),
        _panel(
            "Looks and events",
            "Looks at pods' figures per second by how they ended, and events that could not be written.",
            "ops",
            PromQl(_rate("samples_total", "result"), "looks: {{result}}"),
            PromQl(_rate("events_dropped_total", "pod"), "events dropped: {{pod}}"),
        ),
    ]
