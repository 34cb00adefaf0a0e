"""Sinks: where a consumer stores records. One module each, chosen by `ConsumerSettings.sink_type`.

Batching, retry, quarantine and offsets are the consumer's; a sink stores a batch in one transaction, or says why not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from marketfeed.errors import MarketfeedError
from marketfeed.events import Record
from marketfeed.ledger import StreamKey


class Refused(MarketfeedError):
    """The sink refuses something in this batch for good; nothing of the batch was stored. Halving finds the row."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What one batch did, by table: rows that were new, and rows that the sink already held; and of which streams."""

    new: dict[str, int]
    duplicate: dict[str, int]
    streams: frozenset[StreamKey] = frozenset()


class Sink(Protocol):
    """Stores batches. Each writer thread has a sink of its own, over one pool."""

    def store(self, records: Sequence[Record]) -> Stored:
        """Store the batch and its ledger in one transaction; storing it again changes nothing.

        Raises Unavailable when the sink cannot be reached now (try again), Refused when a row can never be stored.
        """

    def close(self) -> None:
        """Give the connection back."""
