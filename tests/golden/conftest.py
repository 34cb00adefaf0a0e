"""Golden files: compared, or written anew with --update-golden."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option; it is there when tests/golden is named on the command line."""
    parser.addoption("--update-golden", action="store_true", help="write golden files anew instead of comparing")


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Return `check(path, text)`, which fails unless the file holds exactly this text."""
    update = bool(request.config.getoption("--update-golden", default=False))

    def check(path: Path, text: str) -> None:
        if update:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.is_file(), f"{path} is not there: pytest tests/golden --update-golden writes it"
        assert text == path.read_text(), "judge the difference, then: pytest tests/golden --update-golden"

    return check
