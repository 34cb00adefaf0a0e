"""Ports for the local servers."""

from __future__ import annotations

import random
import socket

import pytest

from marketfeed.errors import Unavailable
from marketfeed.local.ports import free_port


def test_port_can_be_bound_and_is_never_an_outgoing_one() -> None:
    """The port is free, and outside the range from which clients get theirs."""
    port = free_port()
    assert port < 30_000
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))


def test_taken_port_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that somebody listens on is not returned; when all are taken, the error says which range was tried."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(random, "sample", lambda _range, _count: [taken.getsockname()[1]])
        with pytest.raises(Unavailable, match="between 15000 and 29999"):
            free_port()
