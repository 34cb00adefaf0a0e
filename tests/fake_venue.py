"""A fake venue: a websocket server that sends what a test tells it to, well-formed or not, and refuses when told to.

The simulator is the venue that behaves; this one is for what no simulator of a sound venue would ever send.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from http import HTTPStatus
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from helpers import wait_until

Frame = str | bytes | list[str]
"""A text frame, a binary frame, or a text message in fragments."""


class FakeVenue:
    """Listens on loopback until its `with` block ends. `refusal` is the status that handshakes are answered with."""

    def __init__(self) -> None:
        self.refusal: HTTPStatus | None = None
        self.attempts: list[float] = []  # when each handshake came, of a monotonic clock, in s
        self.connections: list[ServerConnection] = []
        self._server = serve(self._converse, "127.0.0.1", 0, process_request=self._admit, compression=None)
        self._thread = Thread(target=self._server.serve_forever, name="fake-venue")
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def send(self, frames: Iterable[Frame]) -> None:
        """Send these frames, in their order, on the connection that is open, waiting for one where there is none."""
        wait_until(lambda: self.connections, 30, "a client of the fake venue")
        for frame in frames:
            self.connections[-1].send(frame, text=isinstance(frame, str | list))

    def _admit(self, connection: ServerConnection, _request: Request) -> Response | None:
        self.attempts.append(time.monotonic())
        if self.refusal is None:
            return None
        return connection.respond(self.refusal, "no")

    def _converse(self, connection: ServerConnection) -> None:
        """Answer every request of the client as if it were the one for the list of its streams."""
        assert connection.request is not None
        streams = parse_qs(urlsplit(connection.request.path).query)["streams"][0].split("/")
        self.connections.append(connection)
        try:
            for message in connection:
                connection.send(json.dumps({"result": streams, "id": json.loads(message)["id"]}))
        except ConnectionClosed:
            pass

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        for connection in self.connections:
            connection.close()
        self._thread.join()
