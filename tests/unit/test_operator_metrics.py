"""The catalogue of the operator's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from marketfeed_operator.metrics import OperatorMetrics


def test_every_metric_is_named_and_explained() -> None:
    """Names begin with marketfeed_operator_, help texts are there, and times are in seconds by name."""
    registry = CollectorRegistry()
    OperatorMetrics(registry)
    families = list(registry.collect())
    assert len(families) >= 15
    for family in families:
        assert family.name.startswith("marketfeed_operator_")
        assert family.documentation
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_two_operators_do_not_meet() -> None:
    """Each registry has its own metrics."""
    one, other = CollectorRegistry(), CollectorRegistry()
    OperatorMetrics(one).reconciles.labels("ok").inc()
    OperatorMetrics(other)
    assert one.get_sample_value("marketfeed_operator_reconciles_total", {"result": "ok"}) == 1
    assert other.get_sample_value("marketfeed_operator_reconciles_total", {"result": "ok"}) is None


def test_a_reason_that_is_gone_counts_no_feed() -> None:
    """A feed whose Secret was made is not shown as lacking it any more."""
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    lacking, well = ("False", "SecretMissing"), ("True", "AllReady")
    metrics.show_reasons({lacking: 1, well: 2})
    metrics.show_reasons({well: 3})
    seen = {
        pair: registry.get_sample_value("marketfeed_operator_feeds_by_reason", {"ready": pair[0], "reason": pair[1]})
        for pair in (lacking, well)
    }
    assert seen == {lacking: 0, well: 3}
