"""A service's command line: no options, but a --help that lists the environment variables which set it."""

from __future__ import annotations

from typing import Any

import click

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
