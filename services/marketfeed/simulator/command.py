"""`marketfeed simulate`: the command line of the simulated venue, and the process around its parts."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import uvloop

from marketfeed import logs
from marketfeed.errors import ConfigurationError
from marketfeed.simulator.answers import Answers
from marketfeed.simulator.engine import Engine, Pace, Phase
from marketfeed.simulator.hub import Hub
from marketfeed.simulator.instruments import parse_symbols
from marketfeed.simulator.limits import RestLimits, WebsocketLimits
from marketfeed.simulator.market import Market
from marketfeed.simulator.rest import RestServer
from marketfeed.simulator.source import Source
from marketfeed.simulator.tape import Tape
from marketfeed.simulator.websocket import WebsocketServer

log = logs.logger("simulator")


@dataclass(frozen=True, slots=True)
class Venue:
    """Everything that a simulated venue is told."""

    host: str
    websocket_port: int
    rest_port: int
    pace: Pace
    websocket_limits: WebsocketLimits
    rest_limits: RestLimits


def _speed(_context: click.Context, _parameter: click.Parameter, text: str) -> float | None:
    """Read `--speed`: a factor above 0, or `max` (None)."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise click.BadParameter(f"{text!r} is neither a number above 0 nor max")
    return speed


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--websocket-port", default=0, show_default=True, help="Port of the websocket; 0 takes a free one.")
@click.option("--rest-port", default=0, show_default=True, help="Port of the REST API; 0 takes a free one.")
@click.option(
    "--symbols", default="BTCUSDT,ETHUSDT,BNBUSDT", show_default=True, help="SYMBOL or SYMBOL:WEIGHT, comma-separated."
)
@click.option(
    "--rate",
    default=200.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Mean payloads a second, all symbols together.",
)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same market.")
@click.option("--records", type=click.IntRange(min=1), help="Close the market after about so many payloads.")
@click.option(
    "--replay",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Play the recordings (*.jsonl) in this directory instead.",
)
@click.option(
    "--speed",
    default="1",
    show_default=True,
    callback=_speed,
    help="Factor on the pace, or `max`: as fast as the slowest client reads.",
)
@click.option(
    "--wait-for-streams", default=0, show_default=True, help="Begin only when so many distinct streams are subscribed."
)
@click.option(
    "--truth",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything issued here, a file SYMBOL@channel.jsonl per stream.",
)
def command(
    host: str,
    websocket_port: int,
    rest_port: int,
    symbols: str,
    rate: float,
    seed: int,
    records: int | None,
    replay: Path | None,
    speed: float | None,
    wait_for_streams: int,
    truth: Path | None,
) -> None:
    """Simulate Binance's spot market data."""
    logs.configure()
    venue = Venue(
        host, websocket_port, rest_port, Pace(speed, wait_for_streams, records), WebsocketLimits(), RestLimits()
    )
    source: Source = Tape(replay) if replay else Market(parse_symbols(symbols), rate, seed)
    with ExitStack() as stack:
        directory = truth or Path(stack.enter_context(TemporaryDirectory(prefix="marketfeed-simulator-")))
        hub = Hub(source.streams, _prepared(directory))
        stack.callback(hub.close)
        uvloop.run(_serve(venue, source, hub))


def _prepared(directory: Path) -> Path:
    """Return the directory, made where it is missing; raises ConfigurationError when it holds an earlier truth."""
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.glob("*@*.jsonl")):
        raise ConfigurationError(f"{directory} already holds a truth: name an empty directory")
    return directory


async def _serve(venue: Venue, source: Source, hub: Hub) -> None:
    """Run the venue until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    engine = Engine(source, hub, venue.pace)
    websocket = WebsocketServer(hub, venue.websocket_limits, patient=venue.pace.speed is None)
    answers = Answers(source, hub.journals, venue.rest_limits.weight_per_minute)
    rest = RestServer(answers, venue.rest_limits, lambda: state(engine, hub))
    rest_url = await rest.start(venue.host, venue.rest_port)
    websocket_url = await websocket.start(venue.host, venue.websocket_port)
    log.info("listening", websocket=websocket_url, rest=rest_url)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work) for work in (engine.run(), engine.keep_flushing(), websocket.keep_beating())]
        await stopped.wait()
        for task in running:
            task.cancel()
    await websocket.stop()
    await rest.stop()
    log.info("stopped", issued=engine.issued)


def state(engine: Engine, hub: Hub) -> dict[str, object]:
    """Return what `/simulator/state` shows."""
    return {
        "phase": engine.phase,
        "started": engine.phase is not Phase.WAITING,
        "finished": engine.phase is Phase.FINISHED,
        "issued": engine.issued,
        "clients": len(hub.clients),
        "subscribed": sorted(hub.subscribed),
        "streams": {
            stream: {"issued": journal.count, "first_id": journal.first_id, "last_id": journal.last_id}
            for stream, journal in hub.journals.items()
        },
    }
