"""What to do about what commonly goes wrong on one machine."""

from __future__ import annotations

import pytest

from marketfeed.local.advice import advice


@pytest.mark.parametrize(
    ("complaint", "word"),
    [
        ("initdb: could not write: No space left on device", "--keep DIR"),
        ("java.lang.OutOfMemoryError: Java heap space", "1 GiB"),
        ("could not bind IPv4 address: Address already in use", "start the run again"),
        ("OSError: [Errno 24] Too many open files", "ulimit"),
        ("PermissionError: [Errno 13] Permission denied: '/data'", "owns the folder"),
    ],
)
def test_a_known_complaint_comes_with_advice(complaint: str, word: str) -> None:
    """Disk, memory, port, open files and permissions are recognised in a server's own words."""
    assert word in (advice(complaint) or "")


def test_an_unknown_complaint_comes_without() -> None:
    """Nothing is advised where nothing is known."""
    assert advice("the cluster id does not match") is None
