"""An image archive from files alone, without a builder: one layer, as `docker save` writes it."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_FOLDERS = ("dev", "etc", "proc", "sys", "tmp", "run", "var")


def write(
    archive: Path,
    tag: str,
    files: Mapping[str, Path],
    entrypoint: Sequence[str],
    links: Mapping[str, str] | None = None,
) -> None:
    """Write the archive of an image from scratch; the same input gives the same bytes.

    files: path in the image → file here, executable for all; links: path in the image → where the link points.
    """
    layer = archive.with_name(f"{archive.name}.layer")
    try:
        _write_layer(layer, files, links or {})
        _write_archive(archive, layer, tag, entrypoint)
    finally:
        layer.unlink(missing_ok=True)


def _write_layer(path: Path, files: Mapping[str, Path], links: Mapping[str, str]) -> None:
    with tarfile.open(path, "w") as layer:
        parents = {str(parent) for name in (*files, *links) for parent in Path(name).parents} - {"."}
        for name in sorted({*_FOLDERS, *parents}):
            layer.addfile(_entry(name, tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755))
        for name, source in sorted(files.items()):
            with source.open("rb") as content:
                layer.addfile(_entry(name, tarfile.REGTYPE, 0o755, size=source.stat().st_size), content)
        for name, target in sorted(links.items()):
            layer.addfile(_entry(name, tarfile.SYMTYPE, 0o777, target=target))


def _write_archive(path: Path, layer: Path, tag: str, entrypoint: Sequence[str]) -> None:
    digest = _sha256(layer)
    content = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "Env": ["PATH=/bin"], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    configuration = json.dumps(content, sort_keys=True).encode()
    name = f"{hashlib.sha256(configuration).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": [f"{digest}/layer.tar"]}]).encode()
    with tarfile.open(path, "w") as archive:
        with layer.open("rb") as file:
            archive.addfile(_entry(f"{digest}/layer.tar", tarfile.REGTYPE, 0o644, size=layer.stat().st_size), file)
        for each, text in ((name, configuration), ("manifest.json", manifest)):
            archive.addfile(_entry(each, tarfile.REGTYPE, 0o644, size=len(text)), io.BytesIO(text))


def _entry(name: str, kind: bytes, mode: int, *, size: int = 0, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, size, target
    return entry


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
