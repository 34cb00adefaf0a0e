"""Logs: one JSON object a line on stderr, one `action` verb per record.

`log = logger("ingestor")`, then `log.info("connected", streams=9)`: first the action, then its fields.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any


class JsonFormatter(logging.Formatter):
    """One line of JSON: time, level, logger, action, then the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record; an exception becomes its class and text, from ERROR on with the traceback."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "action": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            entry["error"] = f"{type(error).__name__}: {error}"
        # Libraries have been seen to log an exception's class in its place: it has no traceback to show.
        if isinstance(error, BaseException) and record.levelno >= logging.ERROR:
            entry["traceback"] = self.formatException((type(error), error, error.__traceback__))
        return json.dumps(entry, default=str)


class Log:
    """A logger whose calls read as an action and its fields."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, action: str, **fields: Any) -> None:
        """Log what only a developer wants."""
        self._logger.debug(action, extra={"fields": fields})

    def info(self, action: str, **fields: Any) -> None:
        """Log what an operator wants to have seen afterwards."""
        self._logger.info(action, extra={"fields": fields})

    def warning(self, action: str, **fields: Any) -> None:
        """Log what went wrong and is being dealt with."""
        self._logger.warning(action, extra={"fields": fields})

    def error(self, action: str, **fields: Any) -> None:
        """Log what somebody must look at; called while handling an exception, it adds the traceback."""
        self._logger.error(action, extra={"fields": fields}, exc_info=sys.exc_info()[0] is not None)


def logger(name: str) -> Log:
    """Return the log of one service or part."""
    return Log(logging.getLogger(f"marketfeed.{name}"))


def configure(level: str = "INFO") -> None:
    """Send every log record of this process to stderr as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
