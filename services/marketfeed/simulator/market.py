"""The synthetic market: symbols whose orders and quotes come in bursts and move a book. Pure and seeded.

One seed, one set of symbols, one rate and one beginning give the same bytes on every machine. Payloads are Binance's
(reference: binance-spot-api-docs, web-socket-streams.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heappush, heapreplace
from random import Random
from types import MappingProxyType
from typing import NamedTuple
from zlib import crc32

from marketfeed.simulator.arrivals import Arrivals
from marketfeed.simulator.book import LEVELS, PRINTS, Book, Ladder
from marketfeed.simulator.instruments import Instrument, digits, streams_of
from marketfeed.simulator.source import Depth, Issued

CHANNELS = ("trade", "aggTrade", "bookTicker")

ORDER_SHARE = 0.35  # of the events that change a best price, the share that are taker orders

_MEAN_LEVELS = sum(LEVELS) / len(LEVELS)
_MEAN_PRINTS = sum(PRINTS) / len(PRINTS)
RECORDS_PER_EVENT = 1 + ORDER_SHARE * _MEAN_LEVELS * (1 + _MEAN_PRINTS)
"""Mean number of payloads of one event: a bookTicker and, for an order, its aggTrades and their trades."""

_MATCHING_MS = 3  # a payload's event time `E` lags its trade time `T` by up to this

_TRADE = b'{"e":"trade","E":%d,"s":"%b","t":%d,"p":"%b","q":"%b","T":%d,"m":%b,"M":true}'
_AGG_TRADE = b'{"e":"aggTrade","E":%d,"s":"%b","a":%d,"p":"%b","q":"%b","f":%d,"l":%d,"T":%d,"m":%b,"M":true}'
_BOOK_TICKER = b'{"u":%d,"s":"%b","b":"%b","B":"%b","a":"%b","A":"%b"}'


class History(NamedTuple):
    """Where an earlier run left a symbol: its last ids, its best bid in 1e-8 and its last event, ms since 1970 UTC."""

    trade_id: int
    agg_trade_id: int
    update_id: int
    bid: int
    time_ms: int


def _opening(listed: Instrument) -> History:
    """Return the past of a market that has traded for years; trades outnumber their aggregates."""
    mark = crc32(listed.symbol.encode())
    trade_id = 1_000_000_000 + mark % 4_000_000_000
    return History(trade_id, trade_id * 7 // 10, 10_000_000_000 + mark * 13, listed.opening * listed.tick, 0)


class _Listing:
    """One symbol's market: its book, its id counters and the payloads it issues."""

    def __init__(
        self, listed: Instrument, rate_per_s: float, seed: int, history: History | None, opened_ms: float
    ) -> None:
        """Open the market of one symbol `opened_ms` after the beginning."""
        past = history or _opening(listed)
        # Not for secrets: a market that can be repeated is the point.
        random = Random(f"{seed} {listed.symbol} {past.trade_id if history else ''}")  # noqa: S311
        self._draw = random.random
        self._name = listed.symbol.encode()
        self._tick, self._step = listed.tick, listed.step
        self._trade_stream, self._agg_stream, self._book_stream = streams_of([listed], CHANNELS)
        self._trade_id, self._agg_id = past.trade_id + 1, past.agg_trade_id + 1
        self._book = Book(past.bid // listed.tick, past.update_id + 1, random)
        self._arrivals = Arrivals(rate_per_s / RECORDS_PER_EVENT, random)
        self._traded_ms = past.time_ms
        self._opened_ms = opened_ms

    def next_time(self) -> float:
        """Return when the next event happens, ms after the beginning."""
        return self._opened_ms + self._arrivals.next()

    def happen(self, event_ms: int) -> list[Issued]:
        """Let one event happen at this event time (ms since 1970)."""
        issued: list[Issued] = []
        if self._draw() < ORDER_SHARE:
            self._order(event_ms, issued.append)
        else:
            self._book.quote()
        issued.append(self._book_ticker(event_ms))
        return issued

    def depth(self, limit: int) -> Depth:
        """Return the book's best levels."""
        return Depth(self._book.update_id, self._levels(self._book.bids, limit), self._levels(self._book.asks, limit))

    def _order(self, event_ms: int, issue: Callable[[Issued], None]) -> None:
        """Let one taker order trade: the prints at each price, then the aggregate of them."""
        side, fills = self._book.trade()
        maker_bought = b"false" if side == "buy" else b"true"
        name = self._name
        self._traded_ms = time_ms = max(self._traded_ms, event_ms - int(self._draw() * _MATCHING_MS))
        for fill in fills:
            price = digits(fill.price * self._tick)
            first = self._trade_id
            for quantity in fill.prints:
                text = digits(quantity * self._step)
                payload = _TRADE % (event_ms, name, self._trade_id, price, text, time_ms, maker_bought)
                issue(Issued(self._trade_stream, self._trade_id, time_ms, payload))
                self._trade_id += 1
            text = digits(sum(fill.prints) * self._step)
            last = self._trade_id - 1
            payload = _AGG_TRADE % (event_ms, name, self._agg_id, price, text, first, last, time_ms, maker_bought)
            issue(Issued(self._agg_stream, self._agg_id, time_ms, payload))
            self._agg_id += 1

    def _book_ticker(self, event_ms: int) -> Issued:
        book = self._book
        bid, ask = book.bids[-1], book.asks[-1]
        payload = _BOOK_TICKER % (
            book.update_id,
            self._name,
            digits(bid[0] * self._tick),
            digits(bid[1] * self._step),
            digits(ask[0] * self._tick),
            digits(ask[1] * self._step),
        )
        return Issued(self._book_stream, book.update_id, event_ms, payload)

    def _levels(self, ladder: Ladder, limit: int) -> list[tuple[str, str]]:
        return [
            (digits(price * self._tick).decode(), digits(size * self._step).decode())
            for price, size in ladder[: -limit - 1 : -1]
        ]


class Market:
    """All symbols together, `rate_per_s` payloads a second in the mean, shared out by the instruments' weights.

    A symbol with a history goes on with its ids and its price.
    """

    def __init__(
        self,
        instruments: Sequence[Instrument],
        rate_per_s: float,
        seed: int,
        histories: Mapping[str, History] = MappingProxyType({}),
    ) -> None:
        self.symbols: list[str] = []
        self.streams: list[str] = []
        self._rate_of_weight = rate_per_s / sum(listed.weight for listed in instruments)
        self._seed = seed
        self._listings: list[_Listing] = []
        self._index: dict[str, _Listing] = {}
        self._agenda: list[tuple[float, int]] = []
        self._last = 0.0  # when the last event happened, ms after the beginning
        self._began_ms = max((history.time_ms for history in histories.values()), default=0)
        self.add(instruments, histories)

    def add(self, instruments: Sequence[Instrument], histories: Mapping[str, History]) -> None:
        """List more symbols from now on; each is as busy as its weight makes it beside the first ones."""
        for listed in instruments:
            rate_per_s = self._rate_of_weight * listed.weight
            listing = _Listing(listed, rate_per_s, self._seed, histories.get(listed.symbol), self._last)
            heappush(self._agenda, (listing.next_time(), len(self._listings)))
            self._listings.append(listing)
            self._index[listed.symbol] = listing
            self.symbols.append(listed.symbol)
            self.streams.extend(streams_of([listed], CHANNELS))

    def begin(self, now_ms: int) -> None:
        """Open the market at this time, but not before its own past."""
        self._began_ms = max(now_ms, self._began_ms)

    def due(self) -> float:
        """Return when the next event happens; a synthetic market never ends."""
        return self._agenda[0][0]

    def step(self) -> list[Issued]:
        """Let the next event happen."""
        self._last, number = self._agenda[0]
        listing = self._listings[number]
        issued = listing.happen(self._began_ms + int(self._last))
        heapreplace(self._agenda, (listing.next_time(), number))
        return issued

    def depth(self, symbol: str, limit: int) -> Depth:
        """Return the symbol's book as of its last event."""
        return self._index[symbol].depth(limit)
