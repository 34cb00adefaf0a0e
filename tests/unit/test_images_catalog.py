"""What images are made of: the hash over it, the locks beside it, and what the Dockerfiles must not hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from images import NAMES, base, builders, catalog, sbom, store
from images.builders import BuildFailed, Order
from marketfeed.errors import ConfigurationError
from marketfeed_operator.render.analytics import SPARK_VERSION

LOCKS = (
    "operator/requirements.lock",
    "services/requirements.lock",
    "services/requirements-analytics.lock",
    "services/requirements-build.lock",
)
DOCKERFILES = sorted([catalog.ROOT / "Dockerfile", *catalog.SERVERS.glob("*/Dockerfile")])
ORDER = Order(
    reference="localhost/marketfeed/services:dev-1",
    context=Path("/source"),
    target="services",
    arguments={"BASE": "debian"},
    epoch=7,
    authorities=Path("/etc/authorities.crt"),
)


def versions(lock: str) -> dict[str, str]:
    """Return package → version of a lock file of the repository."""
    text = (catalog.ROOT / lock).read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("change", ["bytes", "name", "mode", "more"])
def test_the_hash_changes_with_all_that_an_image_is_made_of(tmp_path: Path, change: str) -> None:
    """Another byte, name, executable bit or base gives another hash; the same ones give the same."""
    file = tmp_path / "start.sh"
    file.write_text("one")
    before = catalog.content_hash([file], "base")
    assert catalog.content_hash([file], "base") == before
    if change == "bytes":
        file.write_text("two")
    elif change == "name":
        file = file.rename(tmp_path / "stop.sh")
    elif change == "mode":
        file.chmod(0o755)
    assert catalog.content_hash([file], "other" if change == "more" else "base") != before


def test_the_hash_does_not_see_what_python_caches(tmp_path: Path) -> None:
    """A folder that was only imported from keeps its hash."""
    (tmp_path / "module.py").write_text("")
    before = catalog.content_hash([tmp_path])
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "module.pyc").write_text("")
    assert catalog.content_hash([tmp_path]) == before


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_names_files_that_are_there(name: str) -> None:
    """A build context lacks nothing, and holds a Dockerfile."""
    recipe = catalog.recipe(name)
    assert all(path.exists() for path in recipe.files)
    assert recipe.context / "Dockerfile" in recipe.files


def test_an_image_upon_another_changes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Spark operator's image is another one as soon as the streaming job's is, or its program's module."""
    chosen = base.Base("debian", "debian", "debian")
    operator = catalog.recipe("spark-operator")
    before = store.identity(operator, chosen)
    assert store.identity(operator, chosen) == before
    assert store.identity(replace(operator, programs=()), chosen) != before
    monkeypatch.setattr(catalog, "_OWN", {**catalog._OWN, "analytics": ()})
    assert store.identity(operator, chosen) != before


def test_an_unknown_image_is_refused_with_those_that_there_are() -> None:
    """Whoever mistypes a name reads the right ones."""
    with pytest.raises(
        ConfigurationError, match="no image 'service': choose from operator, services, analytics, kafka"
    ):
        catalog.recipe("service")


@pytest.mark.parametrize("lock", LOCKS)
def test_images_hold_the_versions_that_are_tested(lock: str) -> None:
    """A package that an image and the development environment share has one version in both locks."""
    development = versions("requirements.lock")
    image = versions(lock)
    assert {name: development[name] for name in image if name in development} == {
        name: version for name, version in image.items() if name in development
    }
    assert "click" in image


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_its_sums(lock: str) -> None:
    """Nothing is installed that could be another file tomorrow."""
    entries = re.split(r"\n(?=\S)", (catalog.ROOT / lock).read_text().strip())
    assert all("--hash=sha256:" in entry for entry in entries)


def test_spark_is_in_its_own_image_alone() -> None:
    """Half a gigabyte is installed where it is used, in the version that the operator asks for."""
    assert {lock for lock in (*LOCKS, "requirements.lock") if "pyspark" in versions(lock)} == {LOCKS[2]}
    assert versions(LOCKS[2])["pyspark"] == SPARK_VERSION


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_dockerfile_names_no_registry_and_no_moving_tag(path: Path) -> None:
    """Tools find their registries by their own configuration, and nothing is called `latest`."""
    text = path.read_text()
    assert ":latest" not in text
    for source in re.findall(r"^(?:FROM|ARG \w*BASE=)\s*(\S+)", text, re.MULTILINE):
        assert "." not in source.split("/")[0].split(":")[0], source


