"""Image archives under another name. What does not live here: building images (images)."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

_MANIFEST = "manifest.json"


def retagged(archive: Path, reference: str, path: Path) -> Path:
    """Write to `path` the image of a docker-archive under another reference, and return `path`."""
    with tarfile.open(archive) as source, tarfile.open(path, "w") as target:
        for member in source:
            content = source.extractfile(member) if member.isfile() else None
            if member.name == _MANIFEST and content is not None:
                text = json.dumps([{**one, "RepoTags": [reference]} for one in json.load(content)]).encode()
                member.size, content = len(text), io.BytesIO(text)
            if member.name != "repositories":
                target.addfile(member, content)
    return path
