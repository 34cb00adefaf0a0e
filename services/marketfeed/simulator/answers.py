"""What the venue's REST endpoints answer: parameters in, JSON values or a refusal out. No sockets, no clock.

Source: binance-spot-api-docs, rest-api.md and errors.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_DOWN, Decimal
from typing import Any, NamedTuple

from msgspec.structs import replace

from marketfeed.simulator import parameters
from marketfeed.simulator.journal import Journal
from marketfeed.simulator.listings import listing, rate_limits
from marketfeed.simulator.parameters import Query, Read, Refused, bad_combination
from marketfeed.simulator.payloads import AggTrade, agg_trade_key, read_agg_trade, read_trade, trade_key
from marketfeed.simulator.source import Source

Values = Mapping[str, Any]
"""The parameters of a request, read."""
Answer = Any
"""A JSON value."""

MOST_ROWS = 1000
DEFAULT_ROWS = 500
MOST_LEVELS = 5000
DEFAULT_LEVELS = 100
_FOREVER_MS = (1 << 63) - 1
_CENT = Decimal("0.00000001")

_ROWS: dict[str, Read] = {"symbol": parameters.symbol, "limit": parameters.limit}
_TIMES: dict[str, Read] = {"startTime": parameters.timestamp_us, "endTime": parameters.timestamp_us}
_FROM_ID: dict[str, Read] = {"fromId": parameters.number}
_STATUS: dict[str, Read] = {"symbolStatus": parameters.status}
_INFO: dict[str, Read] = {
    "symbol": parameters.symbol,
    "symbols": parameters.symbols,
    "permissions": parameters.words,
    "showPermissionSets": parameters.boolean,
}


class _Endpoint(NamedTuple):
    weight: int
    known: Mapping[str, Read]
    mandatory: tuple[str, ...]
    handler: Callable[[Values, int], Answer]


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


def in_microseconds(answer: Answer) -> Answer:
    """Return an answer with its times in us, as the venue gives them to who sends `X-MBX-TIME-UNIT: MICROSECOND`."""
    match answer:
        case list():
            return [in_microseconds(row) for row in answer]
        case AggTrade():
            return replace(answer, T=answer.T * 1000)
        case _:
            return answer | {name: answer[name] * 1000 for name in ("time", "serverTime") if name in answer}


class Answers:
    """The endpoints by name; `journals` are found by stream name."""

    def __init__(self, source: Source, journals: Mapping[str, Journal], weight_limit: int) -> None:
        self._source, self._journals = source, journals
        self.weight_limit = weight_limit
        symbol = ("symbol",)
        self._endpoints = {
            "ping": _Endpoint(1, {}, (), lambda _values, _now: {}),
            "time": _Endpoint(1, {}, (), lambda _values, now_ms: {"serverTime": now_ms}),
            "exchangeInfo": _Endpoint(20, _INFO | _STATUS, (), self._exchange_info),
            "depth": _Endpoint(5, _ROWS | _STATUS, symbol, self._depth),
            "trades": _Endpoint(25, _ROWS, symbol, self._trades),
            "historicalTrades": _Endpoint(25, _ROWS | _FROM_ID, symbol, self._historical_trades),
            "aggTrades": _Endpoint(4, _ROWS | _FROM_ID | _TIMES, symbol, self._agg_trades),
        }

    def weight(self, endpoint: str, query: Query) -> int | None:
        """Return what a request costs, or None for an endpoint that does not exist."""
        if endpoint not in self._endpoints:
            return None
        if endpoint != "depth":
            return self._endpoints[endpoint].weight
        try:
            limit = parameters.number("limit", query.get("limit", str(DEFAULT_LEVELS)))
        except Refused:
            limit = DEFAULT_LEVELS
        return next((weight for most, weight in ((100, 5), (500, 25), (1000, 50)) if limit <= most), 250)

    def answer(self, endpoint: str, query: Query, now_ms: int) -> Answer:
        """Return the JSON value of a known endpoint; raises Refused."""
        found = self._endpoints[endpoint]
        return found.handler(parameters.read(query, found.known, found.mandatory), now_ms)

    def _listed(self, symbol: str) -> str:
        if symbol not in self._source.symbols:
            raise Refused(-1121, "Invalid symbol.")
        return symbol

    def _journal(self, values: Values, channel: str) -> Journal | None:
        return self._journals.get(f"{self._listed(values['symbol']).lower()}@{channel}")

    def _trades(self, values: Values, _now_ms: int) -> Answer:
        journal = self._journal(values, "trade")
        return [trade_row(payload) for payload in (journal.last(_rows(values)) if journal else [])]

    def _historical_trades(self, values: Values, now_ms: int) -> Answer:
        if "fromId" not in values:
            return self._trades(values, now_ms)
        journal = self._journal(values, "trade")
        found = journal.from_id(values["fromId"], _rows(values), trade_key) if journal else []
        return [trade_row(payload) for payload in found]

    def _agg_trades(self, values: Values, _now_ms: int) -> Answer:
        journal, rows = self._journal(values, "aggTrade"), _rows(values)
        if "fromId" in values and values.keys() & _TIMES.keys():
            raise bad_combination()
        if journal is None:
            return []
        end_ms = values["endTime"] // 1000 if "endTime" in values else _FOREVER_MS
        if "fromId" in values:
            found = journal.from_id(values["fromId"], rows, agg_trade_key)
        elif "startTime" in values:
            found = journal.between(-(-values["startTime"] // 1000), end_ms, rows, agg_trade_key)
        elif "endTime" in values:
            found = journal.until(end_ms, rows, agg_trade_key)
        else:
            found = journal.last(rows)
        return [read_agg_trade(payload) for payload in found]

    def _depth(self, values: Values, _now_ms: int) -> Answer:
        symbol = self._listed(values["symbol"])
        if values.get("symbolStatus", "TRADING") != "TRADING":
            raise Refused(-1220, "The symbol's status does not match the requested symbolStatus.")
        book = self._source.depth(symbol, min(values.get("limit", DEFAULT_LEVELS), MOST_LEVELS))
        return {"lastUpdateId": book.update_id, "bids": book.bids, "asks": book.asks}

    def _exchange_info(self, values: Values, now_ms: int) -> Answer:
        return {
            "timezone": "UTC",
            "serverTime": now_ms,
            "rateLimits": rate_limits(self.weight_limit),
            "exchangeFilters": [],
            "symbols": [
                listing(symbol, permission_sets=values.get("showPermissionSets", True))
                for symbol in self._chosen(values)
            ],
        }

    def _chosen(self, values: Values) -> list[str]:
        """Return the symbols that a request for exchangeInfo asks for: named ones, or all that fit its filters."""
        named = values.keys() & {"symbol", "symbols"}
        if len(named) > 1 or (named and values.keys() & {"permissions", "symbolStatus"}):
            raise bad_combination()
        if named:
            return [self._listed(symbol) for symbol in values.get("symbols", [values.get("symbol")])]
        everything = values.get("symbolStatus", "TRADING") == "TRADING" and "SPOT" in values.get(
            "permissions", {"SPOT"}
        )
        return list(self._source.symbols) if everything else []


def _rows(values: Values) -> int:
    """Return the number of rows; more than the venue gives is cut to what it gives."""
    rows: int = min(values.get("limit", DEFAULT_ROWS), MOST_ROWS)
    return rows
