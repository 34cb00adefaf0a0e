"""The images themselves, before any node runs them: what is in them, what is not, and that their commands start."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import catalog, provide
from images.unpacked import USER, Unpacked, unpack
from marketfeed.local.components import read_lock

COMMANDS = {
    "operator": ("operator", "plan"),
    "services": ("ingest", "consume", "migrate", "simulate", "tail", "topics", "verify"),
    "analytics": ("analytics",),
}
TOOLS = ("gcc", "cc", "g++", "c++", "clang", "make", "ld", "as", "pip", "pip3", "git", "curl", "wget")
LOCKS = {
    "operator": "operator/requirements.lock",
    "services": "services/requirements.lock",
    "analytics": "services/requirements-analytics.lock",
}
DOCUMENTS = Path("usr/share/doc/marketfeed")

pytestmark = [
    pytest.mark.timeout(1800),  # the images may have to be built
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0,
        reason="an image is unpacked with its owners and entered: that takes Linux and root",
    ),
]


@pytest.fixture(scope="module", params=catalog.OURS)
def name(request: pytest.FixtureRequest) -> str:
    """Each of our own images."""
    return str(request.param)


@pytest.fixture(scope="module")
def image(name: str, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """Unpack the image, and print its size."""
    built = provide(name)
    sys.stderr.write(f"{name}: {built.size_bytes / 1e6:.0f} MB, {built.reference}\n")
    root = tmp_path_factory.mktemp(name)
    root.chmod(0o755)
    root.parent.chmod(0o755)
    root.parent.parent.chmod(0o755)
    return unpack(built.archive, root)


def entries(root: Path) -> Iterator[Path]:
    """Yield every file and folder below `root` but devices, which a node brings its own of; no link is followed."""
    for folder, folders, files in os.walk(root):
        if folder == str(root):
            folders.remove("dev")
        yield from (Path(folder, entry) for entry in (*folders, *files))


def writable(path: Path) -> bool:
    """Return whether the image's user could write to it."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return False
    return USER in (found.st_uid, found.st_gid) or bool(found.st_mode & stat.S_IWOTH)


def test_nothing_that_builds_or_fetches_is_left(image: Unpacked) -> None:
    """No compiler, no pip, no list of packages: whoever gets in finds no tools, and the image stays small."""
    folders = [image.root / path.lstrip("/") for path in image.environment["PATH"].split(":")]
    assert [tool for tool in TOOLS for folder in folders if (folder / tool).exists()] == []
    assert list(image.root.glob("*/**/*-packages/pip")) == []
    assert list(image.root.glob("var/lib/apt/lists/*_*")) == []


def test_its_user_may_write_to_tmp_alone(image: Unpacked) -> None:
    """Nothing that is run or read could be changed by the process that runs."""
    allowed = {image.root / path for path in ("tmp", "var/tmp", "run/lock", "var/lock")}
    assert [path for path in entries(image.root) if writable(path) and path not in allowed] == []


def test_it_runs_as_a_number_that_is_not_root(image: Unpacked) -> None:
    """The restricted profile can be checked from the image alone."""
    assert image.config["User"] == f"{USER}:{USER}"


