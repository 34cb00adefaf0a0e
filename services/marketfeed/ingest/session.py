"""Keeps one connection to the venue open, for ever, and in line with the streams that are wanted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from marketfeed.errors import BadFrame
from marketfeed.events import Stream
from marketfeed.exchanges.base import Acknowledged, Closing, Control, Refused, Venue
from marketfeed.ingest.connection import CannotConnect, Connection, connect
from marketfeed.ingest.diagnosis import Failure, retry_s
from marketfeed.ingest.outlet import Outlet
from marketfeed.ingest.subscriptions import Subscriptions
from marketfeed.logs import logger
from marketfeed.settings import IngestorSettings
from marketfeed.transcript import Transcriber

_LASTED_S = 10.0  # a connection that held so long was a success: the next failure starts the backoff anew

_log = logger("ingestor")
_clock = time.monotonic


class Observer(Protocol):
    """Who counts what happens to the connection."""

    def connected(self, *, again: bool) -> None:
        """Count a connection that was made."""

    def disconnected(self) -> None:
        """Note that the connection is gone."""

    def connect_failed(self, reason: str) -> None:
        """Count a connection that could not be made."""


class Session:
    """One shard's line to its venue. `want()` may be called at any time; `run()` is cancelled to end it."""

    def __init__(
        self,
        settings: IngestorSettings,
        venue: Venue,
        outlet: Outlet,
        observer: Observer,
        on_bad_frame: Callable[[bytes, BadFrame], None],
    ) -> None:
        self.on_bad_frame = on_bad_frame
        self._settings = settings
        self._venue = venue
        self._outlet = outlet
        self._transcriber = Transcriber(venue.fields)
        self._observer = observer
        self._wanted: frozenset[Stream] = frozenset()
        self._changed = asyncio.Event()
        self._connection: Connection | None = None
        self._subscriptions = Subscriptions(venue, ())
        self._announced = False  # that the venue will end this connection soon
        self._frames_before = 0  # of connections that ended
        self._connections = 0
        self._heard = (0, 0.0)  # frames of this connection when they last changed, and when that was
        self._not_connected = "starting: no connection was tried yet"
        # One message a turn keeps within the venue's limit, and leaves one a second for pongs.
        self._turn_s = 1 / max(1.0, venue.limits.messages_per_second - 1)

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return self._connection is not None

    @property
    def frames(self) -> int:
        """Messages received over all connections."""
        return self._frames_before + (self._connection.frames if self._connection is not None else 0)

    @property
    def carried(self) -> frozenset[Stream]:
        """The streams that the venue has acknowledged on the open connection."""
        return self._subscriptions.carried if self._connection is not None else frozenset()

    def want(self, streams: frozenset[Stream]) -> None:
        """Set the streams to carry; an open connection is brought in line without a break."""
        self._wanted = streams
        self._subscriptions.want(streams)
        self._changed.set()

    def problem(self) -> str | None:
        """Return why not every wanted stream is flowing; None when all are, or when none is wanted."""
        if not self._wanted:
            return None
        if self._connection is None:
            return self._not_connected
        return self._silence() or self._subscriptions.problem()

    def pause(self) -> None:
        """Stop reading until `resume`."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read again."""
        if self._connection is not None:
            self._heard = (self._connection.frames, _clock())  # silence that was ours does not count
            self._connection.resume()

    def on_control(self, control: Control) -> None:
        """Take what the venue says beside its data."""
        match control:
            case Acknowledged():
                self._subscriptions.acknowledged(control)
            case Refused():
                _log.warning("request_refused", code=control.code, reason=control.message)
                self._subscriptions.refused(control)
            case Closing():
                _log.info("closing_announced", reason=control.reason)
                self._announced = True

    async def run(self) -> None:
        """Connect, keep the connection, connect again."""
        attempt = 0
        try:
            while True:
                while not self._wanted:
                    self._changed.clear()
                    await self._changed.wait()
                started = _clock()
                failure = await self._connect_once()
                if failure is None or _clock() - started > _LASTED_S:
                    attempt = 0
                if failure is not None:
                    await asyncio.sleep(self._delay_s(failure, attempt))
                    attempt += 1
        finally:
            self._leave()

    async def _connect_once(self) -> Failure | None:
        """Make one connection and keep it until it ends; None when it ended as it should."""
        try:
            await self._open()
        except CannotConnect as error:
            failure = error.failure
            self._not_connected = f"no connection to {self._venue.name}: {failure.message}"
            self._observer.connect_failed(failure.reason)
            _log.warning("connect_failed", reason=failure.reason, status=failure.status, error=failure.message)
            return failure
        return await self._keep()

    async def _open(self) -> None:
        """Open a connection with as many streams as fit into a request; the others are subscribed on it."""
        first = sorted(self._wanted)[: self._venue.limits.streams_per_request]
        connection = Connection(self._venue.parser(), self._transcriber, self._outlet, self)
        self._announced = False
        self._subscriptions = Subscriptions(self._venue, first)
        self._subscriptions.want(self._wanted)
        await connect(self._venue.url(self._settings.websocket_url, first), connection)
        self._connection = connection
        self._heard = (0, _clock())
        self._observer.connected(again=self._connections > 0)
        self._connections += 1
        _log.info("connected", exchange=self._venue.name, streams=len(first), connection=self._connections)
        if self._outlet.waiting:
            connection.pause()

    async def _keep(self) -> Failure | None:
        """Keep the open connection in line until it ends, or should end."""
        connection = self._connection
        while connection is not None and not connection.ended.is_set():
            now = _clock()
            self._listen(connection, now)
            if not self._wanted or self._announced:
                _log.info("disconnected", reason="announced by the venue" if self._announced else "no streams left")
                self._leave()
                return None
            reason = self._silence() or ("a request was not answered" if self._subscriptions.overdue(now) else None)
            if reason is not None:
                return self._lost(reason)
            message = self._subscriptions.next_message(now)
            if message is not None:
                connection.send(message)
            with suppress(TimeoutError):
                await asyncio.wait_for(connection.ended.wait(), self._turn_s)
        return self._lost(await connection.why_ended() if connection is not None else "the connection broke")

    def _listen(self, connection: Connection, now: float) -> None:
        """Note when frames last came; while we do not read, silence is our own doing."""
        if connection.frames != self._heard[0] or self._outlet.waiting:
            self._heard = (connection.frames, now)

    def _silence(self) -> str | None:
        silent_s = _clock() - self._heard[1]
        if silent_s <= self._settings.stale_after_s:
            return None
        return f"no frame for {silent_s:.1f} s"

    def _lost(self, reason: str) -> Failure:
        """Give up a connection that ended, or is of no use any more."""
        self._not_connected = f"connection to {self._venue.name} lost: {reason}"
        _log.warning("disconnected", reason=reason)
        self._leave()
        return Failure("lost", reason)

    def _leave(self) -> None:
        if self._connection is None:
            return
        self._connection.close()
        self._frames_before += self._connection.frames
        self._connection = None
        self._observer.disconnected()

    def _delay_s(self, failure: Failure, attempt: int) -> float:
        """Return the delay before the next attempt, in s."""
        draw = random.random()  # noqa: S311 - jitter, not a secret
        return retry_s(failure, attempt, self._settings.backoff_first_s, self._settings.backoff_max_s, draw)
