"""What an image's build calls: archives in a folder, verified, and nothing beside them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from marketfeed.local import archives
from marketfeed.local.components import Artifact, Lock, fetch

CONTENT = b"the archive's bytes"
ARTIFACT = Artifact("org.example:tool:1.0", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def test_archives_lie_flat_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They bear their own names, as a class path wants them, and the folder holds nothing else."""
    source = tmp_path / "repository" / ARTIFACT.path
    source.parent.mkdir(parents=True)
    source.write_bytes(CONTENT)
    monkeypatch.setenv("MARKETFEED_MAVEN_URL", (tmp_path / "repository").as_uri())
    lock = Lock({"tool": (ARTIFACT,)}, {})
    monkeypatch.setattr(archives, "fetch", lambda *found, **options: fetch(*found, **options, lock=lock))
    laid = archives.lay("tool", tmp_path / "jars")
    assert laid == [tmp_path / "jars" / "tool-1.0.jar"] == list((tmp_path / "jars").iterdir())
    assert laid[0].read_bytes() == CONTENT


def test_what_cannot_be_fetched_ends_the_build_with_a_sentence(tmp_path: Path) -> None:
    """The exit code is 1, and the sentence names the variable that a mirror is given by."""
    command = [sys.executable, "-m", "marketfeed.local.archives", "spark-kafka", str(tmp_path / "jars")]
    environment = {"MARKETFEED_MAVEN_URL": (tmp_path / "nothing").as_uri()}
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert answer.returncode == 1
    assert "set MARKETFEED_MAVEN_URL to a mirror" in answer.stderr.splitlines()[-1]
    assert "Traceback" not in answer.stderr
