"""The real control plane that all tests of the operator share, and a namespace of each test's own."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from controlplane import ControlPlane, binaries, crds
from controlplane.install import install, own
from helpers import wait_until
from marketfeed.errors import MarketfeedError
from operators import SOON_S, Feeds, OperatorProcess, install_operator
from operators import operator as operator_process
from replicas import KAFKA, REPLICAS
from standins.runner import Standins


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing before the first test, whose time limit is shorter than a build, and let its progress show.

    What fails here fails again, with its sentence, in the fixture that needs it.
    """
    wanted = any("control_plane" in name for item in session.items for name in getattr(item, "fixturenames", ()))
    if wanted and not session.config.option.collectonly:
        capture = session.config.pluginmanager.getplugin("capturemanager")
        assert capture is not None
        with capture.global_and_fixture_disabled(), suppress(MarketfeedError):
            binaries.provide()
            crds.third_party()


@contextmanager
def _namespace(plane: ControlPlane, prefix: str) -> Iterator[str]:
    name = f"{prefix}-{secrets.token_hex(4)}"
    plane.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        plane.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """Start the control plane that all tests share, with our definitions and those of the kinds that feeds use.

    The tests keep apart by `namespace`. To stop its servers, take `own_control_plane`.
    """
    with tempfile.TemporaryDirectory(prefix="marketfeed-test-") as folder, ControlPlane(Path(folder)) as plane:
        install(plane, [*own(), *crds.third_party()])
        yield plane


@pytest.fixture
def own_control_plane() -> Iterator[ControlPlane]:
    """Start a control plane for this test alone, without any definition: it may be killed."""
    with tempfile.TemporaryDirectory(prefix="marketfeed-test-") as folder, ControlPlane(Path(folder)) as plane:
        yield plane


@pytest.fixture(scope="session")
def quiet_control_plane() -> Iterator[ControlPlane]:
    """Start a second control plane for the tests that run operators of their own: no other one works there.

    Two service accounts may be an operator; nodes and Strimzi are away until a test starts stand-ins.
    """
    with tempfile.TemporaryDirectory(prefix="marketfeed-test-") as folder, ControlPlane(Path(folder)) as plane:
        install(plane, [*own(), *crds.third_party()])
        for account in REPLICAS:
            install_operator(plane, account)
        plane.kubectl("create", "namespace", KAFKA)
        yield plane


@pytest.fixture
def quiet_feeds(quiet_control_plane: ControlPlane) -> Iterator[Feeds]:
    """Return the feeds of a namespace of this test's own there; they are deleted afterwards, topics included."""
    with _namespace(quiet_control_plane, "quiet") as name:
        made = Feeds(quiet_control_plane, name, KAFKA)
        made.secret()
        yield made


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """Return a namespace that no other test has; its deletion is asked for afterwards, and not waited for."""
    with _namespace(control_plane, "feeds") as name:
        yield name


@pytest.fixture
def kafka_namespace(control_plane: ControlPlane) -> Iterator[str]:
    """Return a second namespace of this test, for the KafkaTopics of a feed whose cluster lives elsewhere."""
    with _namespace(control_plane, "kafka") as name:
        yield name


@pytest.fixture(scope="session")
def standins(control_plane: ControlPlane) -> Iterator[Standins]:
    """Run the nodes, the Spark operator and the topic operator (of namespace kafka) that all tests share."""
    control_plane.kubectl("create", "namespace", KAFKA)
    with Standins(control_plane.kubeconfig, topic_namespace=KAFKA) as running:
        yield running


@pytest.fixture(scope="session")
def operator(control_plane: ControlPlane, standins: Standins) -> Iterator[OperatorProcess]:
    """Run the operator that looks after every namespace, for all tests that need none of their own."""
    del standins
    install_operator(control_plane)
    folder = tempfile.TemporaryDirectory(prefix="marketfeed-test-")
    with folder as name, operator_process(control_plane, Path(name)) as process:
        wait_until(process.leads, SOON_S, "the operator to lead")
        yield process
        process.assert_alive()


@pytest.fixture
def feeds(control_plane: ControlPlane, operator: OperatorProcess, namespace: str) -> Feeds:
    """Return the feeds of this test's namespace, with the secret that they name; their topics are in kafka."""
    operator.assert_alive()
    made = Feeds(control_plane, namespace, KAFKA)
    made.secret()
    return made
