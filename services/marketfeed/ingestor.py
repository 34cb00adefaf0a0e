"""One shard: a venue's streams, over one websocket, to a publisher. The shell that owns the process.

What does not live here: the venue's protocol (`exchanges`), the connection (`ingest.session`), where records go
(`publishers`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import uvloop
from prometheus_client import CollectorRegistry

from marketfeed import exchanges
from marketfeed.errors import BadFrame, ConfigurationError
from marketfeed.events import Channel, Stream
from marketfeed.ingest.connection import check_address
from marketfeed.ingest.outlet import Outlet
from marketfeed.ingest.report import Report
from marketfeed.ingest.session import Session
from marketfeed.ingest.streams import StreamsFile
from marketfeed.logs import configure, logger
from marketfeed.metrics import ServiceMetrics
from marketfeed.pace import Pace
from marketfeed.publishers import Publisher
from marketfeed.publishers.kafka import KafkaPublisher
from marketfeed.publishers.null import NullPublisher
from marketfeed.publishers.stdout import StdoutPublisher
from marketfeed.server import Pulse, Server
from marketfeed.service_command import ServiceCommand
from marketfeed.settings import IngestorSettings, KafkaSettings

_TURN_S = 0.25
_POLL_S = 0.01  # the publisher's queue holds a third of a second of a flood
_GATHER_S = 1.0
_LOOK_S = 0.5
_HUNG_S = 10.0
_STUCK_S = 60.0
_WAIT_FIRST_S, _WAIT_MAX_S = 0.25, 5.0
_FLUSH_S = 0.2

_log = logger("ingestor")
_clock = time.monotonic


class Ingestor:
    """Runs until it is told to stop: `run()` returns the process's exit code."""

    def __init__(self, settings: IngestorSettings, registry: CollectorRegistry) -> None:
        """Check the configuration; raises ConfigurationError."""
        with settings.naming("websocket_url"):
            check_address(settings.websocket_url)
        self._settings = settings
        with settings.naming("exchange"):
            venue = exchanges.venue(settings.exchange)
        channels = settings.topics if settings.publisher == "kafka" else venue.channels
        with settings.naming("streams_file"):
            self._file = StreamsFile(Path(settings.streams_file), venue, channels)
        self._publisher = make_publisher(settings)
        self._report = Report(registry, settings.exchange, settings.shard)
        self._outlet = Outlet(self._publisher, self._on_full)
        self._session = Session(settings, venue, self._outlet, self._report, self._on_bad_frame)
        self._stop = asyncio.Event()
        self._waits_for: str | None = "the process has just begun"
        self._beat = _clock()
        self._progress = (0, self._beat)  # records delivered, and when that number last changed
        self._bad_logged = 0
        self._last_bad = ""
        self._ready: str | None = None
        self._stats: Mapping[str, Any] = {}
        self._pace = Pace()
        self._carried: frozenset[Stream] = frozenset()
        self._take_stock()
        self.pulse = Pulse(
            live=self._live,
            ready=lambda: self._ready,
            stats=lambda: self._stats,
            pairs=self._pairs,
            streams=self._streams,
        )
        kafka = settings.kafka
        ServiceMetrics(registry, "ingestor", self.pulse.unready, () if kafka is None else (kafka.ca_file,))

    async def run(self) -> int:
        """Work until SIGTERM or SIGINT, then drain; raises what ended the work before."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        tasks = [
            asyncio.create_task(work) for work in (self._work(), self._deliver(), self._upkeep(), self._watch_file())
        ]
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, stopped):
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        code = self._drain()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return code

    async def _work(self) -> None:
        """Connect to the venue once there is somewhere to put its data."""
        await self._wait_for_publisher()
        self._session.want(self._file.streams)
        await self._session.run()

    async def _wait_for_publisher(self) -> None:
        delay_s = _WAIT_FIRST_S
        while (waits_for := await asyncio.to_thread(self._publisher.waits_for)) is not None:
            if waits_for != self._waits_for:
                _log.info("waiting", reason=waits_for)
            self._waits_for = waits_for
            await asyncio.sleep(delay_s)
            delay_s = min(_WAIT_MAX_S, delay_s * 2)
        self._waits_for = None

    async def _deliver(self) -> None:
        """Let the publisher's reports in, and what waited for room out. Delivered records take up room until then."""
        while True:
            full = bool(self._outlet.waiting)
            self._publisher.poll()
            if full and self._outlet.retry():
                self._session.resume()
            await asyncio.sleep(_POLL_S)

    async def _upkeep(self) -> None:
        """Several times a second, take stock for whoever asks."""
        gathered = 0.0
        while True:
            now = self._beat = _clock()
            if now - gathered >= _GATHER_S:
                gathered = now
                self._report.publisher(self._publisher, now)
                self._log_bad_frames()
            self._take_stock()
            await asyncio.sleep(_TURN_S)

    async def _watch_file(self) -> None:
        """Take over changes of the streams file."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if not self._file.look():
                continue
            if self._file.problem is not None:
                _log.error("streams_refused", reason=self._file.problem)
                continue
            _log.info("streams_changed", streams=len(self._file.streams))
            if self._waits_for is None:
                self._session.want(self._file.streams)

    def _on_full(self, stream: str | None) -> None:
        """Stop reading until the publisher has room; no stream is a frame on its way to quarantine."""
        if stream is None:
            topic = self._settings.dead_letter_topic
        else:
            topic = self._settings.topics.get(Stream.parse(stream).channel, "")
        self._report.queue_full(topic)
        self._session.pause()

    def _on_bad_frame(self, frame: bytes, error: BadFrame) -> None:
        self._report.bad_frame(error.error_type)
        self._last_bad = str(error)
        self._outlet.quarantine(frame, error.error_type, str(error))

    def _log_bad_frames(self) -> None:
        """Log what was quarantined since the last time: a flood of bad frames is one line a second."""
        total = self._report.bad_frames.total()
        if total != self._bad_logged:
            _log.warning("frames_quarantined", count=total - self._bad_logged, last_reason=self._last_bad)
            self._bad_logged = total

    def _take_stock(self) -> None:
        """Gather, on the loop, what the HTTP server's thread hands out."""
        now = _clock()
        pending, failed = self._publisher.pending(), self._publisher.failed.total()
        delivered = self._report.taken - pending - failed
        if delivered != self._progress[0] or not pending or self._publisher.problem() is not None:
            self._progress = (delivered, now)
        self._report.frames(self._session.frames, now, time.time())
        self._report.streams(self._file.streams, now)
        self._carried = self._session.carried
        self._ready = self._why_not_ready()
        self._stats = self._make_stats(now, pending, failed)

    def _why_not_ready(self) -> str | None:
        if self._waits_for is not None:
            return f"starting: {self._waits_for}"
        return self._file.problem or self._publisher.problem() or self._session.problem()

    def _make_stats(self, now: float, pending: int, failed: int) -> dict[str, Any]:
        streams = self._file.streams
        frame_at = self._report.frame_at
        return {
            "feed": self._settings.feed,
            "shard": self._settings.shard,
            "exchange": self._settings.exchange,
            "active_connections": int(self._session.connected),
            "streams": {
                "desired": len(streams),
                "subscribed": len(streams & self._carried),
                "fresh": self._report.fresh(streams, now, self._settings.stale_after_s),
            },
            "pairs_count": len(self._pairs()),
            "total_messages": self._session.frames,
            "messages_per_second": round(self._pace.update(self._session.frames, now), 1),
            "publish_count": self._report.taken,
            "error_count": failed,
            "bad_frames": self._report.bad_frames.total(),
            "pending": pending + len(self._outlet.waiting),
            "last_message_age_s": None if frame_at is None else round(now - frame_at, 3),
            "reconnects": self._report.reconnects,
        }

    def _pairs(self) -> list[str]:
        return sorted({stream.symbol for stream in self._file.streams})

    def _streams(self) -> dict[str, list[str]]:
        """Return what the file asks for, and what the venue has acknowledged on the open connection.

        `carried` may hold what the file has dropped and the venue was not told yet; without a connection it is empty.
        """
        return {
            "desired": sorted(map(str, self._file.streams)),
            "carried": sorted(map(str, self._carried)),
        }

    def _live(self) -> str | None:
        now = _clock()
        if now - self._beat > _HUNG_S:
            return f"the loop has not turned for {now - self._beat:.0f} s"
        if now - self._progress[1] > _STUCK_S:
            return f"the publisher has delivered nothing for {now - self._progress[1]:.0f} s, without a reason"
        return None

    def _drain(self) -> int:
        """Deliver what was received; return 1 when something is left in the end."""
        end = _clock() + self._settings.drain_timeout_s
        while True:
            self._beat = _clock()
            empty = self._outlet.retry()
            left = self._publisher.flush(max(0.0, min(_FLUSH_S, end - self._beat)))
            if (empty and not left) or _clock() >= end:
                break
        self._report.publisher(self._publisher, _clock())
        undelivered = left + len(self._outlet.waiting)
        delivered = self._report.taken - undelivered - self._publisher.failed.total()
        _log.info("drained", delivered=delivered, undelivered=undelivered, failed=self._publisher.failed.total())
        return 1 if undelivered else 0


