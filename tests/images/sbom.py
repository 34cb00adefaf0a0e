"""Writes an image's bill of materials as CycloneDX JSON: Python and its packages, Debian's, Java archives.

Runs inside the image, while it is built, with the image's own Python; it needs nothing but the standard library.
"""

from __future__ import annotations

import json
import platform
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

DPKG_STATUS = Path("/var/lib/dpkg/status")
SPARK = Path("/opt/spark")

Component = dict[str, Any]


def bill(image: str, components: list[Component]) -> dict[str, Any]:
    """Return the document (CycloneDX 1.5); the same components give the same document, in whatever order they come."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": f"marketfeed/{image}"}},
        "components": sorted(components, key=lambda component: str(component["bom-ref"])),
    }


def component(kind: str, name: str, version: str, *, namespace: str = "") -> Component:
    """Return one component; kind: the type of its package URL, as `pypi`."""
    path = "/".join(quote(part, safe="") for part in (*filter(None, [namespace]), name))
    url = f"pkg:{kind}/{path}@{quote(version, safe='')}"
    group = {"group": namespace} if namespace else {}
    return {"type": "library", "bom-ref": url, **group, "name": name, "version": version, "purl": url}


def python_packages() -> Iterator[Component]:
    """Yield the distributions that this Python can import, and Python itself."""
    yield component("generic", "python", platform.python_version())
    found = {dist.metadata["Name"].lower().replace("_", "-"): dist for dist in metadata.distributions()}
    for name, dist in found.items():
        yield component("pypi", name, dist.version) | _licenses(dist.metadata.get_all("License-Expression"))


def _licenses(said: list[str] | None) -> Component:
    """Return the field for what a package says of its license, where it says so as an SPDX expression."""
    return {"licenses": [{"expression": said[0]}]} if said else {}


def debian_packages(status: str) -> Iterator[Component]:
    """Yield the installed packages in the text of dpkg's status file."""
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            yield component("deb", fields["Package"], fields["Version"], namespace="debian")


def java_archives(folder: Path) -> Iterator[Component]:
    """Yield the archives below `folder`: by what Maven wrote into them, else by their file's name."""
    for path in sorted(folder.rglob("*.jar")):
        artifact, _, version = path.stem.rpartition("-")
        group = _maven_group(path, artifact)
        yield component("maven", artifact or path.stem, version, namespace=group)


def _maven_group(path: Path, artifact: str) -> str:
    """Return the group that an archive's own Maven properties name for `artifact`; empty where they don't."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.startswith("META-INF/maven/") and name.endswith(f"/{artifact}/pom.properties"):
                return name.split("/")[2]
    return ""


def _unique(components: Iterator[Component]) -> list[Component]:
    """Return the components, each package URL once: an archive may lie in an image twice."""
    return list({component["bom-ref"]: component for component in components}.values())


def _all() -> Iterator[Component]:
    yield from python_packages()
    if DPKG_STATUS.exists():
        yield from debian_packages(DPKG_STATUS.read_text(encoding="utf-8"))
    packages = [folder for folder in map(Path, sys.path) if folder.name == "site-packages"]
    for folder in (*packages, SPARK):  # a link to a folder is not followed
        yield from java_archives(folder)


def main() -> None:
    """Write the bill: `sbom.py IMAGE FILE`."""
    image, target = sys.argv[1:]
    Path(target).write_text(json.dumps(bill(image, _unique(_all())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
