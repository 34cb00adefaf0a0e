"""What end-to-end tests judge by: figures, gaps as ids, rights from rules and from what was asked. No cluster."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import rights
from controlplane.audit import Request
from marketfeed.events import Grade
from marketfeed.proof import GapFound
from stand import install
from stand.archives import retagged
from stand.cluster import Cluster
from stand.install import IMAGES, operator_images, platform_images
from stand.scenario import Figures, Held, ids_of
from stand.steps import Steps

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _gap(first: int, last: int) -> GapFound:
    return GapFound("binance", "BTCUSDT", "trade", Grade.PROVEN, first, last, last - first + 1, _NOW, _NOW)


def test_gaps_count_up_to_the_end_that_is_looked_at() -> None:
    """Ids beyond the last one of the truth are not judged yet."""
    assert ids_of([_gap(3, 4), _gap(9, 12)], {"BTCUSDT@trade": 10}) == {"BTCUSDT@trade": [3, 4, 9, 10]}
    assert ids_of([_gap(3, 4)], {}) == {}


def test_only_ids_that_prove_something_must_be_explained() -> None:
    """A missing trade needs its gap; a missing best bid has none, and still counts as missing."""
    assert Held(5, {"BTCUSDT@bookTicker": [7]}, {}).explained
    assert not Held(5, {"BTCUSDT@trade": [7]}, {}).explained
    assert not Held(5, {}, {"BTCUSDT@trade": [7]}).explained
    assert Held(5, {"BTCUSDT@bookTicker": [7], "BTCUSDT@trade": [1, 2]}, {}).missing == 3


def test_a_line_says_all_figures() -> None:
    """A scenario that compared no table shows no counts."""
    whole, timed = str(Figures("flow", 12.34, 1000, 2)), str(Figures("rights", 0.5))
    assert " ".join(whole.split()) == "flow 1000 records 2 missing 0 duplicated 12.3 s"
    assert " ".join(timed.split()) == "rights - records - missing - duplicated 0.5 s"


def test_a_step_says_its_seconds_and_its_notes() -> None:
    """A line is told when the step is done, and not when it fails."""
    told: list[str] = []
    with Steps(told.append)("images") as note:
        note("two")
    (line,) = told
    assert line.startswith("images")
    assert line.endswith("two")


def _request(verb: str, uri: str, resource: str, code: int) -> Request:
    return Request(at=_NOW, user="u", agent="", verb=verb, uri=uri, resource=resource, namespace="", name="", code=code)


def test_rights_are_compared_one_by_one() -> None:
    """An apply that makes its object needs create; what was forbidden uses no right."""
    asked = [
        _request("patch", "/apis/apps/v1/namespaces/a/deployments/b?fieldManager=x", "deployments", 201),
        _request("get", "/api/v1/namespaces/a/secrets/b", "secrets", 200),
        _request("delete", "/api/v1/namespaces/a/pods/b", "pods", 403),
    ]
    used = {("apps", "deployments", "patch"), ("apps", "deployments", "create"), ("", "secrets", "get")}
    assert rights.used(asked) == used
    assert rights.denied(asked) == ["delete /api/v1/namespaces/a/pods/b"]
    allowed = rights.of_rules([{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "list"]}])
    assert len(allowed) == 4


def test_images_are_named_as_the_charts_want() -> None:
    """A registry's port is no tag."""
    references = dict.fromkeys(IMAGES, "localhost:5000/a/b:dev-1")
    wanted = {"repository": "localhost:5000/a/b", "tag": "dev-1", "pullPolicy": "Never"}
    assert operator_images(references)["services"]["image"] == wanted
    assert platform_images(references)["simulator"]["image"] == wanted


def test_a_release_that_was_interrupted_is_installed_again(tmp_path: Path) -> None:
    """Before helm is asked, the record of one that was killed goes, of this release alone and whatever it was doing."""
    said, program = tmp_path / "said", tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$*" >> {said}\n')
    program.chmod(0o755)
    references = dict.fromkeys(IMAGES, "a/b:1")
    install.platform(Cluster(tmp_path / "kubeconfig", program, program), references, tmp_path)
    forget, upgrade = said.read_text().splitlines()
    states = "pending-install,pending-upgrade,pending-rollback,uninstalling"
    assert forget.endswith(f"delete secret --namespace=kafka --selector=owner=helm,name=platform,status in ({states})")
    assert upgrade.startswith("upgrade --install platform ")


def test_an_archive_is_given_another_name(tmp_path: Path) -> None:
    """Layers stay as they are, and the old name is not in it any more."""
    old, contents = tmp_path / "old.tar", {"layer.tar": b"content", "repositories": b"{}"}
    contents["manifest.json"] = json.dumps([{"RepoTags": ["a:1"], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(old, "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with tarfile.open(retagged(old, "a:next", tmp_path / "new.tar")) as archive:
        assert archive.getnames() == ["layer.tar", "manifest.json"]
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest) == [{"RepoTags": ["a:next"], "Layers": ["layer.tar"]}]
