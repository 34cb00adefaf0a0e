"""The file in which any outside tool finds what runs where: `endpoints.json` in the run's folder.

It holds the database's password, so only its owner can read it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from marketfeed.local.files import write_atomically

NAME = "endpoints.json"


@dataclass(frozen=True, slots=True)
class Simulator:
    """Base URLs of the simulated venue."""

    websocket: str
    rest: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where everything answers; None is what this run does not have."""

    kafka: str | None = None
    postgres: str | None = field(default=None, repr=False)
    simulator: Simulator | None = None
    services: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Replace the folder's file; return its path."""
        path = folder / NAME
        write_atomically(path, json.dumps(asdict(self), indent=2) + "\n")
        return path
