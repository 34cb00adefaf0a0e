"""kopf's part: it watches, and hands on what it sees. No decision rests on an event.

kopf wants a loop of its own (when it ends, it ends every task around it), so each watcher is a thread. What comes in is
handed to the operator's loop; a watcher that dies is told there, and ends the process.
What does not live here: what is done about a change (reconcile).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import kopf

from marketfeed_operator.objects import Kind, Manifest

What = Literal["listed", "changed", "gone"]
Seen = Callable[[Kind, What, Manifest], None]
"""Takes what a watch saw, on the operator's loop."""

_WHAT: dict[str | None, What] = {None: "listed", "DELETED": "gone"}

_SERVER_TIMEOUT_S = 300  # a whole number: it goes into the URL as it is
_CLIENT_TIMEOUT_S = 310.0
_CONNECT_TIMEOUT_S = 5.0
_RECONNECT_BACKOFF_S = 1.0
_ERROR_BACKOFFS_S = (0.5, 1.0, 2.0, *[3.0] * 40)
"""Waits between attempts. Short ones, since a watch is blind meanwhile; after two minutes of errors the watch ends."""
_STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Watched:
    """A kind that is watched, by label; an empty selector watches every object of the kind."""

    kind: Kind
    selector: str = ""


class _NoDiffs(kopf.DiffBaseStorage):
    """Keeps nothing to compare objects with: kopf copies each object for it at each event, and we read no diffs."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class Watcher:
    """One kopf in one thread. `ended` is done when it ended by itself, which it never should."""

    def __init__(
        self,
        watched: Iterable[Watched],
        namespaces: Iterable[str],
        login: Callable[[], kopf.ConnectionInfo],
        seen: Seen,
        request_timeout_s: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._seen = seen
        self._namespaces = tuple(namespaces)
        self._registry = kopf.OperatorRegistry()
        self._settings = _settings(request_timeout_s, clusterwide=not self._namespaces)
        self._stop = threading.Event()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        kopf.on.login(registry=self._registry)(self._logging_in(login))
        for one in watched:
            self._watch(one)
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._thread.start()

    def _watch(self, watched: Watched) -> None:
        kind = watched.kind
        kopf.on.event(kind.group, kind.version, kind.plural, registry=self._registry)(self._handler(kind))
        if watched.selector:
            self._settings.watching.label_selectors[kind.group, kind.version, kind.plural] = watched.selector

    def _handler(self, kind: Kind) -> Callable[..., Any]:
        async def handle(event: Any, **_: Any) -> None:
            what: What = _WHAT.get(event["type"], "changed")
            self._loop.call_soon_threadsafe(self._seen, kind, what, event["object"])

        handle.__name__ = handle.__qualname__ = f"watch_{kind.plural}"
        return handle

    def _logging_in(self, login: Callable[[], kopf.ConnectionInfo]) -> Callable[..., kopf.ConnectionInfo]:
        """Return the login as kopf wants it. Without credentials kopf waits for ever, and its watches with it."""

        def log_in(**_: Any) -> kopf.ConnectionInfo:
            try:
                return login()
            except Exception as error:
                self._tell(error)
                raise

        return log_in

    def _run(self) -> None:
        try:
            asyncio.run(self._operate())
        except BaseException as error:  # noqa: BLE001 - whatever it was, the process must learn of it
            self._tell(error)
        else:
            self._tell(None)

    async def _operate(self) -> None:
        try:
            await kopf.operator(
                registry=self._registry,
                settings=self._settings,
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=self._stop,
            )
        finally:
            self._stop.set()  # kopf leaves a thread that waits for it, and the loop would wait for that thread

    def _tell(self, error: BaseException | None) -> None:
        def settle() -> None:
            if self.ended.done():
                return
            if error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(settle)

    async def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join, _STOP_TIMEOUT_S)


def _settings(request_timeout_s: float, *, clusterwide: bool) -> kopf.OperatorSettings:
    """Return kopf's settings: streams that end and are renewed, nothing written to the cluster, nothing kept."""
    settings = kopf.OperatorSettings()
    settings.networking.request_timeout = request_timeout_s
    settings.networking.connect_timeout = _CONNECT_TIMEOUT_S
    settings.networking.enforce_retry_after = True
    settings.networking.error_backoffs = _ERROR_BACKOFFS_S
    settings.watching.server_timeout = _SERVER_TIMEOUT_S
    settings.watching.client_timeout = _CLIENT_TIMEOUT_S
    settings.watching.reconnect_backoff = _RECONNECT_BACKOFF_S
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.posting.enabled = False
    settings.scanning.disabled = not clusterwide  # a namespaced role may not list custom resources
    for name in ("kopf", "kopf.objects"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").addFilter(_is_news)
    return settings


def _is_news(record: logging.LogRecord) -> bool:
    """Tell apart kopf's warning that it handles no signals in a thread: it is not to."""
    return "OS signals are ignored" not in record.getMessage()
