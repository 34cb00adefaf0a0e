"""The HTTP side of every service: `/livez`, `/readyz`, `/health`, `/stats`, `/pairs` and `/metrics` on one port.

A service that carries streams answers `/streams` too; any other has no such path.

It runs in a thread of its own, so that it answers, and says so, when the service's loop hangs. What the answers are is
decided by the service's `Pulse`, from facts; nothing here knows what a service does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from marketfeed.errors import ConfigurationError
from marketfeed.settings import HttpSettings

Reason = str | None
"""Why not, in a few words; None means that all is well."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a service says of itself; each function is called per request and must neither block nor raise."""

    live: Callable[[], Reason]  # the loop turns and work makes progress; a dependency that is down never counts
    ready: Callable[[], Reason]
    stats: Callable[[], Mapping[str, Any]]
    pairs: Callable[[], list[str]] = field(default=list)
    streams: Callable[[], Mapping[str, list[str]]] | None = None  # of a service that carries streams

    def unready(self) -> Reason:
        """Return why `/readyz` answers 503; None while it answers 200."""
        return self.live() or self.ready()


class _Handler(BaseHTTPRequestHandler):
    """Routes a GET to the pulse."""

    pulse: ClassVar[Pulse]
    registry: ClassVar[CollectorRegistry]
    timeout = 5.0  # a client that sends its request more slowly is cut off

    def do_GET(self) -> None:
        """Answer one of the known paths, 404 with their list for any other."""
        path = self.path.partition("?")[0]
        pulse = self.pulse
        if path == "/metrics":
            self._send(200, CONTENT_TYPE_LATEST, generate_latest(self.registry))
        elif path == "/livez":
            self._state(pulse.live(), "ok", {})
        elif path in ("/readyz", "/"):
            self._state(pulse.unready(), "ok", {})
        elif path == "/health":
            self._state(pulse.unready(), "healthy", {"stats": dict(pulse.stats())})
        elif path == "/stats":
            self._json(200, dict(pulse.stats()))
        elif path == "/pairs":
            pairs = pulse.pairs()
            self._json(200, {"count": len(pairs), "pairs": pairs})
        elif path == "/streams" and pulse.streams is not None:
            self._json(200, pulse.streams())
        else:
            streams = "" if pulse.streams is None else "/streams "
            self._json(404, {"error": f"try /livez /readyz /health /stats /pairs {streams}/metrics"})

    def _state(self, reason: Reason, good: str, more: Mapping[str, Any]) -> None:
        if reason is None:
            self._json(200, {"status": good, **more})
        else:
            self._json(
                503, {"status": "starting" if reason.startswith("starting") else "unhealthy", "reason": reason, **more}
            )

    def _json(self, status: int, body: Mapping[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(body).encode() + b"\n")

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Probes every few seconds are not worth a line."""


class Server:
    """Serves a pulse until `close`; `url` says where (with the port that was taken when 0 was asked for).

    Raises ConfigurationError where nothing can listen, as on a port that another process has.
    """

    def __init__(self, settings: HttpSettings, pulse: Pulse, registry: CollectorRegistry) -> None:
        handler = type("Handler", (_Handler,), {"pulse": pulse, "registry": registry})
        try:
            self._http = ThreadingHTTPServer((settings.host, settings.port), handler)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                f"HTTP_HOST and HTTP_PORT: cannot listen on {settings.host}:{settings.port}: {error}"
            ) from None
        self._http.daemon_threads = True
        self._thread = Thread(target=self._http.serve_forever, args=(0.2,), name="http", daemon=True)
        self._thread.start()
        host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
        self.url = f"http://{host}:{self._http.server_port}"

    def close(self) -> None:
        """Stop answering and free the port."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
