"""What the simulated venue lists: each symbol's assets, grids, opening price and share of the traffic. No I/O.

Prices and quantities are whole numbers of 1e-8, the precision in which Binance writes both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from marketfeed.errors import ConfigurationError

UNIT = 100_000_000
"""One whole coin, in 1e-8."""

_SYMBOL = re.compile(r"[A-Z0-9]{3,20}", re.ASCII).fullmatch
_QUOTES = ("USDT", "FDUSD", "USDC", "TUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One spot pair. `tick` and `step` are the grids of prices and quantities, in 1e-8; `opening` is in ticks."""

    symbol: str
    base: str
    quote: str
    tick: int
    step: int
    opening: int
    weight: float = 1.0


def units(text: str) -> int:
    """Return a decimal text as a whole number of 1e-8."""
    whole, _, part = text.partition(".")
    return int(whole) * UNIT + int(f"{part:0<8.8}")


@lru_cache(maxsize=1 << 15)  # a market repeats its numbers; a hit costs a fifth of writing one
def digits(value: int) -> bytes:
    """Return a number of 1e-8 as the venue writes it, with eight decimals: `39432.48000000`."""
    return b"%d.%08d" % divmod(value, UNIT)


def instrument(symbol: str) -> Instrument:
    """Return the listed instrument, or a plausible one for a symbol that the catalogue does not hold."""
    row = _CATALOGUE.get(symbol)
    base, quote = _assets(symbol)
    if row is None:
        return Instrument(symbol, base, quote, tick=10_000, step=10_000_000, opening=12_500)
    tick, step, opening, weight = row
    return Instrument(symbol, base, quote, tick, step, opening, weight)


def parse_symbols(text: str) -> tuple[Instrument, ...]:
    """Read `BTCUSDT,ETHUSDT:2.5`: symbols with, where wanted, a weight. Raises ConfigurationError."""
    found: dict[str, Instrument] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        symbol, _, weight = part.partition(":")
        if _SYMBOL(symbol) is None:
            raise ConfigurationError(f"{symbol!r} is not a symbol: write upper-case letters and digits, as BTCUSDT")
        if symbol in found:
            raise ConfigurationError(f"{symbol} is named twice")
        found[symbol] = _weighted(instrument(symbol), weight)
    if not found:
        raise ConfigurationError("no symbol is named: write for example BTCUSDT,ETHUSDT")
    return tuple(found.values())


def _weighted(listed: Instrument, weight: str) -> Instrument:
    if not weight:
        return listed
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigurationError(f"{weight!r} is not a weight of {listed.symbol}: write a number above 0")
    return replace(listed, weight=value)


def _assets(symbol: str) -> tuple[str, str]:
    """Split a symbol into base and quote asset by the quotes that the venue knows."""
    for quote in _QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    return symbol[:-3] or symbol, symbol[-3:]


def streams_of(instruments: Sequence[Instrument], channels: Sequence[str]) -> list[str]:
    """Return the stream names, lower case as on the wire, of every instrument on every channel."""
    return [f"{listed.symbol.lower()}@{channel}" for listed in instruments for channel in channels]


# symbol: tick and step in 1e-8, opening price in ticks, weight. Grids as the venue's exchangeInfo gave them in 2025.
_CATALOGUE: dict[str, tuple[int, int, int, float]] = {
    "BTCUSDT": (1_000_000, 1_000, 6_745_210, 10.0),
    "ETHUSDT": (1_000_000, 10_000, 341_875, 6.0),
    "SOLUSDT": (1_000_000, 100_000, 15_432, 4.0),
    "BNBUSDT": (1_000_000, 100_000, 60_120, 3.0),
    "XRPUSDT": (10_000, 10_000_000, 5_234, 3.0),
    "DOGEUSDT": (1_000, 100_000_000, 12_345, 2.5),
    "ADAUSDT": (10_000, 10_000_000, 4_512, 1.5),
    "AVAXUSDT": (1_000_000, 1_000_000, 3_541, 1.2),
    "LINKUSDT": (1_000_000, 1_000_000, 1_432, 1.2),
    "LTCUSDT": (1_000_000, 100_000, 8_123, 1.0),
    "TRXUSDT": (10_000, 10_000_000, 1_287, 1.0),
    "DOTUSDT": (100_000, 1_000_000, 6_214, 1.0),
    "BTCUSDC": (1_000_000, 1_000, 6_745_000, 2.0),
    "ETHBTC": (1_000, 10_000, 5_068, 0.8),
    "XRPETH": (1, 100_000_000, 141_342, 0.3),
    "BNBBTC": (1_000, 100_000, 891, 0.3),
}
