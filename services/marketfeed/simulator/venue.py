"""The simulated venue as a whole: a source, its truth, its clock and its two servers, run until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from marketfeed.errors import ConfigurationError
from marketfeed.logs import logger
from marketfeed.simulator.answers import Answers
from marketfeed.simulator.engine import Engine, Pace, Phase
from marketfeed.simulator.hub import Hub
from marketfeed.simulator.instruments import Instrument, parse_symbols, streams_of, units
from marketfeed.simulator.journal import Journal
from marketfeed.simulator.limits import RestLimits, WebsocketLimits
from marketfeed.simulator.market import CHANNELS, History, Market
from marketfeed.simulator.payloads import read_agg_trade, read_book_ticker, trade_key
from marketfeed.simulator.rest import RestServer
from marketfeed.simulator.source import Source
from marketfeed.simulator.tape import Tape
from marketfeed.simulator.websocket import WebsocketServer

log = logger("simulator")


def synthetic(directory: Path, symbols: str, rate_per_s: float, seed: int) -> tuple[Market, Hub]:
    """Return a synthetic market that goes on where the journals in `directory` end, and its hub."""
    instruments = parse_symbols(symbols)
    directory.mkdir(parents=True, exist_ok=True)
    hub = Hub(streams_of(instruments, CHANNELS), directory)
    return Market(instruments, rate_per_s, seed, _histories(instruments, hub.journals)), hub


def taped(directory: Path, recordings: Path) -> tuple[Tape, Hub]:
    """Return the recordings and their hub; raises ConfigurationError where a truth exists, which they would repeat."""
    tape = Tape(recordings)
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.glob("*@*.jsonl")):
        raise ConfigurationError(f"{directory} holds the truth of another run: name an empty directory")
    return tape, Hub(tape.streams, directory)


def list_symbols(source: Source, hub: Hub, symbols: str) -> None:
    """Let a synthetic market list more symbols; raises ConfigurationError for what it cannot list."""
    if not isinstance(source, Market):
        raise ConfigurationError("recordings play what they hold: no symbol can be added to them")
    new = [listed for listed in parse_symbols(symbols) if listed.symbol not in source.symbols]
    hub.add(streams_of(new, CHANNELS))
    source.add(new, _histories(new, hub.journals))


def _histories(instruments: Sequence[Instrument], journals: Mapping[str, Journal]) -> dict[str, History]:
    return {listed.symbol: past for listed in instruments if (past := _history(listed, journals)) is not None}


def _history(listed: Instrument, journals: Mapping[str, Journal]) -> History | None:
    """Read where an earlier run left a symbol; None where there was none.

    A run that was killed may have written an order's trades without their aggregate. Nobody was sent either, so the
    trades are taken off: the chain of `f` and `l` stays whole.
    """
    trades, agg_trades, book_tickers = (journals[stream] for stream in streams_of([listed], CHANNELS))
    last = [read_agg_trade(payload) for payload in agg_trades.last(1)]
    trades.drop_after(last[0].l if last else 0, trade_key)
    best = [read_book_ticker(payload) for payload in book_tickers.last(1)]
    if not (last and best):
        return None
    return History(last[0].l, last[0].a, best[0].u, units(best[0].b), last[0].T)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the two servers listen; port 0 takes a free one."""

    host: str
    websocket_port: int
    rest_port: int


@dataclass(frozen=True, slots=True)
class Venue:
    """A venue that can be opened once."""

    source: Source
    hub: Hub
    pace: Pace
    websocket_limits: WebsocketLimits
    rest_limits: RestLimits

    async def serve(self, address: Address) -> None:
        """Listen, run the market, and stop on SIGTERM or SIGINT."""
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        engine = Engine(self.source, self.hub, self.pace)
        websocket = WebsocketServer(self.hub, self.websocket_limits, patient=self.pace.speed is None)
        answers = Answers(self.source, self.hub.journals, self.rest_limits.weight_per_minute)
        rest = RestServer(
            answers,
            self.rest_limits,
            state=lambda: state(engine, self.hub),
            list_symbols=lambda symbols: list_symbols(self.source, self.hub, symbols),
            halt=engine.halt,
        )
        rest_url = await rest.start(address.host, address.rest_port)
        websocket_url = await websocket.start(address.host, address.websocket_port)
        log.info("listening", websocket=websocket_url, rest=rest_url)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work) for work in (engine.run(), websocket.keep_beating())]
            await stopped.wait()
            for task in running:
                task.cancel()
        await websocket.stop()
        await rest.stop()
        log.info("stopped", issued=engine.issued)


def state(engine: Engine, hub: Hub) -> dict[str, object]:
    """Return what `/simulator/state` shows."""
    return {
        "started": engine.phase is not Phase.WAITING,
        "finished": engine.phase is Phase.FINISHED,
        "issued": engine.issued,
        "clients": len(hub.clients),
        "subscribed": sorted(hub.subscribed),
        "streams": {stream: _stream_state(journal) for stream, journal in hub.journals.items()},
    }


def _stream_state(journal: Journal) -> dict[str, object]:
    first_id, last_id = journal.ids
    return {"issued": journal.count, "first_id": first_id, "last_id": last_id}
