"""Metrics in a proof: what counts against it, how it is kept and said; and which windows of a batch are written."""

from __future__ import annotations

from decimal import Decimal

from marketfeed.analytics.store import divided
from marketfeed.ledger import Entry
from marketfeed.proof import MetricsProof, Proof, assemble
from marketfeed.verify import render, verdict
from metric_windows import minutes, trade_windows
from records import START_US

HELD = [Entry("binance", "BTCUSDT", "trade", START_US, 10, 0, 1, 10)]


def test_a_different_window_makes_the_proof_incomplete() -> None:
    """Ids are all there, one window is wrong: not complete, and the verdict says of what."""
    proof = assemble(HELD, HELD, [], [MetricsProof("trade_metrics", 3, 2, 1, ("BTCUSDT: volume is 1 and must be 2",))])
    assert not proof.complete
    assert verdict(proof) == "Not complete: 1 window of trade_metrics unlike the records."
    assert "  trade_metrics: 3 windows, 1 of them differ from the records, 1 complete" in list(render(proof))


def test_metrics_survive_json_and_may_be_absent_from_it() -> None:
    """A proof is read back as it was; one that was saved before there were metrics has none."""
    proof = assemble(HELD, HELD, [], [MetricsProof("trade_metrics", 3, 3, 1)])
    assert Proof.from_json(proof.to_json()) == proof
    older = {name: value for name, value in proof.to_json().items() if name != "metrics"}
    assert Proof.from_json(older).metrics == ()


def test_a_table_without_windows_is_not_mentioned() -> None:
    """No job fills it: the proof and its words are as without it."""
    proof = assemble(HELD, HELD, [], [MetricsProof("trade_metrics", 0, 0, 0)])
    assert (proof.complete, proof.metrics) == (True, ())
    assert not any("metrics" in line for line in render(proof))


def test_a_batch_is_divided_into_exact_windows_and_lost_ones() -> None:
    """One row for each key, that with most records, in the keys' order; a row that lacks a sum stands apart."""
    first, second = trade_windows(minutes(2))
    lost = first._replace(symbol="ETHUSDT", volume=None)
    more = first._replace(record_count=9, volume=Decimal(7))
    assert divided([second, more, lost, first]) == ([more, second], [lost])