def make_publisher(settings: IngestorSettings) -> Publisher:
    """Return the publisher that the settings name; raises ConfigurationError."""
    match settings.publisher:
        case "null":
            return NullPublisher(settings.exchange)
        case "stdout":
            return StdoutPublisher(sys.stdout.buffer, settings.exchange)
        case "kafka":
            return _kafka_publisher(settings)


def _kafka_publisher(settings: IngestorSettings) -> KafkaPublisher:
    if settings.kafka is None:
        variable = KafkaSettings.variable("bootstrap_servers")
        raise ConfigurationError(f"{variable} is not set: the kafka publisher needs brokers")
    unknown = sorted(settings.topics.keys() - set(Channel))
    if unknown:
        variable = IngestorSettings.variable("topics")
        raise ConfigurationError(f"{variable}: {unknown[0]!r} is not one of {', '.join(Channel)}")
    return KafkaPublisher(
        settings.kafka,
        settings.producer,
        exchange=settings.exchange,
        shard=settings.shard,
        topics=settings.topics,
        key_style=settings.key,
        dead_letter_topic=settings.dead_letter_topic,
    )


@click.command("ingest", cls=ServiceCommand, settings=IngestorSettings, short_help="Ingest one shard's streams.")
def command() -> None:
    """Ingest one shard's streams into Kafka, until SIGTERM.

    Settings come from the environment. Exits 0 after a drain, 2 when the configuration is wrong, 1 for anything else.
    """
    configure()
    settings = IngestorSettings.from_env(os.environ, lambda path: Path(path).read_text())
    sys.exit(uvloop.run(_serve(settings)))


async def _serve(settings: IngestorSettings) -> int:
    """Run an ingestor and its HTTP server."""
    registry = CollectorRegistry()
    ingestor = Ingestor(settings, registry)
    server = Server(settings.http, ingestor.pulse, registry)
    try:
        _log.info("listening", url=server.url)
        return await ingestor.run()
    finally:
        server.close()
