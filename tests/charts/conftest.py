"""What the charts' tests share: a real control plane with the definitions of others' kinds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from charting import restricted_namespace
from controlplane import ControlPlane, binaries, crds
from controlplane.install import install
from marketfeed.errors import MarketfeedError


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing before the first test, whose time limit is shorter than a build, and let its progress show.

    What fails here fails again, with its sentence, in the test that needs it.
    """
    ours = [item for item in session.items if item.path.is_relative_to(Path(__file__).parent)]
    names = {name for item in ours for name in getattr(item, "fixturenames", ())}
    if ours and not session.config.option.collectonly:
        capture = session.config.pluginmanager.getplugin("capturemanager")
        assert capture is not None
        with capture.global_and_fixture_disabled(), suppress(MarketfeedError):
            binaries.helm()
            if "chart_plane" in names:
                binaries.provide()
                crds.third_party()
                crds.prometheus_rule()


@pytest.fixture(scope="session")
def chart_plane() -> Iterator[ControlPlane]:
    """Start the control plane that the charts' tests share: no definition of ours, those of others' kinds.

    It has no nodes, so that no pod ever runs.
    """
    with tempfile.TemporaryDirectory(prefix="marketfeed-test-") as folder, ControlPlane(Path(folder)) as plane:
        install(plane, [*crds.third_party(), crds.prometheus_rule()])
        yield plane


@pytest.fixture
def restricted(chart_plane: ControlPlane) -> Iterator[str]:
    """Return a namespace of this test's own that takes only pods of the restricted profile."""
    with restricted_namespace(chart_plane, "chart") as name:
        yield name