@pytest.mark.parametrize("path", [path for path in DOCKERFILES if path.parent.name not in {"base", "pip"}], ids=str)
def test_every_image_that_runs_has_a_numeric_user_who_is_not_root(path: Path) -> None:
    """The kubelet can tell from the number alone that a pod may run under the restricted profile."""
    users = re.findall(r"^USER (.+)$", path.read_text(), re.MULTILINE)
    assert users
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)


def test_every_download_of_packages_is_locked() -> None:
    """Each pip that may reach the network asks for sums; the others are told not to look for dependencies."""
    commands = re.split(r"\n(?=[A-Z])", (catalog.ROOT / "Dockerfile").read_text().replace("\\\n", " "))
    for command in (line for line in commands if line.startswith("RUN")):
        for part in re.findall(r"(?:\$\{INTO\}|pip --python \S+ (?:install|wheel))[^&;]*", command):
            assert "--require-hashes" in part or "--no-deps" in part, part


@pytest.mark.parametrize("tool", ["docker", "buildah"])
def test_both_builders_get_the_same_order(tool: str) -> None:
    """Target, base, name and the borrowed authorities are in either command line, the context last."""
    start = builders.buildah_start(Path("/store"), "vfs")
    command = builders.docker_build(ORDER) if tool == "docker" else builders.buildah_build(start, ORDER)
    assert tool in command[:5]
    assert command[-1] == "/source"
    assert {
        "--target=services",
        "--build-arg=BASE=debian",
        f"--tag={ORDER.reference}",
        "--secret=id=ca,src=/etc/authorities.crt",
    } <= set(command)
    assert {"--build-arg=SOURCE_DATE_EPOCH=7", "--timestamp=7"} & set(command)


@pytest.mark.parametrize("build", [builders.docker_build, partial(builders.buildah_build, ["buildah"])])
def test_a_mirrors_password_is_on_no_command_line(build: Callable[[Order], list[str]]) -> None:
    """The package index is named without its value, which either tool takes from its environment."""
    command = build(replace(ORDER, arguments=builders.passed_on({"PIP_INDEX_URL": "https://user:password@mirror/"})))
    assert "--build-arg=PIP_INDEX_URL" in command
    assert "password" not in " ".join(command)


def test_the_base_is_the_one_asked_for_then_the_usual_one_then_our_own() -> None:
    """What a person sets wins and is not asked for over the network; without a registry there is no ready base."""

    def never(name: str) -> bool:
        raise AssertionError(name)

    assert base.wanted({"MARKETFEED_BASE": "debian:13"}, never) == "debian:13"
    assert base.wanted({}, lambda name: name == "python:3.12-slim") == "python:3.12-slim"
    assert base.wanted({}, lambda _: False) is None


def test_the_base_takes_the_hosts_own_archives() -> None:
    """Lines for apt come sorted and once each; the mirror is the one of the release itself."""
    targets = "http://s/x/ twelve-security main\nhttp://m/x/ twelve main\nhttp://m/x/ twelve main\n"
    lines = base.sources(targets)
    assert lines == ("deb http://m/x/ twelve main", "deb http://s/x/ twelve-security main")
    assert base.mirror(lines, "twelve") == "http://m/x/"
    with pytest.raises(BuildFailed, match="apt knows no archive of thirteen main"):
        base.mirror(lines, "thirteen")


def test_only_the_newest_archives_are_kept() -> None:
    """Of five, the three that were made last stay."""
    ages = {Path(name): age for name, age in (("a", 3.0), ("b", 1.0), ("c", 5.0), ("d", 2.0), ("e", 4.0))}
    assert store.superseded(ages) == [Path("d"), Path("b")]


def test_steps_are_shown_and_the_rest_goes_to_the_log() -> None:
    """Whoever waits sees what is going on, a line a step, whichever tool builds."""
    assert builders.shown("STEP 1/5: FROM base\n") == "STEP 1/5: FROM base"
    assert builders.shown("#7 [build 2/3] RUN make\n") == "#7 [build 2/3] RUN make"
    assert builders.shown("Setting up java\n") is None


def test_a_bill_of_materials_names_installed_packages_by_package_url() -> None:
    """What dpkg only remembers is left out; an epoch and a plus in a version are quoted."""
    status = "Package: a\nStatus: install ok installed\nVersion: 1:2+b1\n\n"
    status += "Package: gone\nStatus: deinstall ok config-files\n"
    components = list(sbom.debian_packages(status))
    assert [item["purl"] for item in components] == ["pkg:deb/debian/a@1%3A2%2Bb1"]
    assert sbom.bill("services", components)["metadata"]["component"]["name"] == "marketfeed/services"
