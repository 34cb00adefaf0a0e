"""Progress for people: a line for each step that is done, with its seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[str], None]
_WIDTH = 22


class Steps:
    """Tells what is being done, and how long it took."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._begun = time.monotonic()

    @contextmanager
    def __call__(self, what: str) -> Iterator[Tell]:
        """Time one step; what is told to it stands behind its seconds."""
        begun, notes = time.monotonic(), list[str]()
        yield notes.append
        seconds, whole = time.monotonic() - begun, time.monotonic() - self._begun
        more = f"  {'; '.join(notes)}" if notes else ""
        self._tell(f"{what:<{_WIDTH}} {seconds:>6.1f} s  ({whole:.0f} s in all){more}")
