"""Socket to acknowledged in Kafka: the real `marketfeed ingest` against what its parts allow and a plain script.

limit = 1 / (1/r + 1/p): one core that receives everything (r), then produces everything (p), and does nothing else.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.broker import Topics
from benchmarks.children import Child, Failed, pinned, two_cores
from benchmarks.figures import Figure, median_ratio, say
from benchmarks.market import SYMBOLS, socket_bytes_length, write_socket_bytes
from benchmarks.services import LOCAL_HTTP, Service, environment
from marketfeed.events import Channel
from marketfeed.local.kafka import EmbeddedKafka
from marketfeed.settings import IngestorSettings

FRAMES = 600_000
PLAIN_FRAMES = 120_000  # at a fifth of the rate, as long in seconds
_RECEIVE_TIMES = 5  # at many times the rate, long enough to be timed
_DEADLINE_S = 60.0
_ASK_EVERY_S = 0.01
TOPICS = {
    Channel.TRADE: "binance.trades",
    Channel.AGG_TRADE: "binance.trades",
    Channel.BOOK_TICKER: "binance.book_ticker",
}
_DEAD_LETTERS = "binance.dlq"


@dataclass(frozen=True, slots=True)
class _Measured:
    """One side in one round."""

    records_per_s: float
    cpu_us_per_record: float

    def __str__(self) -> str:
        return f"{self.records_per_s:,.0f} records/s, {self.cpu_us_per_record:.2f} µs each"


class _Round:
    """Runs the sides, each in fresh processes, on the same frames and the same broker."""

    def __init__(self, kafka: EmbeddedKafka, folder: Path) -> None:
        self._kafka = kafka.settings
        self._folder = folder
        self._measured_core, self.other_core = two_cores()
        self._frames = folder / "frames"
        write_socket_bytes(self._frames, FRAMES, time.time_ns() // 1_000_000)
        self._streams = folder / "streams.json"
        self._streams.write_text(json.dumps({"streams": [f"{s}@{c}" for s in SYMBOLS for c in TOPICS]}))
        Topics(self._kafka, [_DEAD_LETTERS])
        self._topics = Topics(self._kafka, TOPICS.values())

    def receive_only(self) -> _Measured:
        return self._side_with_feeder("receive_only", FRAMES, times=_RECEIVE_TIMES)

    def plain(self) -> _Measured:
        return self._side_with_feeder("plain", PLAIN_FRAMES)

    def produce_only(self) -> _Measured:
        with Child("ingest_sides", self._job("produce_only", FRAMES), self._measured_core) as side:
            return _measured(FRAMES, side.answer())

    def product(self) -> _Measured:
        """Run the real ingestor; done when the topics hold every record."""
        before = sum(self._topics.ends())
        with self._feeder(FRAMES) as feeder:
            url = f"ws://127.0.0.1:{feeder.answer()['port']}"
            log = self._folder / "ingest.log"
            with Service(["ingest"], environment(self._settings(url)), log, self._measured_core) as ingestor:
                ingestor.listening()
                feeder.answer()  # connected
                cpu_before = ingestor.cpu_s()
                feeder.tell({})
                started = feeder.answer()["started"]
                self._wait_for(before + FRAMES, ingestor)
                answer = {"finished": time.monotonic(), "cpu_s": ingestor.cpu_s() - cpu_before}
        return _measured(FRAMES, answer, started)

    def _wait_for(self, total: int, ingestor: Service) -> None:
        end = time.monotonic() + _DEADLINE_S
        while (found := sum(self._topics.ends())) < total:
            if time.monotonic() > end:
                raise Failed(f"the ingestor is {total - found} records short: {ingestor.stats()}")
            time.sleep(_ASK_EVERY_S)

    def _side_with_feeder(self, name: str, frames: int, times: int = 1) -> _Measured:
        with self._feeder(frames, times) as feeder:
            job = self._job(name, frames * times) | {"url": f"ws://127.0.0.1:{feeder.answer()['port']}/stream"}
            with Child("ingest_sides", job, self._measured_core) as side:
                feeder.answer()  # connected
                feeder.tell({})
                started = feeder.answer()["started"]
                return _measured(frames * times, side.answer(), started)

    def _feeder(self, frames: int, times: int = 1) -> Child:
        length = socket_bytes_length(self._frames, frames)
        return Child("feeder", {"file": str(self._frames), "length": length, "times": times}, self.other_core)

    def _job(self, side: str, frames: int) -> dict[str, Any]:
        kafka = self._kafka.bootstrap_servers
        return {"side": side, "frames": frames, "file": str(self._frames), "kafka": kafka, "topics": TOPICS}

    def _settings(self, url: str) -> IngestorSettings:
        return IngestorSettings(
            feed="bench",
            shard="bench-0",
            exchange="binance",
            websocket_url=url,
            rest_urls=(url.replace("ws:", "http:"),),
            streams_file=str(self._streams),
            topics={str(channel): topic for channel, topic in TOPICS.items()},
            dead_letter_topic=_DEAD_LETTERS,
            kafka=self._kafka,
            http=LOCAL_HTTP,
        )


def run(kafka: EmbeddedKafka, folder: Path, rounds: int) -> Iterator[Figure]:
    """Yield the two ratios, medians over the rounds; the broker shares its core with whoever feeds."""
    one = _Round(kafka, folder)
    sides = {
        "receive_only": one.receive_only,
        "produce_only": one.produce_only,
        "product": one.product,
        "plain": one.plain,
    }
    measured: dict[str, list[_Measured]] = {name: [] for name in sides}
    broker = kafka.pid
    if broker is None:
        raise Failed("the broker is gone")
    with ExitStack() as cores:
        cores.enter_context(pinned(broker, one.other_core))
        cores.enter_context(pinned(os.getpid(), one.other_core))
        one.produce_only()  # the first one finds the broker's code not yet compiled
        for number in range(1, rounds + 1):
            for name, side in sides.items():
                measured[name].append(side())
                say(f"ingest, round {number} of {rounds}, {name}: {measured[name][-1]}")
    yield from _figures(measured, rounds)


def _figures(measured: dict[str, list[_Measured]], rounds: int) -> Iterator[Figure]:
    """Yield both ratios, each also by processor time, which other work on the machine disturbs less."""
    rates = {name: [side.records_per_s for side in found] for name, found in measured.items()}
    costs = {name: [side.cpu_us_per_record for side in found] for name, found in measured.items()}
    limits = [1 / (1 / r + 1 / p) for r, p in zip(rates["receive_only"], rates["produce_only"], strict=True)]
    least_costs = [r + p for r, p in zip(costs["receive_only"], costs["produce_only"], strict=True)]
    for ratio, target, other_rates, other_costs in (
        ("of_limit", 0.6, limits, least_costs),
        ("of_plain", 4.0, rates["plain"], costs["plain"]),
    ):
        details: dict[str, object] = {
            "value_by_cpu": round(median_ratio(other_costs, costs["product"]), 3),
            "rounds": rounds,
            "records_per_s": {name: round(median(found)) for name, found in rates.items()},
            "cpu_us_per_record": {name: round(median(found), 2) for name, found in costs.items()},
        }
        value = median_ratio(rates["product"], other_rates)
        yield Figure(benchmark="ingest", ratio=ratio, value=value, target=target, details=details)


def _measured(records: int, answer: dict[str, Any], started: float | None = None) -> _Measured:
    """Turn a side's answer into rates; `started` comes from the feeder where there is one."""
    seconds = answer["finished"] - (answer["started"] if started is None else started)
    return _Measured(records / seconds, answer["cpu_s"] / records * 1e6)
