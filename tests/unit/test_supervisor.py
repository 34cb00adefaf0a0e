"""What is decided about services that die, and how their ends are told."""

from __future__ import annotations

import signal

import pytest

from marketfeed.local.child import Entry, parse_entry, reason
from marketfeed.local.supervisor import SETTLED_AFTER_S, ending, next_attempt, readable


def test_backoff_grows_until_a_process_has_run_for_a_while() -> None:
    """Deaths in a row count up; one after a long life counts from the start again."""
    assert next_attempt(-1, 0.1) == 0
    assert next_attempt(3, 0.1) == 4
    assert next_attempt(3, SETTLED_AFTER_S) == 0


def test_endings_are_said_in_words() -> None:
    """A signal is named, an exit code is given."""
    assert ending(-signal.SIGKILL) == "it was killed by SIGKILL"
    assert ending(1) == "it ended with exit code 1"


def test_a_log_record_is_readable() -> None:
    """The action comes first; times, levels and empty fields are left out."""
    told = {"time": "now", "level": "warning", "logger": "x", "action": "connect_failed", "reason": "refused"}
    entry: Entry = {**told, "status": None, "topic": ""}
    assert readable(entry) == "connect failed: reason=refused"


@pytest.mark.parametrize("line", ["", "Traceback (most recent call last):", "{broken", "[1]"])
def test_other_lines_are_no_records(line: str) -> None:
    """A traceback's lines or half an object are not taken for log records."""
    assert parse_entry(line) is None


def test_the_reason_of_a_death_is_its_last_words() -> None:
    """The sentence that the command line printed is preferred, else the last error that was logged."""
    assert reason(['{"level": "info", "action": "connected"}', "marketfeed: X is not set"]) == "X is not set"
    assert reason(['{"level": "error", "action": "failed", "error": "boom"}']) == "boom"
    assert reason(["    | ValueError: boom", "    +------------------------------------"]) == "ValueError: boom"
    assert reason([]) == "it said nothing"
