"""The commands that read a MarketFeed and change nothing."""

from __future__ import annotations

from typing import BinaryIO

import click

from marketfeed.errors import ConfigurationError
from marketfeed_operator.describe import as_json, describe
from marketfeed_operator.plan import plan
from marketfeed_operator.spec import MarketFeed, load


@click.command("plan", short_help="Show what a MarketFeed needs.")
@click.argument("file", type=click.File("rb"))
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON, with the environment of every process.")
def plan_command(file: BinaryIO, *, json_wanted: bool) -> None:
    """Show what the MarketFeed in FILE needs: topics, shards and their streams, consumers, connections.

    FILE is YAML or JSON; - reads standard input. Nothing is started, asked or changed.

    \b
    Examples:
      marketfeed plan manifests/examples/binance-spot.yaml
      marketfeed plan feed.yaml --json | jq '.shards[].streams'
      kubectl get marketfeed binance-spot -o yaml | marketfeed plan -

    \b
    Exit codes:
      0  the plan was printed
      2  the MarketFeed cannot be used; each line says what to change
    """  # noqa: D301 - click's \b keeps the lines of a block
    made = plan(read(file))
    click.echo(as_json(made) if json_wanted else describe(made), nl=False)


def read(file: BinaryIO) -> MarketFeed:
    """Read the MarketFeed of an open file; raises ConfigurationError that names the file."""
    source = str(getattr(file, "name", "<stdin>"))  # not every stream that stands in for standard input has a name
    try:
        text = file.read().decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    return load(text, source)
