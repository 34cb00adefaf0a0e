"""The whole way, undisturbed: venue → ingestor → Kafka → consumer → PostgreSQL, compared with the venue's truth."""

from __future__ import annotations

import pytest

import truth
from pipeline import Pipeline


@pytest.mark.kafka
@pytest.mark.postgres
def test_table_equals_truth(pipeline: Pipeline) -> None:
    """Every payload of every stream is stored exactly once with its digits, and the proof is complete."""
    consumer, ingestor, simulator = pipeline.consume(), pipeline.ingest(), pipeline.simulate()
    pipeline.wait_for_rows(8_000)
    pipeline.finish(simulator, ingestor, consumer)
    issued = truth.issued(pipeline.truth)
    truth.assert_equal(truth.stored(pipeline.dsn), issued)
    truth.assert_ledger_agrees(pipeline.dsn)
