"""What kube-router is told so that it enforces policies and nothing else."""

from __future__ import annotations

from pathlib import Path

import yaml

from node import policies

ACCESS = Path("/run/router.kubeconfig")


def test_only_policies_are_enforced() -> None:
    """Routes, services and the CNI configuration stay with those that made them."""
    chosen = policies.options(ACCESS, "node-1", "10.1.0.0/16")
    assert chosen["run-firewall"] == "true"
    others = {"run-router", "run-service-proxy", "run-loadbalancer", "enable-cni"}
    assert {chosen[name] for name in others} == {"false"}


def test_a_server_takes_the_same_options(tmp_path: Path) -> None:
    """What the node starts is told the access, its own name and the range of the services that it has."""
    server = policies.Policies(tmp_path, tmp_path / "kube-router", ACCESS, "node-1", "10.1.0.0/16")
    assert server.options() == policies.options(ACCESS, "node-1", "10.1.0.0/16")
    assert server.options()["service-cluster-ip-range"] == "10.1.0.0/16"
    assert server.options()["hostname-override"] == "node-1"
    assert server.options()["kubeconfig"] == ACCESS


def test_its_account_reads_and_no_secret() -> None:
    """The role has reading verbs alone, and is bound to the user that the node makes an access for."""
    role, binding = yaml.safe_load_all(policies.ACCESS.read_text())
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert not {"secrets", "configmaps", "*"} & {name for rule in role["rules"] for name in rule["resources"]}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [subject["name"] for subject in binding["subjects"]] == [policies.USER]
