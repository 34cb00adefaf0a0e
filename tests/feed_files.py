"""The MarketFeeds that are kept as files: those that people start from, and those that only tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
MANIFESTS = _TESTS.parent / "manifests"
EXAMPLES = sorted((MANIFESTS / "examples").glob("*.yaml"))
"""Feeds to learn from; each has a name of its own."""
VARIANTS = [MANIFESTS / folder / "binance-spot.yaml" for folder in ("kind", "simulated")]
"""The first example as it stands on some small cluster; golden files are called after the folder, too."""
TEST_FEEDS = sorted((_TESTS / "golden" / "feeds").glob("*.yaml"))
"""Feeds that no user would write."""


def title(path: Path) -> str:
    """Return the name of a feed's golden files, unique among all."""
    return f"{path.parent.name}-{path.stem}" if path in VARIANTS else path.stem


every_feed = pytest.mark.parametrize("feed", [*EXAMPLES, *VARIANTS, *TEST_FEEDS], ids=title)
