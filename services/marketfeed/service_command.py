"""What command lines share: a --help that lists the environment variables which set a service, and lengths of time."""

from __future__ import annotations

from typing import Any

import click

from marketfeed import durations
from marketfeed.settings import Settings


class ServiceCommand(click.Command):
    """A command that is set by the variables of `settings`."""

    def __init__(self, *arguments: Any, settings: type[Settings], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._settings = settings

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the variables after the options."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Environment"):
            formatter.write_dl(list(self._settings.describe()))


def seconds(_context: click.Context, _parameter: click.Parameter, text: str) -> float:
    """Read an option that is a length of time, as `45s`; return it in s. For click's `callback`."""
    try:
        return durations.parse_ms(text) / 1000
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
