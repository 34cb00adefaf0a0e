"""Venues, one module each: add a file here, name it in `_VENUES`, and run the contract tests.

A venue is sans-I/O: it makes URLs and messages and understands frames; sockets, clocks and retries are the shells'.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from marketfeed.errors import ConfigurationError

if TYPE_CHECKING:
    from marketfeed.exchanges.base import Venue

_VENUES = {"binance": "marketfeed.exchanges.binance", "binance_us": "marketfeed.exchanges.binance_us"}

NAMES = tuple(sorted(_VENUES))


def venue(name: str) -> Venue:
    """Return the venue of that name; raises ConfigurationError that lists the known ones."""
    module = _VENUES.get(name)
    if module is None:
        near = get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigurationError(f"exchange {name!r} is not known (known: {', '.join(NAMES)}){hint}")
    found: Venue = import_module(module).VENUE
    return found
