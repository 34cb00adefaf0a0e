"""Logs: one JSON object a line."""

import io
import json
import logging
from typing import Any

import pytest

from marketfeed import logs


@pytest.fixture
def lines() -> io.StringIO:
    """Return what the log writes, and put the root logger back afterwards."""
    return io.StringIO()


def capture(stream: io.StringIO) -> logging.Handler:
    """Return a handler that writes as the services do, into a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    return handler


def test_a_record_is_one_line_with_action_and_fields(lines: io.StringIO) -> None:
    """An action and its fields become one JSON object on one line, newlines in values included."""
    logger = logging.getLogger("marketfeed.logs-test")
    handler = capture(lines)
    logger.addHandler(handler)
    try:
        logs.logger("logs-test").warning("refused", symbol="BTC\nUSDT", streams=9)
    finally:
        logger.removeHandler(handler)
    (line,) = lines.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["action"], entry["level"], entry["symbol"], entry["streams"]) == (
        "refused",
        "warning",
        "BTC\nUSDT",
        9,
    )


def test_an_error_carries_the_exception(lines: io.StringIO) -> None:
    """An error logged while handling an exception says its class and text, with the traceback."""
    logger = logging.getLogger("marketfeed.logs-test")
    handler = capture(lines)
    logger.addHandler(handler)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logs.logger("logs-test").error("failed")
    finally:
        logger.removeHandler(handler)
    entry = json.loads(lines.getvalue())
    assert entry["error"] == "ZeroDivisionError: division by zero"
    assert "Traceback" in entry["traceback"]


def test_an_exceptions_class_in_its_place_is_still_a_line(lines: io.StringIO) -> None:
    """A library that logs the class instead of the exception gets its line of JSON, without a traceback."""
    handler = capture(lines)
    wrong: Any = (OSError, OSError, None)
    handler.handle(logging.LogRecord("x", logging.ERROR, "", 0, "failed", None, wrong))
    entry = json.loads(lines.getvalue())
    assert entry["error"] == "type: <class 'OSError'>"
    assert "traceback" not in entry
