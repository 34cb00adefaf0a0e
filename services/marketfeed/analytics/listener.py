"""Spark's events, handed on as plain data; Spark calls this on a thread of its own."""

from __future__ import annotations

import json
from collections.abc import Callable

from pyspark.sql.streaming.listener import (
    QueryIdleEvent,
    QueryProgressEvent,
    QueryStartedEvent,
    QueryTerminatedEvent,
    StreamingQueryListener,
)

from marketfeed.analytics.progress import Offsets
from marketfeed.analytics.watch import Watch


class Listener(StreamingQueryListener):
    """Tells the watch what becomes of each query.

    committed: returns what the query with an id has processed, for one that found nothing new since it was started.
    """

    def __init__(self, watch: Watch, committed: Callable[[str], Offsets]) -> None:
        self._watch = watch
        self._committed = committed
        self._names: dict[str, str] = {}

    def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802 - Spark's name, as those below
        """Learn the query's name; Spark calls this before `start()` returns."""
        self._names[str(event.id)] = event.name
        self._watch.started(event.name)

    def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802
        """Hand on what a batch did."""
        self._watch.batch(event.progress.name, json.loads(event.progress.json))

    def onQueryIdle(self, event: QueryIdleEvent) -> None:  # noqa: N802
        """Hand on that nothing was new."""
        self._watch.idle(self._names[str(event.id)], event.timestamp, self._committed(str(event.id)))

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802
        """Hand on that the query is over."""
        self._watch.ended(self._names[str(event.id)])
