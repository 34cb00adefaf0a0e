"""`marketfeed simulate`: the command line of the simulated venue."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import uvloop

from marketfeed import logs
from marketfeed.simulator.engine import Pace
from marketfeed.simulator.limits import RestLimits, WebsocketLimits
from marketfeed.simulator.source import Source
from marketfeed.simulator.venue import Address, Venue, synthetic, taped

Command = Callable[..., None]


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


def _limit_options(command: Command) -> Command:
    """Add an option for every limit of the venue."""
    for limit in reversed((*fields(WebsocketLimits), *fields(RestLimits))):
        option = click.option(
            f"--{limit.name.replace('_', '-')}",
            type=click.IntRange(min=1) if isinstance(limit.default, int) else click.FloatRange(min=0, min_open=True),
            default=limit.default,
            show_default=True,
            help=limit.metadata["help"],
        )
        command = option(command)
    return command


@click.command("simulate", short_help="Simulate a venue.", context_settings={"max_content_width": 110})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--websocket-port", default=0, show_default=True, help="Port of the websocket; 0 takes a free one.")
@click.option("--rest-port", default=0, show_default=True, help="Port of the REST API; 0 takes a free one.")
@click.option(
    "--symbols",
    default="BTCUSDT,ETHUSDT,BNBUSDT",
    show_default=True,
    help="Symbols of the synthetic market, comma-separated: SYMBOL, or SYMBOL:WEIGHT for its share of the rate.",
)
@click.option(
    "--rate",
    default=200.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Payloads a second of all symbols and channels together, in the mean: they come in bursts.",
)
@click.option("--seed", default=1, show_default=True, help="Equal seeds give equal markets, apart from the clock.")
@click.option(
    "--records", type=click.IntRange(min=1), help="End the market with the order that makes it this many payloads."
)
@click.option(
    "--replay",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help='Play the recordings DIRECTORY/*.jsonl instead, side by side: lines {"t": ms, "frame": {"stream": ..., '
    '"data": ...}}, digits and times unchanged.',
)
@click.option(
    "--speed",
    default="1",
    show_default=True,
    callback=_speed,
    help="Factor on the pace of market or recordings. `max` is flat out: as fast as the slowest client reads, and "
    "standing still while nobody is subscribed.",
)
@click.option(
    "--wait-for-streams",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Begin only when this many distinct streams are subscribed, so that a client misses nothing.",
)
@click.option(
    "--truth",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything issued in DIRECTORY, one file SYMBOL@channel.jsonl per stream, written before it is sent. A "
    "synthetic market goes on where the files end. Without it they live in a temporary directory.",
)
@_limit_options
def command(**options: Any) -> None:
    """Simulate a venue: Binance's spot market data, websocket and REST, for trying out clients.

    Point a client at the addresses of the log line `listening`. Without --replay a seeded synthetic market trades; GET
    /simulator/state on the REST address tells how far it is. SIGTERM ends it; every file is complete then.
    """
    logs.configure()
    logging.getLogger("picows").setLevel(logging.WARNING)  # it says for every connection what we say shorter
    replay: Path | None = options["replay"]
    with ExitStack() as stack:
        directory = options["truth"]
        if directory is None:
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="marketfeed-simulator-")))
        source: Source
        if replay is None:
            source, hub = synthetic(directory, options["symbols"], options["rate"], options["seed"])
        else:
            source, hub = taped(directory, replay)
        stack.callback(hub.close)
        venue = Venue(
            source,
            hub,
            Pace(options["speed"], options["wait_for_streams"], options["records"]),
            WebsocketLimits(**{limit.name: options[limit.name] for limit in fields(WebsocketLimits)}),
            RestLimits(**{limit.name: options[limit.name] for limit in fields(RestLimits)}),
        )
        uvloop.run(venue.serve(Address(options["host"], options["websocket_port"], options["rest_port"])))
