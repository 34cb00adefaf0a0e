"""Whatever version of Strimzi a cluster has: topics are written in the version that it serves."""

from __future__ import annotations

from pathlib import Path

from controlplane import ControlPlane, crds
from controlplane.install import install, own
from operators import Feeds, install_operator, operator
from released import COLLECTED_S
from standins import Standins


def test_topics_of_a_strimzi_that_serves_v1_alone(own_control_plane: ControlPlane, tmp_path: Path) -> None:
    """With nothing but KafkaTopic v1 and no other API installed, a feed becomes ready, and is told what is missing."""
    plane = own_control_plane
    install(plane, [*own(), crds.kafka_topic("v1")])
    for namespace in ("feeds", "kafka"):
        plane.kubectl("create", "namespace", namespace)
    install_operator(plane)
    with Standins(plane.kubeconfig), operator(plane, tmp_path):
        feeds = Feeds(plane, "feeds", "kafka")
        feeds.secret()
        feeds.apply()
        feeds.wait("TopicsReady")
        feeds.wait("Ready")
        topics = feeds.items("kafkatopics", namespace="kafka")
        assert {topic["apiVersion"] for topic in topics} == {"kafka.strimzi.io/v1"}
        feeds.kubectl("delete", "marketfeed", "spot")
        feeds.gone("kafkatopics", namespace="kafka", within_s=COLLECTED_S)
