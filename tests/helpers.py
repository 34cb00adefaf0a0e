"""What tests of several folders call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

Value = TypeVar("Value")


def wait_until(condition: Callable[[], Value], timeout_s: float, what: str, every_s: float = 0.02) -> Value:
    """Return the first true value of `condition()`; fail the test, naming what it waited for, after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"Waited {timeout_s:g} s in vain for {what}")
        time.sleep(every_s)
    return value


def gone(pid: int) -> bool:
    """Tell whether a process has ended; one that only waits to be collected by its parent has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def recordings() -> Path:
    """Return the folder of recorded market data; skip the test where there is none."""
    folder = Path(os.environ.get("MARKETFEED_RECORDINGS") or Path(__file__).parents[2] / "shared" / "recordings")
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}: set MARKETFEED_RECORDINGS")
    return folder
