"""What the venue's REST endpoints answer: parameters in, JSON values or a refusal out. No sockets, no clock.

Source: binance-spot-api-docs, rest-api.md and errors.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_DOWN, Decimal
from typing import Any

from marketfeed.simulator.instruments import digits, instrument
from marketfeed.simulator.journal import Journal
from marketfeed.simulator.payloads import agg_trade_key, read_agg_trade, read_trade, trade_key
from marketfeed.simulator.source import Source

Parameters = Mapping[str, str]
Answer = Any
"""A JSON value."""

MOST_ROWS = 1000
DEFAULT_ROWS = 500
DEFAULT_LEVELS = 100
_FOREVER_MS = (1 << 63) - 1

_INTEGER = re.compile(r"[0-9]{1,20}", re.ASCII).fullmatch
_SYMBOL = re.compile(r"[A-Z0-9\-_.]{1,20}", re.ASCII).fullmatch
_CENT = Decimal("0.00000001")


class Refused(Exception):
    """A request that the venue answers with HTTP 400 and this body."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.body = {"code": code, "msg": message}


def trade_row(payload: bytes) -> dict[str, object]:
    """Return a trade as REST shows it."""
    row = read_trade(payload)
    value = (Decimal(row.p) * Decimal(row.q)).quantize(_CENT, ROUND_DOWN)
    return {
        "id": row.t,
        "price": row.p,
        "qty": row.q,
        "quoteQty": f"{value:f}",
        "time": row.T,
        "isBuyerMaker": row.m,
        "isBestMatch": row.M,
    }


class Answers:
    """The endpoints by name; `journals` are found by stream name."""

    def __init__(self, source: Source, journals: Mapping[str, Journal], weight_limit: int) -> None:
        self._source, self._journals = source, journals
        self.weight_limit = weight_limit
        self._endpoints: dict[str, tuple[int, frozenset[str], Callable[[Parameters, int], Answer]]] = {
            "ping": (1, frozenset(), lambda _query, _now: {}),
            "time": (1, frozenset(), lambda _query, now_ms: {"serverTime": now_ms}),
            "exchangeInfo": (
                20,
                frozenset({"symbol", "symbols", "permissions", "symbolStatus", "showPermissionSets"}),
                self._exchange_info,
            ),
            "depth": (5, frozenset({"symbol", "limit"}), self._depth),
            "trades": (25, frozenset({"symbol", "limit"}), self._trades),
            "historicalTrades": (25, frozenset({"symbol", "limit", "fromId"}), self._historical_trades),
            "aggTrades": (4, frozenset({"symbol", "limit", "fromId", "startTime", "endTime"}), self._agg_trades),
        }

    def weight(self, endpoint: str, query: Parameters) -> int | None:
        """Return what a request costs, or None for an endpoint that does not exist."""
        if endpoint not in self._endpoints:
            return None
        if endpoint != "depth":
            return self._endpoints[endpoint][0]
        text = query.get("limit", "")
        limit = int(text) if _INTEGER(text) else DEFAULT_LEVELS
        return next((weight for most, weight in ((100, 5), (500, 25), (1000, 50)) if limit <= most), 250)

    def answer(self, endpoint: str, query: Parameters, now_ms: int) -> Answer:
        """Return the JSON value of a known endpoint; raises Refused."""
        _, known, handler = self._endpoints[endpoint]
        read = sum(name in known for name in query)
        if read < len(query):
            text = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(query)}'."
            raise Refused(-1104, text)
        return handler(query, now_ms)

    def _symbol(self, query: Parameters) -> str:
        symbol = query.get("symbol", "")
        if not symbol:
            raise Refused(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        return self._listed(symbol)

    def _listed(self, symbol: str) -> str:
        if not _SYMBOL(symbol):
            raise _illegal("symbol", "^[A-Z0-9-_.]{1,20}$")
        if symbol not in self._source.symbols:
            raise Refused(-1121, "Invalid symbol.")
        return symbol

    def _journal(self, query: Parameters, channel: str) -> Journal | None:
        return self._journals.get(f"{self._symbol(query).lower()}@{channel}")

    def _trades(self, query: Parameters, _now_ms: int) -> Answer:
        journal, limit = self._journal(query, "trade"), _limit(query)
        return [trade_row(payload) for payload in (journal.last(limit) if journal else [])]

    def _historical_trades(self, query: Parameters, now_ms: int) -> Answer:
        first_id = _number(query, "fromId")
        if first_id is None:
            return self._trades(query, now_ms)
        journal, limit = self._journal(query, "trade"), _limit(query)
        return [trade_row(payload) for payload in (journal.from_id(first_id, limit, trade_key) if journal else [])]

    def _agg_trades(self, query: Parameters, _now_ms: int) -> Answer:
        journal, limit = self._journal(query, "aggTrade"), _limit(query)
        first_id, start, end = (_number(query, name) for name in ("fromId", "startTime", "endTime"))
        if first_id is not None and (start is not None or end is not None):
            raise Refused(-1128, "Combination of optional parameters invalid.")
        if journal is None:
            return []
        if first_id is not None:
            rows = journal.from_id(first_id, limit, agg_trade_key)
        elif start is not None:
            rows = journal.between(start, _FOREVER_MS if end is None else end, limit, agg_trade_key)
        elif end is not None:
            rows = journal.until(end, limit, agg_trade_key)
        else:
            rows = journal.last(limit)
        return [read_agg_trade(payload) for payload in rows]

    def _depth(self, query: Parameters, _now_ms: int) -> Answer:
        book = self._source.depth(self._symbol(query), _limit(query, DEFAULT_LEVELS, 5000))
        return {"lastUpdateId": book.update_id, "bids": book.bids, "asks": book.asks}

    def _exchange_info(self, query: Parameters, now_ms: int) -> Answer:
        symbols = list(self._source.symbols)
        if "symbol" in query and "symbols" in query:
            raise Refused(-1128, "Combination of optional parameters invalid.")
        if "symbol" in query:
            symbols = [self._listed(query["symbol"])]
        elif "symbols" in query:
            symbols = [self._listed(symbol) for symbol in _list(query["symbols"])]
        return {
            "timezone": "UTC",
            "serverTime": now_ms,
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.weight_limit}
            ],
            "exchangeFilters": [],
            "symbols": [_listing(symbol) for symbol in symbols],
        }


def _illegal(name: str, legal: str) -> Refused:
    return Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def _number(query: Parameters, name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text:
        raise Refused(-1105, f"Parameter '{name}' was empty.")
    if not _INTEGER(text):
        raise _illegal(name, "^[0-9]{1,20}$")
    return int(text)


def _limit(query: Parameters, default: int = DEFAULT_ROWS, most: int = MOST_ROWS) -> int:
    """Return the number of rows; more than the venue gives is cut to what it gives."""
    limit = _number(query, "limit")
    if limit is None:
        return default
    if limit == 0:
        raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(limit, most)


def _list(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except json.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise _illegal("symbols", '^\\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\\]$')
    return names


def _listing(symbol: str) -> dict[str, object]:
    """Return one symbol's row of exchangeInfo."""
    listed = instrument(symbol)
    tick, step = digits(listed.tick).decode(), digits(listed.step).decode()
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": listed.base,
        "baseAssetPrecision": 8,
        "quoteAsset": listed.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000000.00000000", "stepSize": step},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }
