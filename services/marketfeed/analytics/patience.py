"""Waits for a database that is away, as long as it takes or until the service stops."""

from __future__ import annotations

import random
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from marketfeed.errors import MarketfeedError, Unavailable
from marketfeed.logs import logger
from marketfeed.policies import backoff_s

Result = TypeVar("Result")

_FIRST_S = 0.2
_MAX_S = 5.0

_log = logger("analytics")


class Stopping(MarketfeedError):
    """The service ends, and this batch was not written: it comes again after the next start."""


class Patience:
    """One thread's dealings with the database; `problem` says why it waits, None that it does not.

    failed: called at each failure, to count it.
    """

    def __init__(self, stop: Event, failed: Callable[[], None]) -> None:
        self._stop = stop
        self._failed = failed
        self.problem: str | None = None

    def until_done(self, work: Callable[[], Result]) -> Result:
        """Return what `work()` returns, calling it until the database is there. Raises Stopping when told to stop.

        It is called at least once: what is ready to be written when the service ends is written.
        """
        attempt = 0
        while True:
            try:
                return self.once(work)
            except Unavailable:
                draw = random.random()  # noqa: S311 - jitter, not cryptography
                if self._stop.wait(backoff_s(attempt, _FIRST_S, _MAX_S, draw)):
                    raise Stopping from None
                attempt += 1

    def once(self, work: Callable[[], Result]) -> Result:
        """Return what `work()` returns; raises what it raises, having noted a database that is away."""
        try:
            result = work()
        except Unavailable as error:
            self._failed()
            if self.problem is None:
                _log.warning("waiting_for_database", reason=str(error))
            self.problem = str(error)
            raise
        if self.problem is not None:
            _log.info("database_is_back")
            self.problem = None
        return result
