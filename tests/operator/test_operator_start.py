"""An operator that comes before the definition of its own kind."""

from __future__ import annotations

from pathlib import Path

from controlplane import ControlPlane
from controlplane.install import install, own
from helpers import wait_until
from operators import SOON_S, Feeds, install_operator, operator


def test_it_waits_for_the_definition_of_its_kind_and_goes_on_when_it_is_there(
    own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    """It says what to install, and neither ends nor needs a restart; the first feed is looked at soon after."""
    install_operator(own_control_plane)
    with operator(own_control_plane, tmp_path) as process:
        wait_until(lambda: "not installed" in (process.reason() or ""), SOON_S, "the reason", every_s=0.1)
        assert process.reason() == (
            "starting: marketfeeds.marketfeed.dev is not installed: kubectl apply --server-side -f crds/"
        )
        assert process.get("/livez")[0] == 200
        assert len(process.entries("waiting")) == 1, "it says so once, not with every look"
        install(own_control_plane, own())
        wait_until(lambda: process.reason() is None, SOON_S, "the operator to be ready", every_s=0.1)
        feeds = Feeds(own_control_plane, "default", "default")
        feeds.apply()
        said = feeds.wait("TopicsReady", "False", "NotServed")["message"]
        assert "install Strimzi, or set spec.kafka.topics.provisioner to direct" in said
        process.assert_alive()
