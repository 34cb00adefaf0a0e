"""Which command starts the simulated venue of a run."""

from __future__ import annotations

from pathlib import Path

from marketfeed.local.endpoints import Simulator
from marketfeed.local.venue import Market, arguments

TRUTH = Path("/run/truth")


def test_a_synthetic_market_lists_the_symbols_of_the_feed() -> None:
    """Symbols, seed, rate and speed reach the simulator; what was not given keeps its default there."""
    assert arguments(Market(speed="10", seed=7), ["BTCUSDT", "ETHUSDT"], 6, TRUTH, None) == [
        *("--seed", "7", "--speed", "10", "--truth", "/run/truth", "--wait-for-streams", "6"),
        *("--symbols", "BTCUSDT,ETHUSDT"),
    ]


def test_a_replay_waits_for_every_planned_stream() -> None:
    """A market begins only when all streams are subscribed: nothing of a recording comes again."""
    assert arguments(Market(replay=Path("/recordings"), speed="max"), ["BTCUSDT"], 3, TRUTH, None) == [
        *("--speed", "max", "--truth", "/run/truth", "--wait-for-streams", "3", "--replay", "/recordings"),
    ]


def test_a_restarted_venue_answers_where_it_did() -> None:
    """After its death the venue gets the ports that it had, so that nobody must be told."""
    address = Simulator("ws://127.0.0.1:1111", "http://127.0.0.1:2222")
    chosen = arguments(Market(), ["BTCUSDT"], 3, TRUTH, address)
    assert chosen[-4:] == ["--websocket-port", "1111", "--rest-port", "2222"]