def test_its_bill_of_materials_names_all_that_was_locked(image: Unpacked, name: str) -> None:
    """Every package of the lock that this platform has is there in its version, beside Debian's packages."""
    bill = json.loads((image.root / DOCUMENTS / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    urls = {component["purl"] for component in bill["components"]}
    locked = re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", (catalog.ROOT / LOCKS[name]).read_text(), re.MULTILINE)
    missing = {f"pkg:pypi/{package}@{version}" for package, version in locked} - urls
    unneeded = {url for url in missing if "python_full_version" in marker(name, url)}
    assert missing - unneeded == set()
    assert any(url.startswith("pkg:deb/debian/libc6@") for url in urls)
    assert any(url.startswith("pkg:pypi/marketfeed@") for url in urls)


def marker(name: str, url: str) -> str:
    """Return the line of the lock for a package URL: packages may be wanted by some Pythons only."""
    package = url.removeprefix("pkg:pypi/").split("@")[0]
    lines = (catalog.ROOT / LOCKS[name]).read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{package}=="))


def test_it_says_what_it_is(image: Unpacked, name: str) -> None:
    """Its labels name title, version, revision and license."""
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in image.config["Labels"].items()}
    assert labels["title"] == f"marketfeed/{name}"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == "0.1.0"
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?|unknown", labels["revision"])


def test_the_authorities_that_the_build_borrowed_did_not_stay(image: Unpacked) -> None:
    """The image trusts what its base trusts: each certificate is one that a package of the base brought."""
    bundle = (image.root / "etc/ssl/certs/ca-certificates.crt").read_text()
    packaged = "".join(path.read_text() for path in sorted(image.root.glob("usr/share/ca-certificates/**/*.crt")))
    certificates = set(re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", bundle, re.DOTALL))
    assert certificates
    assert [found for found in certificates if found not in packaged] == []
    assert list(image.root.glob("run/secrets/*")) == []


def test_its_commands_start_with_a_read_only_root(image: Unpacked, name: str) -> None:
    """Each command answers --help as the image's user, and says nothing else: no byte code, no home is missed."""
    version = image.run("marketfeed", "--version")
    assert (version.returncode, version.stderr) == (0, "")
    commands = " ".join(COMMANDS[name])
    loop = f'for command in {commands}; do marketfeed "$command" --help > /dev/null || echo "$command"; done'
    answer = image.run("bash", "-c", loop)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_byte_code_is_there_already(image: Unpacked) -> None:
    """Every module of ours was compiled: a read-only container would compile it at each start."""
    (package,) = image.root.glob("opt/marketfeed/lib/python3.*/site-packages/marketfeed")
    for source in package.rglob("*.py"):
        assert list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")), source


def test_spark_is_there_whole(image: Unpacked, name: str) -> None:
    """The analytics image's Spark finds its Java, knows Kubernetes, and has the folders that pods mount over."""
    if name != "analytics":
        assert not (image.root / "opt/spark").exists()
        return
    version = image.run("/opt/entrypoint.sh", "/opt/spark/bin/spark-submit", "--version")
    assert version.returncode == 0, version.stderr
    assert f"version {locked_spark()}" in version.stderr
    answer = image.run("bash", "-c", "ls -d /opt/spark/jars/spark-kubernetes_* /opt/spark/conf /opt/spark/work-dir")
    assert answer.returncode == 0, answer.stderr
    (package,) = image.root.glob("opt/marketfeed/lib/python3.*/site-packages/pyspark")
    assert str(package.readlink()) == "/opt/spark", "half a gigabyte is there twice"
    bill = (image.root / DOCUMENTS / "sbom.cdx.json").read_text()
    assert "/kafka-clients@" in bill


def test_spark_reads_kafka_with_a_read_only_root(image: Unpacked, name: str) -> None:
    """The locked archives of the connector are beside Spark's own, and a session of the image's user finds them."""
    if name != "analytics":
        return
    locked = {Path(item.path).name for item in read_lock().archives["spark-kafka"]}
    assert locked <= {path.name for path in image.root.glob("opt/spark/jars/*.jar")}
    answer = image.run("/opt/entrypoint.sh", "python", "-c", KNOWS_KAFKA)
    assert (answer.returncode, answer.stdout) == (0, "org.apache.spark.sql.kafka010.KafkaSourceProvider\n"), (
        answer.stderr
    )


KNOWS_KAFKA = """
from pyspark.sql import SparkSession
session = SparkSession.builder.master("local[1]").config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
print(session._jvm.java.lang.Class.forName("org.apache.spark.sql.kafka010.KafkaSourceProvider").getName())
session.stop()
"""


def test_a_driver_without_settings_says_what_is_missing(image: Unpacked, name: str) -> None:
    """Asked as Spark asks a driver, the program ends with its own exit code and a sentence, before it starts Java."""
    if name != "analytics":
        return
    asked = ("--properties-file", "/opt/spark/conf/spark.properties", "--class", "org.apache.spark.deploy.PythonRunner")
    program = "local:///opt/marketfeed/analytics.py"
    answer = image.run("/opt/entrypoint.sh", "driver", *asked, program, SPARK_DRIVER_BIND_ADDRESS="127.0.0.1")
    assert answer.returncode == 2, answer.stderr
    assert "MARKETFEED_FEED is not set" in answer.stderr
    assert "Traceback" not in answer.stderr


def locked_spark() -> str:
    """Return the version of Spark that is locked."""
    (found,) = re.findall(r"^pyspark==(\S+)", (catalog.ROOT / LOCKS["analytics"]).read_text(), re.MULTILINE)
    return str(found)
