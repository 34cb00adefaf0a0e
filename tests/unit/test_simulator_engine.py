"""The venue's clock: what is due is issued, no more, and in the right phase."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from marketfeed.simulator.engine import Engine, Pace, Phase
from marketfeed.simulator.hub import Hub
from marketfeed.simulator.payloads import Form
from marketfeed.simulator.source import Depth, Issued


class Steps:
    """A source with one payload at each of the given times, ms."""

    symbols: Sequence[str] = ("A",)
    streams: Sequence[str] = ("a@trade",)

    def __init__(self, *times: float) -> None:
        self._times = list(times)
        self.began = False

    def begin(self, now_ms: int) -> None:
        """Note that the day began."""
        assert now_ms > 0
        self.began = True

    def due(self) -> float | None:
        """Return the next time."""
        return self._times[0] if self._times else None

    def step(self) -> list[Issued]:
        """Issue one payload."""
        return [Issued("a@trade", 1, int(self._times.pop(0)), b"{}")]

    def depth(self, symbol: str, limit: int) -> Depth:
        """Return nothing: no test asks."""
        raise NotImplementedError(symbol, limit)


class Listener:
    """A client that takes everything."""

    def __init__(self) -> None:
        self.queue: list[bytes] = []
        self.frames = 0
        self.has_room = True

    def flush(self) -> None:
        """Count what came."""
        self.frames += len(self.queue)
        self.queue = []


def _play(
    source: Steps, pace: Pace, folder: Path, *, listen: bool = True, within_s: float = 10
) -> tuple[Engine, Listener]:
    """Run the source to its end, or give up with TimeoutError."""
    listener = Listener()
    with closing(Hub(source.streams, folder)) as hub:
        if listen:
            hub.clients.add(listener)
            hub.subscribe(listener, source.streams, Form(combined=False))
        engine = Engine(source, hub, pace)

        async def bounded() -> None:
            async with asyncio.timeout(within_s):
                await engine.run()

        asyncio.run(bounded())
    return engine, listener


def test_a_day_is_played_to_its_end(tmp_path: Path) -> None:
    """At the recorded pace every step is issued and the phase says that it is over."""
    engine, listener = _play(Steps(0, 0, 5, 20), Pace(1.0), tmp_path)
    assert (engine.phase, engine.issued, listener.frames) == (Phase.FINISHED, 4, 4)


def test_speed_scales_the_pace(tmp_path: Path) -> None:
    """A quarter of an hour takes no time at a thousand times a thousand times its pace."""
    assert _play(Steps(0, 900_000), Pace(1e6), tmp_path)[0].issued == 2


def test_flat_out_knows_no_time(tmp_path: Path) -> None:
    """At `max` steps that are days apart follow each other at once."""
    assert _play(Steps(*range(0, 10**9, 10**6)), Pace(None), tmp_path)[1].frames == 1000


def test_flat_out_stands_still_alone(tmp_path: Path) -> None:
    """At `max` nothing is issued while nobody is subscribed."""
    source = Steps(0)
    with pytest.raises(TimeoutError):
        _play(source, Pace(None), tmp_path, listen=False, within_s=0.1)
    assert source.began
    assert source.due() == 0


def test_the_beginning_waits_for_streams(tmp_path: Path) -> None:
    """The day does not begin before as many distinct streams are subscribed as were asked for."""
    source = Steps(0)
    with pytest.raises(TimeoutError):
        _play(source, Pace(1.0, wait_for_streams=2), tmp_path, within_s=0.1)
    assert not source.began


def test_a_halt_ends_the_day_before_the_next_step(tmp_path: Path) -> None:
    """A halted market issues nothing more, and says that the day is over."""
    source = Steps(0, 0)
    with closing(Hub(source.streams, tmp_path)) as hub:
        engine = Engine(source, hub, Pace(1.0, wait_for_streams=2))
        engine.halt()
        asyncio.run(asyncio.wait_for(engine.run(), 10))
    assert (engine.phase, engine.issued) == (Phase.FINISHED, 0)


def test_records_end_the_day(tmp_path: Path) -> None:
    """No step is taken after the number of payloads that was asked for."""
    assert _play(Steps(0, 0, 0, 0), Pace(1.0, records=3), tmp_path)[0].issued == 3
