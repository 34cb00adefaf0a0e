"""What can go wrong with a node."""

from __future__ import annotations

from marketfeed.errors import MarketfeedError


class NodeFailed(MarketfeedError):
    """The node could not be started, used or ended; the message says why and what to do."""
