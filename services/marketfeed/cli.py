"""The `marketfeed` command. Sub-commands are entry points of the group `marketfeed.commands`, loaded when called.

Exit codes: 0 done, 1 it ran and the answer is no (or it failed), 2 bad configuration or usage.
"""

from __future__ import annotations

import sys
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

import click

from marketfeed import __version__
from marketfeed.errors import ConfigurationError, MarketfeedError


class Commands(click.Group):
    """A group whose commands are entry points: only the one that is called is imported."""

    @cached_property
    def _found(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group="marketfeed.commands")}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        return sorted(self._found)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load one command; a missing extra becomes a sentence that says what to install."""
        entry = self._found.get(cmd_name)
        if entry is None:
            return None
        try:
            command: click.Command = entry.load()
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("marketfeed"):
                raise
            extras = "analytics" if cmd_name == "analytics" else "operator,services"
            raise click.ClickException(
                f"`marketfeed {cmd_name}` needs the package {error.name}: install marketfeed[{extras}]"
            ) from None
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="marketfeed")
def cli() -> None:
    """Market data that can prove it lost nothing.

    Start with `marketfeed up manifests/examples/binance-spot.yaml`: a live feed on this machine. In a second terminal,
    `marketfeed verify` proves what it has stored.
    """


def main() -> None:
    """Run the command line; named errors become one line and an exit code."""
    try:
        cli.main(standalone_mode=True)
    except ConfigurationError as error:
        sys.stderr.write(f"marketfeed: {error}\n")
        sys.exit(2)
    except MarketfeedError as error:
        sys.stderr.write(f"marketfeed: {error}\n")
        sys.exit(1)
