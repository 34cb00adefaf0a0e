"""The stand that all scenarios share, their feeds, and the lines with figures at the end of the run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path

import pytest

import images
import stand as stands
from images import catalog
from marketfeed.errors import MarketfeedError
from stand import spark
from stand.background import Stand, missing, provide
from stand.feeds import Feeds
from stand.scenario import Stopwatch, Tell

_REQUIRED = "MARKETFEED_E2E"
_LINES = pytest.StashKey[list[str]]()
_WHOLE_S = 1500  # the first scenario brings the stand up, with images that may have to be built
_GONE_S = 120.0
_NEEDED = {"test_images.py": catalog.OURS, "test_scenario_6_spark.py": spark.IMAGES}


def pytest_configure(config: pytest.Config) -> None:
    """Keep the lines that the scenarios say."""
    config.stash[_LINES] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give scenarios the time that bringing up the stand may take; what they wait for has bounds of its own."""
    for item in items:
        if Path(item.path).name.startswith("test_scenario"):
            item.add_marker(pytest.mark.timeout(_WHOLE_S))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing before the first test, whose time limit is shorter than a build, and let its progress show.

    What fails here fails again, with its sentence, in the fixture that needs it.
    """
    wanted = {item.path.name for item in session.items if Path(__file__).parent in item.path.parents}
    if not wanted or session.config.option.collectonly or missing() is not None:
        return
    with _shown(session.config), suppress(MarketfeedError):
        provide()
        more = [name for file, names in _NEEDED.items() if file in wanted for name in names]
        for name in dict.fromkeys(more):
            images.provide(name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the scenarios came to."""
    lines = config.stash[_LINES]
    if lines:
        terminalreporter.section("scenarios")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def tell(pytestconfig: pytest.Config) -> Tell:
    """Return what takes a scenario's figures for the end of the run."""
    return lambda figures: pytestconfig.stash[_LINES].append(str(figures))


@pytest.fixture
def watch(feeds: Feeds) -> Stopwatch:
    """Return when this scenario began; bringing up what all share is no part of it."""
    del feeds
    return Stopwatch()


@pytest.fixture(scope="session")
def stand(pytestconfig: pytest.Config) -> Iterator[Stand]:
    """Return the stand that runs, furnished to its end; start one and end it afterwards where there is none."""
    problem = missing()
    if problem is not None and os.environ.get(_REQUIRED) == "required":
        pytest.fail(problem)
    if problem is not None:
        pytest.skip(problem)
    found = stands.find() is not None
    begun = time.monotonic()
    try:
        yield stands.up(_teller(pytestconfig))
        pytestconfig.stash[_LINES].append(
            f"the stand {'was there' if found else 'was brought up'} ({time.monotonic() - begun:.0f} s in all)"
        )
    finally:
        if not found:
            stands.down()


def _shown(config: pytest.Config) -> AbstractContextManager[None]:
    """Let what is written reach a person, past pytest's capture."""
    capture = config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    shown: AbstractContextManager[None] = capture.global_and_fixture_disabled()
    return shown


def _teller(config: pytest.Config) -> Callable[[str], None]:
    """Return what shows progress while tests run."""

    def tell(line: str) -> None:
        with _shown(config):
            print(line, flush=True)  # noqa: T201 - progress for a person, minutes long

    return tell


@pytest.fixture(scope="session")
def progress(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Return what shows progress while tests run."""
    return _teller(pytestconfig)


@pytest.fixture(scope="session")
def feeds(stand: Stand) -> Iterator[Feeds]:
    """Return the scenarios' feeds, all of them begun, so that they start beside each other."""
    found = Feeds(stand)
    found.clear(_GONE_S)
    with ExitStack() as afterwards:
        afterwards.callback(found.shut_out)
        found.let_in()
        afterwards.callback(found.clear, _GONE_S)
        found.begin()
        yield found
