"""The simulated venue of a run: which command starts it, and where it answers.

It keeps its ports over restarts, and its truth: a synthetic market goes on after the last ids that it issued.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from marketfeed.errors import Unavailable
from marketfeed.local.child import Command, Entry, marketfeed
from marketfeed.local.endpoints import Simulator
from marketfeed.local.supervisor import Observer, Service

NAME = "simulator"
ANSWER_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Market:
    """What the venue plays: recordings (`replay`), else a synthetic market.

    speed: a factor, or `max`; rate: payloads per second, all symbols together; seed: what the market is drawn from.
    """

    replay: Path | None = None
    speed: str = "1"
    rate: float | None = None
    seed: int | None = None


def arguments(
    market: Market, symbols: Iterable[str], streams: int, truth: Path, address: Simulator | None
) -> list[str]:
    """Return the arguments of `marketfeed simulate`; `address` is where it answered before, `streams` are the planned.

    The market begins when every planned stream is subscribed: its truth then holds nothing that nobody was there for.
    """
    chosen: dict[str, object | None] = {"--seed": market.seed, "--rate": market.rate}
    chosen |= {"--speed": market.speed, "--truth": truth, "--wait-for-streams": streams}
    if market.replay is None:
        chosen["--symbols"] = ",".join(symbols)
    else:
        chosen["--replay"] = market.replay
    if address is not None:
        chosen |= {"--websocket-port": _port(address.websocket), "--rest-port": _port(address.rest)}
    return [part for name, value in chosen.items() if value is not None for part in (name, str(value))]


class SimulatedVenue:
    """The supervised process. `address` is known once it listens."""

    def __init__(self, market: Market, symbols: Iterable[str], streams: int, folder: Path, observer: Observer) -> None:
        self.address: Simulator | None = None
        self._market = market
        self._symbols = set(symbols)
        self._streams = streams
        self._truth = folder / "truth" if market.replay is None else _unused(folder / "truth")
        # A replay that is cut cannot be taken up again in its middle: its venue's first death is its end.
        self.service = Service(NAME, self._command, folder / "logs", observer, restart=market.replay is None)

    def listening(self, entry: Entry) -> Simulator:
        """Take the addresses from the venue's announcement and return them."""
        self.address = Simulator(websocket=str(entry["websocket"]), rest=str(entry["rest"]))
        return self.address

    async def follow(self, symbols: Iterable[str], streams: int) -> None:
        """Let a synthetic market list these symbols too; `streams` are planned from now on.

        Raises Unavailable when the venue does not answer.
        """
        self._streams = streams
        new = sorted(set(symbols) - self._symbols)
        self._symbols.update(new)  # also for a process that is being restarted right now
        if new and self._market.replay is None and self.address is not None:
            await asyncio.to_thread(_post, f"{self.address.rest}/simulator/symbols", ",".join(new))

    async def halt(self) -> None:
        """Let the market issue nothing more; raises Unavailable when the venue does not answer."""
        if self.address is not None:
            await asyncio.to_thread(_post, f"{self.address.rest}/simulator/halt", "")

    def _command(self) -> Command:
        return marketfeed(
            "simulate", *arguments(self._market, sorted(self._symbols), self._streams, self._truth, self.address)
        )


def _unused(folder: Path) -> Path:
    """Return the folder, numbered where it exists: a replay starts from its beginning, and so does its truth."""
    if not folder.exists():
        return folder
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    return next(name for name in numbered if not name.exists())


def _port(url: str) -> int | None:
    return urlsplit(url).port


def _post(url: str, text: str) -> None:
    try:
        with urlopen(url, text.encode(), timeout=ANSWER_TIMEOUT_S):  # noqa: S310 - our loopback
            pass
    except (URLError, OSError) as error:
        raise Unavailable(f"the simulated venue does not answer at {url}: {error}") from None
