"""One symbol's order book and what traders do to it: orders that sweep it, quotes that move its best prices. Pure.

A zero-intelligence book: every action is drawn, none is planned. It keeps these promises: the best bid is below the
best ask, neither side is ever empty, and every action changes the best bid or the best ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from marketfeed.events import Side

DEPTH = 20  # levels that each side is filled up to
LEAST = 20  # steps that a level holds at least, so that it can be split into prints

# How many levels an order reaches and how many resting orders it meets at each: drawn from these rows, so that the mean
# number of payloads of an order is known exactly.
LEVELS = (1,) * 78 + (2,) * 13 + (3,) * 6 + (5,) * 2 + (8,)
PRINTS = (1,) * 66 + (2,) * 16 + (3,) * 9 + (5,) * 6 + (9,) * 3

_LARGEST_LEVEL = 10_000  # steps
_IMPROVE, _WITHDRAW = 0.5, 0.1  # shares of the quotes, where the spread lets them

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
        self._opening = opening = max(opening, DEPTH)
        self._lean = 0.5
        self._most_gap = max(1, opening // 50_000)  # ticks between levels: prices move by parts of a basis point
        self.update_id = update_id
        self.bids: Ladder = [[opening, self._size()]]
        self.asks: Ladder = [[opening + 1, self._size()]]
        self._deepen()

    def trade(self) -> tuple[Side, list[Fill]]:
        """Let one taker order sweep the other side; return its side and what it took, best price first."""
        side = self._taker_side()
        ladder = self.asks if side == "buy" else self.bids
        reach = min(LEVELS[int(self._draw() * 100)], len(ladder) - 1)
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
        if spread > 1 and what < _IMPROVE:
            inside = min(spread - 1, 1 + int(self._draw() * self._most_gap))
            ladder.append([ladder[-1][0] + (inside if bid else -inside), self._size()])
            del ladder[: -2 * DEPTH]
        elif spread < 3 * self._most_gap and what > 1 - _WITHDRAW and len(ladder) > 1:
            ladder.pop()
            self._deepen()
        else:
            level = ladder[-1]
            size = self._size()
            level[1] = size + (size == level[1])

    def _taker_side(self) -> Side:
        """Draw the taker's side. The leaning wanders, so that prices trend, and far from the opening it turns back."""
        away = (self.bids[-1][0] - self._opening) / self._opening
        lean = self._lean + (self._draw() - 0.5) * 0.01 + (0.5 - away - self._lean) * 0.002
        self._lean = min(0.6, max(0.4, lean))
        return "buy" if self._draw() < self._lean else "sell"

    def _fill(self, ladder: Ladder, *, last: bool) -> Fill:
        """Take the best level wholly or, where the order ends, in part."""
        level = ladder[-1]
        price, held = level
        taken = max(LEAST, int(held * self._draw())) if last else held
        self.update_id += 1
        if held - taken < LEAST:
            taken = held
            ladder.pop()
        else:
            level[1] = held - taken
        return Fill(price, self._split(taken))

    def _split(self, quantity: int) -> list[int]:
        """Cut a quantity (at least `LEAST`) into the prints that its makers get."""
        prints = []
        for left in range(PRINTS[int(self._draw() * 100)] - 1, 0, -1):
            part = min(1 + int(self._draw() * 2 * quantity / (left + 1)), quantity - left)
            prints.append(part)
            quantity -= part
        prints.append(quantity)
        return prints

    def _deepen(self) -> None:
        """Fill both sides up to `DEPTH` levels, behind the worst price and above nothing."""
        for ladder, away in ((self.bids, -1), (self.asks, 1)):
            while len(ladder) < DEPTH:
                price = ladder[0][0] + away * (1 + int(self._draw() * self._most_gap))
                if price < 1:
                    break
                ladder.insert(0, [price, self._size()])
                self.update_id += 1

    def _size(self) -> int:
        """Draw a level's quantity: many small ones, few large ones."""
        draw = self._draw()
        return LEAST + int(_LARGEST_LEVEL * draw * draw * draw)
