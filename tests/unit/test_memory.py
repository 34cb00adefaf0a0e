"""Whether analytics find room on a machine: what files of the system say, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketfeed.local.memory import ANALYTICS_BYTES, available_bytes, too_little

GIBIBYTE = 1024**3


def _machine(folder: Path, available_kib: int, cgroup: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Write /proc and /sys/fs/cgroup as a kernel would show them."""
    proc, groups = folder / "proc", folder / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable: {available_kib} kB\n")
    (proc / "self" / "cgroup").write_text(cgroup)
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    return proc, groups


def test_without_a_limit_the_system_decides(tmp_path: Path) -> None:
    """`max` is no limit."""
    proc, groups = _machine(tmp_path, 4096, "0::/a\n", {"a/memory.max": "max\n", "a/memory.current": "77\n"})
    assert available_bytes(proc, groups) == 4096 * 1024


@pytest.mark.parametrize("group", ["a", "a/b"])
def test_the_tightest_limit_above_the_process_counts(group: str, tmp_path: Path) -> None:
    """A group's limit holds for all below it; what it keeps of files that were read once is free."""
    files = {"a/memory.max": "1000\n", "a/memory.current": "700\n", "a/memory.stat": "anon 5\ninactive_file 100\n"}
    files |= {"a/b/memory.max": "9999\n", "a/b/memory.current": "0\n"}
    assert available_bytes(*_machine(tmp_path, 4096, f"0::/{group}\n", files)) == 400


def test_older_control_groups_are_read_too(tmp_path: Path) -> None:
    """Version 1 has a folder for memory, and writes a huge number where there is no limit."""
    files = {
        "memory/a/memory.limit_in_bytes": "5000\n",
        "memory/a/memory.usage_in_bytes": "1000\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.usage_in_bytes": "1000\n",
    }
    assert available_bytes(*_machine(tmp_path, 4096, "4:memory:/a\n1:cpu:/\n0::/\n", files)) == 4000


def test_a_system_that_says_nothing_is_not_held_back(tmp_path: Path) -> None:
    """Where nobody knows, analytics run."""
    assert available_bytes(tmp_path / "proc", tmp_path / "groups") is None
    assert too_little(None) is None


def test_what_is_left_out_is_said_with_its_reason() -> None:
    """The sentence names what is needed and what there is."""
    assert too_little(ANALYTICS_BYTES) is None
    assert too_little(GIBIBYTE) == (
        "Analytics are left out: a run with them takes 2.5 GiB of memory, and 1.0 GiB are available"
    )
