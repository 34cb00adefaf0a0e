"""Where a run speaks to a person: messages above a live table in a terminal, plain lines anywhere else.

A terminal that was closed, or a pipe that nobody reads, ends no run: what cannot be shown is not shown.
"""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from marketfeed.local import table

PLAIN_EVERY_S = 5.0


class Screen:
    """A context manager; the live table stands while it is open."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._last_line = float("-inf")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            with suppress(OSError):
                self._live.stop()

    def say(self, text: str) -> None:
        """Tell what happens."""
        self.print(Text(text))

    def warn(self, text: str) -> None:
        """Tell what went wrong."""
        self.print(Text(text, style="yellow"))

    def print(self, what: RenderableType) -> None:
        """Print above the live table; long lines are left for the terminal to fold."""
        with suppress(OSError):
            self._console.print(what, soft_wrap=True)

    def show(self, snapshot: table.Snapshot) -> None:
        """Bring the table up to date, or print the plain line when the last one is old enough."""
        if self._live is not None:
            self._draw(self._live, table.render(snapshot))
        elif time.monotonic() - self._last_line >= PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            self.say(table.line(snapshot))

    def clear(self) -> None:
        """Take the table away, for what is printed at the end."""
        if self._live is not None:
            self._draw(self._live, Text(""))

    @staticmethod
    def _draw(live: Live, what: RenderableType) -> None:
        with suppress(OSError):
            live.update(what, refresh=True)
