"""One symbol's order book and what traders do to it: orders that sweep it, quotes that move its best prices. Pure.

A zero-intelligence book: every action is drawn, none is planned. It keeps these promises: the best bid is below the best
ask, each side holds at least `DEPTH` levels, and every action changes the best bid or the best ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from marketfeed.events import Side

DEPTH = 20
LEAST = 20  # steps that a level holds at least, so that it can be split into prints

# How many levels an order reaches and how many resting orders it meets at each: drawn from these rows, so that the mean
# number of records of an order is known exactly.
LEVELS = (1,) * 78 + (2,) * 13 + (3,) * 6 + (5,) * 2 + (8,)
PRINTS = (1,) * 66 + (2,) * 16 + (3,) * 9 + (5,) * 6 + (9,) * 3

_MEAN_LEVEL = 4000  # steps
_MOST_PRICE_GAP = 6  # ticks between neighbouring levels

Ladder = list[list[int]]
"""Levels `[price in ticks, quantity in steps]`, the best one last."""


@dataclass(frozen=True, slots=True)
class Fill:
    """What an order took at one price: the quantity of each print, in steps."""

    price: int
    prints: list[int]


class Book:
    """The levels of one symbol around `opening` ticks; `update_id` grows with every level that changes."""

    def __init__(self, opening: int, update_id: int, random: Random) -> None:
        self._draw = random.random
        self._lean = 0.5
        self.update_id = update_id
        opening = max(opening, DEPTH * _MOST_PRICE_GAP)
        self.bids: Ladder = [[opening, self._size()]]
        self.asks: Ladder = [[opening + 1, self._size()]]
        self._deepen()

    def trade(self) -> tuple[Side, list[Fill]]:
        """Let one taker order sweep the other side; return its side and what it took, best price first."""
        side = self._lean_side()
        ladder = self.asks if side == "buy" else self.bids
        reach = LEVELS[int(self._draw() * 100)]
        fills = [self._fill(ladder, last=level == reach) for level in range(1, reach + 1)]
        self._deepen()
        return side, fills

    def quote(self) -> None:
        """Let one maker move the best bid or ask: a better price, a withdrawn one, or another quantity."""
        bid = self._draw() < self._lean
        ladder = self.bids if bid else self.asks
        spread = self.asks[-1][0] - self.bids[-1][0]
        what = self._draw()
        self.update_id += 1
        if spread > 1 and what < 0.5:  # noqa: PLR2004 - half of the makers improve a spread that has room
            inside = 1 + int(self._draw() * (spread - 1))
            ladder.append([ladder[-1][0] + (inside if bid else -inside), self._size()])
            if len(ladder) > 2 * DEPTH:
                del ladder[0]
        elif what > 0.9 and spread < 3 * _MOST_PRICE_GAP:  # noqa: PLR2004 - a tenth withdraw, not into a hole
            ladder.pop()
            self._deepen()
        else:
            level = ladder[-1]
            level[1] = (size := self._size()) + (size == level[1])

    def _lean_side(self) -> Literal["buy", "sell"]:
        """Draw the taker's side; the market's leaning wanders slowly, so that prices trend now and then."""
        self._lean = min(0.62, max(0.38, self._lean + (self._draw() - 0.5) * 0.01 + (0.5 - self._lean) * 0.002))
        return "buy" if self._draw() < self._lean else "sell"

    def _fill(self, ladder: Ladder, *, last: bool) -> Fill:
        """Take the best level wholly or, where the order ends, in part."""
        level = ladder[-1]
        price, held = level
        taken = held
        if last:
            taken = max(LEAST, int(held * self._draw()))
        self.update_id += 1
        if held - taken < LEAST:
            taken = held
            ladder.pop()
        else:
            level[1] = held - taken
        return Fill(price, self._split(taken))

    def _split(self, quantity: int) -> list[int]:
        """Cut a quantity (at least `LEAST`) into the prints that its makers get."""
        count = PRINTS[int(self._draw() * 100)]
        prints = []
        for left in range(count - 1, 0, -1):
            part = 1 + int(self._draw() * min(quantity - left, 2 * quantity // (left + 1)))
            part = min(part, quantity - left)
            prints.append(part)
            quantity -= part
        prints.append(quantity)
        return prints

    def _deepen(self) -> None:
        """Fill both sides up to `DEPTH` levels, behind the worst price; a price never falls to zero."""
        for ladder, away in ((self.bids, -1), (self.asks, 1)):
            while len(ladder) < DEPTH:
                worst = ladder[0][0] if ladder else self._reference(away)
                price = worst + away * (1 + int(self._draw() * _MOST_PRICE_GAP))
                ladder.insert(0, [price, self._size()])
                self.update_id += 1

    def _reference(self, away: int) -> int:
        """Return the best price of the other side, for a side that was swept empty."""
        return self.asks[-1][0] if away < 0 else self.bids[-1][0]

    def _size(self) -> int:
        """Draw a level's quantity: many small ones, few large ones."""
        draw = self._draw()
        return LEAST + int(_MEAN_LEVEL * 2.5 * draw * draw * draw)
