"""Files that other processes read while we write them: a reader sees the old text or the new, never a part."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from tempfile import NamedTemporaryFile


def write_atomically(path: Path, text: str) -> None:
    """Replace the file by `text`; only its owner can read it (mode 0600)."""
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.replace(file.name, path)  # noqa: PTH105 - the temporary file has a name, not a Path
        except BaseException:
            os.unlink(file.name)  # noqa: PTH108 - as above
            raise


def write_streams(path: Path, streams: Collection[str]) -> None:
    """Write a shard's streams as `IngestorSettings.streams_file` asks for them."""
    write_atomically(path, json.dumps({"streams": sorted(streams)}, indent=1) + "\n")
