"""Reading what Maven resolved."""

from __future__ import annotations

import hashlib
from pathlib import Path

from marketfeed.local.components import Artifact
from marketfeed.local.relock import parse_listing


def test_listing_becomes_archives_with_their_sums(tmp_path: Path) -> None:
    """Each jar of the listing gets the sum and size of the file that Maven points to; other lines are passed over."""
    jar = tmp_path / "tool-1.0.jar"
    jar.write_bytes(b"content")
    listing = f"\nThe following files have been resolved:\n   org.example:tool_2.13:jar:1.0:runtime:{jar}\n\n"
    digest = hashlib.sha256(b"content").hexdigest()
    assert parse_listing(listing) == [Artifact("org.example:tool_2.13:1.0", digest, 7)]
