"""What kube-router is told so that it enforces policies and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from controlplane import binaries
from node import policies

ACCESS = Path("/run/router.kubeconfig")


def test_only_policies_are_enforced() -> None:
    """Routes, services and the CNI configuration stay with those that made them."""
    chosen = policies.options(ACCESS, "node-1")
    assert chosen["run-firewall"] == "true"
    others = {"run-router", "run-service-proxy", "run-loadbalancer", "enable-cni"}
    assert {chosen[name] for name in others} == {"false"}


def test_the_command_names_program_access_and_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs as it is: the program of the cache, its options, and an environment that finds iptables and ipset."""
    monkeypatch.setenv("MARKETFEED_CACHE", str(tmp_path))
    for group in (binaries.NODE, binaries.COREDNS, binaries.KUBE_ROUTER):
        binaries.folder_for(group).mkdir()
    command, environment = policies.command(ACCESS, "node-1")
    assert command[0] == str(binaries.folder_for(binaries.KUBE_ROUTER) / "kube-router")
    assert {f"--kubeconfig={ACCESS}", "--hostname-override=node-1"} <= set(command)
    assert environment["PATH"]


def test_a_server_takes_the_same_options(tmp_path: Path) -> None:
    """What the node starts is what the command says."""
    server = policies.Policies(tmp_path, tmp_path / "kube-router", ACCESS, "node-1", "10.1.0.0/16")
    assert server.options() == policies.options(ACCESS, "node-1", "10.1.0.0/16")
    assert server.options()["service-cluster-ip-range"] == "10.1.0.0/16"


def test_its_account_reads_and_no_secret() -> None:
    """The role has reading verbs alone, and is bound to the user that the node makes an access for."""
    role, binding = yaml.safe_load_all(policies.ACCESS.read_text())
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert not {"secrets", "configmaps", "*"} & {name for rule in role["rules"] for name in rule["resources"]}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [subject["name"] for subject in binding["subjects"]] == [policies.USER]
