"""`make kind`, without Docker: in which order it calls its tools, how, and what it says when one fails.

The tools are fakes that note their calls (kind_tools). What they would have done is tried where Docker is.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from helpers import wait_until

ROOT = Path(__file__).parents[2]
TOOLS = Path(__file__).parent / "kind_tools"
PROGRAMS = ("bash", "cat", "dirname", "env", "grep", "id", "mkdir", "mv", "rm", "sed", "tail", "tee", "touch")
"""All that the scripts and the fakes take from the system."""
TIMEOUT_S = 20


@dataclass(frozen=True)
class Laptop:
    """A machine with nothing but the fakes, a checkout, and another cluster in its own kubeconfig."""

    folder: Path

    @property
    def bin(self) -> Path:
        """The only folder on PATH."""
        return self.folder / "bin"

    @property
    def fakes(self) -> Path:
        """What tells the fakes how to behave, and what they noted."""
        return self.folder / "fakes"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of the cluster with the usual name."""
        return self.folder / "cache" / "kind" / "marketfeed" / "kubeconfig"

    def command(self, script: str, *arguments: str) -> list[str]:
        """Return the command line of a script of the checkout."""
        return [str(self.folder / "checkout" / "manifests" / "kind" / script), *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a person with another cluster at hand."""
        own = {"PATH": str(self.bin), "HOME": str(self.folder), "FAKES": str(self.fakes)}
        return {**own, "MARKETFEED_CACHE": str(self.folder / "cache"), "KUBECONFIG": "/production", **more}

    def run(self, script: str = "up.sh", *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end."""
        return subprocess.run(
            self.command(script, *arguments),
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def asked(self, what: str, pattern: str = "") -> None:
        """Tell the fakes something, as a file that they look for."""
        (self.fakes / what).write_text(pattern)

    def calls(self, *tools: str) -> list[list[str]]:
        """Return the calls of these tools, in their order, without looks at versions."""
        noted = self.fakes / "calls"
        lines = noted.read_text().splitlines() if noted.exists() else []
        calls = [line.split(" ") for line in lines]
        return [call for call in calls if call[0] in tools and call[1:2] != ["version"]]

    def forget_calls(self) -> None:
        """Begin a new list of calls."""
        (self.fakes / "calls").unlink()


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    """Return a machine where `make kind` was never run."""
    laptop = Laptop(tmp_path)
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "manifests", checkout / "manifests")
    shutil.copy(ROOT / "kind-config.yaml", checkout)
    laptop.bin.mkdir()
    laptop.fakes.mkdir()
    shutil.copy(TOOLS / "record.sh", laptop.fakes)
    for tool in TOOLS.iterdir():
        if tool.stat().st_mode & stat.S_IXUSR:
            shutil.copy(tool, laptop.bin)
    for program in PROGRAMS:
        (laptop.bin / program).symlink_to(str(shutil.which(program)))
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    shutil.move(laptop.bin / "python", python)
    return laptop


def option(call: list[str], name: str) -> str:
    """Return the value after an option."""
    return call[call.index(name) + 1]


def releases(laptop: Laptop) -> list[str]:
    """Return the releases that helm was asked for, in their order."""
    return [call[3] for call in laptop.calls("helm")]


def test_everything_is_installed_in_the_order_in_which_it_is_needed(laptop: Laptop) -> None:
    """The cluster comes first, operators before what asks them, images before our charts, and the feed last."""
    answer = laptop.run()
    assert (answer.stderr, answer.returncode) == ("", 0)
    assert releases(laptop) == ["strimzi", "spark-operator", "monitoring", "platform", "marketfeed"]
    calls = [" ".join(call) for call in laptop.calls("kind", "helm", "kubectl", "make")]
    marks = [
        "kind create",
        "get namespace kafka",
        "helm upgrade --install strimzi",
        "kind load",
        "install platform",
        "get kafka/kafka",
        "install marketfeed",
        "condition=Established crd/marketfeeds",
        "apply",
    ]
    assert [mark for mark in marks if not any(mark in call for call in calls)] == []
    order = [next(number for number, call in enumerate(calls) if mark in call) for mark in marks]
    assert order == sorted(order)


def test_each_step_says_what_it_does_and_how_long_it_took(laptop: Laptop) -> None:
    """Ten numbered lines, each with its seconds; then the commands that come next."""
    lines = laptop.run().stdout.splitlines()
    numbered = [line for line in lines if line.partition("/")[0].isdigit()]
    assert [line.split(" ")[0] for line in numbered] == [f"{number}/10" for number in range(1, 11)]
    assert numbered[0] == "1/10 tools: docker 28.5.1, kind 0.31.0, kubectl 1.35.4, helm 3.19.0"
    assert all(line.endswith(" s") for line in lines if line.startswith(("2/", "3/", "4/")))
    assert f"  export KUBECONFIG={laptop.kubeconfig}" in lines
    assert "Remove it all: make kind-down" in lines


def test_a_second_run_makes_no_second_cluster(laptop: Laptop) -> None:
    """Where the cluster is there, kind neither creates nor deletes one; everything else is gone through again."""
    laptop.run()
    laptop.forget_calls()
    again = laptop.run()
    assert again.returncode == 0
    assert {call[1] for call in laptop.calls("kind")} == {"get", "export", "load"}
    assert len(releases(laptop)) == 5


def test_no_other_cluster_is_ever_spoken_to(laptop: Laptop) -> None:
    """Every kubectl and helm names the kubeconfig and the context of kind's cluster, whatever KUBECONFIG says."""
    laptop.run(KIND_CLUSTER="trial")
    kubeconfig = str(laptop.folder / "cache" / "kind" / "trial" / "kubeconfig")
    for call in laptop.calls("kubectl"):
        assert (option(call, "--kubeconfig"), option(call, "--context")) == (kubeconfig, "kind-trial")
    for call in laptop.calls("helm"):
        assert (option(call, "--kubeconfig"), option(call, "--kube-context")) == (kubeconfig, "kind-trial")
    for call in laptop.calls("kind"):
        assert call[1:] == ["get", "clusters"] or option(call, "--name") == "trial"
        assert call[1] not in {"create", "export", "delete"} or option(call, "--kubeconfig") == kubeconfig


def test_versions_are_pinned(laptop: Laptop) -> None:
    """Each chart from elsewhere has one version and the address beside it, and the node image a digest."""
    laptop.run()
    foreign = [call for call in laptop.calls("helm") if "--repo" in call]
    assert [call[3] for call in foreign] == ["strimzi", "spark-operator", "monitoring"]
    versions = (ROOT / "manifests" / "kind" / "versions.env").read_text().splitlines()
    pinned = dict(line.split("=", 1) for line in versions if "=" in line and not line.startswith("#"))
    for name, call in zip(("STRIMZI", "SPARK", "MONITORING"), foreign, strict=True):
        assert option(call, "--version") == pinned[f"{name}_VERSION"]
        assert option(call, "--repo") == pinned[f"{name}_REPOSITORY"]
    (created,) = [call for call in laptop.calls("kind") if call[1] == "create"]
    assert "@sha256:" in option(created, "--image")


def test_our_charts_get_the_images_that_were_built(laptop: Laptop) -> None:
    """Each image is loaded into the nodes once, and named in the charts with the tag that it was built with."""
    laptop.run()
    tag = "dev-0123456789ab"
    loaded = [call[3] for call in laptop.calls("kind") if call[1] == "load"]
    assert loaded == [f"/cache/{name}.tar" for name in ("operator", "services", "analytics")]
    operator = " ".join(laptop.calls("helm")[-1])
    for place, name in (("image", "operator"), ("services.image", "services"), ("analytics.image", "analytics")):
        assert f"--set-string {place}.repository=localhost/marketfeed/{name},{place}.tag={tag}" in operator
    platform = " ".join(laptop.calls("helm")[-2])
    assert (
        f"--set-string simulator.image.repository=localhost/marketfeed/services,simulator.image.tag={tag}" in platform
    )


@pytest.mark.parametrize(
    ("environment", "gone"),
    [
        ({"SKIP_SPARK": "1"}, {"spark-operator"}),
        ({"SKIP_MONITORING": "1"}, {"monitoring"}),
        ({"SKIP_SPARK": "0"}, set()),
    ],
    ids=["spark", "monitoring", "nothing"],
)
def test_parts_can_be_left_out(laptop: Laptop, environment: dict[str, str], gone: set[str]) -> None:
    """What is skipped is not installed, and said to be left out; 0 skips nothing."""
    answer = laptop.run(**environment)
    assert answer.returncode == 0
    assert {"spark-operator", "monitoring"} - set(releases(laptop)) == gone
    assert answer.stdout.count("left out") == len(gone)
    images = shlex.join(laptop.calls("python")[0])
    assert ("analytics" in images) == ("spark-operator" not in gone)
    switched_off = [call for call in laptop.calls("kubectl") if "patch" in call and "analytics" in " ".join(call)]
    assert len(switched_off) == ("spark-operator" in gone), "a feed waits for ever for a job that nobody runs"


def test_another_feed_is_applied(laptop: Laptop) -> None:
    """FEED is what is applied and waited for, in the namespace default; without it kind's own feed."""
    feed = laptop.folder / "own.yaml"
    feed.touch()
    laptop.run(FEED=str(feed))
    applied = [call for call in laptop.calls("kubectl") if "apply" in call]
    assert [(option(call, "--filename"), option(call, "--namespace")) for call in applied] == [(str(feed), "default")]


@pytest.mark.parametrize("script", ["up.sh", "down.sh"])
def test_a_missing_engine_is_one_sentence(laptop: Laptop, script: str) -> None:
    """Where Docker does not answer, one sentence says so and what to do; exit code 2, and nothing was touched."""
    laptop.asked("no-engine")
    answer = laptop.run(script)
    assert answer.returncode == 2
    assert answer.stdout == ""
    expected = (
        "Docker does not answer: start its engine, or give your account access to it (`docker version` says more).\n"
    )
    assert answer.stderr == expected
    assert laptop.calls("kind", "helm", "kubectl") == []
    assert not (laptop.folder / "cache").exists()


def test_each_missing_tool_is_a_sentence(laptop: Laptop) -> None:
    """All that is missing or too old is said at once, each with where to get it."""
    for tool in ("docker", "helm"):
        (laptop.bin / tool).unlink()
    laptop.asked("kind-version", "kind v0.9.0 go1.15 linux/amd64")
    answer = laptop.run()
    assert answer.returncode == 2
    docker, kind, helm = answer.stderr.splitlines()
    assert docker.startswith("Docker is not installed: get Docker Engine or Docker Desktop")
    assert kind.startswith("kind is 0.9.0: get 0.31.0 or newer from the kind project")
    assert helm.startswith("helm is not installed: get 3.14.0 or newer from the Helm project")


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"FEED": "nowhere.yaml"}, 'FEED is "nowhere.yaml": there is no such file.\n'),
        (
            {"KIND_CLUSTER": "../other"},
            'KIND_CLUSTER is "../other": write lower-case letters, digits, dots and dashes.\n',
        ),
    ],
    ids=["feed", "name"],
)
def test_what_cannot_be_meant_is_refused(laptop: Laptop, environment: dict[str, str], sentence: str) -> None:
    """A feed that is not there and a name that kind would not take are refused before anything is made."""
    answer = laptop.run(**environment)
    assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", sentence)


def test_a_small_docker_is_told_what_takes_less(laptop: Laptop) -> None:
    """With 4 GB the run goes on, and says which parts to leave out."""
    laptop.asked("memory", "4100000000")
    answer = laptop.run()
    assert answer.returncode == 0
    assert (
        "Docker has 4 GB of memory; all of this takes about 8. SKIP_SPARK=1 SKIP_MONITORING=1 takes less."
        in answer.stdout
    )


def test_a_failing_chart_ends_with_its_name_and_what_to_do(laptop: Laptop) -> None:
    """The step that failed, its last lines and what to try are said; nothing after it is begun; exit code 1."""
    laptop.asked("fails", "helm upgrade --install spark-operator *")
    answer = laptop.run()
    assert answer.returncode == 1
    assert "5/10 Spark operator 2.4.0 ... failed" in answer.stdout
    assert answer.stderr.splitlines()[:2] == [
        "Step 5/10, Spark operator 2.4.0, failed. Its last lines:",
        "  Error: helm was asked to fail",
    ]
    assert "or set SKIP_SPARK=1.\nThen run it again: it goes on with this step." in answer.stderr
    assert releases(laptop) == ["strimzi", "spark-operator"]


def test_a_failure_in_the_middle_of_a_step_fails_the_step(laptop: Laptop) -> None:
    """A command that fails before the last one of its step is not passed over."""
    laptop.asked("fails", "kind export *")
    answer = laptop.run()
    assert answer.returncode == 1
    assert "2/10" in answer.stderr


def test_images_that_were_not_built_fail_their_step(laptop: Laptop) -> None:
    """A build that ends well and names no image stops the run there: the charts would fetch others."""
    laptop.asked("builds-nothing")
    answer = laptop.run()
    assert answer.returncode == 1
    assert "These were to be built: operator services analytics" in answer.stderr
    assert releases(laptop)[-1] == "monitoring"


def test_a_run_after_a_failure_goes_on(laptop: Laptop) -> None:
    """Once the cause is gone, a second run reaches the end on the same cluster."""
    laptop.asked("fails", "helm upgrade --install platform *")
    laptop.run()
    (laptop.fakes / "fails").unlink()
    answer = laptop.run()
    assert answer.returncode == 0
    assert sum(call[1] == "create" for call in laptop.calls("kind")) == 1


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let what is started hear Ctrl-C, also where the tests run in the background: it cannot undo an ignored one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_cluster_that_was_half_made_is_made_again(laptop: Laptop) -> None:
    """Stopped by Ctrl-C while kind works: exit code 130; the next run first removes what was left, then ends well."""
    laptop.asked("holds", "kind create *")
    os.mkfifo(laptop.fakes / "forever")
    with subprocess.Popen(
        laptop.command("up.sh"),
        env=laptop.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C reaches all that a terminal runs
    ) as run:
        try:
            wait_until((laptop.fakes / "held").exists, TIMEOUT_S, "kind to begin")
            os.killpg(run.pid, signal.SIGINT)
            _, said = run.communicate(timeout=TIMEOUT_S)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 130
    assert "Stopped. Run it again" in said
    (laptop.fakes / "holds").unlink()
    laptop.forget_calls()
    assert laptop.run().returncode == 0
    assert [call[1] for call in laptop.calls("kind")][:3] == ["delete", "get", "create"]


def test_a_release_that_was_left_pending_is_freed_first(laptop: Laptop) -> None:
    """Before each helm, the record of an interrupted one of this release is removed, and only that."""
    laptop.run()
    calls = laptop.calls("helm", "kubectl")
    for number, call in enumerate(calls):
        if call[0] == "helm":
            before = " ".join(calls[number - 1])
            assert (
                f"--namespace {option(call, '--namespace')} delete secret --selector owner=helm,name={call[3]},"
                in before
            )
            assert before.endswith("status in (pending-install,pending-upgrade,pending-rollback)")


def test_what_is_waited_for_is_said(laptop: Laptop) -> None:
    """While Kafka or the feed is not Ready, its own message is shown, and the run goes on when it is."""
    laptop.asked("ready", "False")
    answer = laptop.run()
    assert answer.returncode == 0
    assert (
        "      shards: 0 of 1 ready ..." in answer.stdout.splitlines()[-20:] or "shards: 0 of 1 ready" in answer.stdout
    )
    assert len(laptop.calls("sleep")) == 1


def test_secrets_are_closed_to_others(laptop: Laptop) -> None:
    """The folder with the kubeconfig and the output can be read by its owner alone."""
    laptop.run()
    assert stat.S_IMODE(laptop.kubeconfig.parent.stat().st_mode) == 0o700


def test_the_cluster_is_removed_and_nothing_else(laptop: Laptop) -> None:
    """down.sh deletes the cluster of that name and its files; a second time it says that there is none."""
    laptop.run()
    laptop.run(KIND_CLUSTER="other")
    laptop.forget_calls()
    answer = laptop.run("down.sh")
    assert answer.returncode == 0
    assert 'The kind cluster "marketfeed" is removed.' in answer.stdout
    assert (laptop.fakes / "clusters").read_text() == "other\n"
    assert not laptop.kubeconfig.parent.exists()
    assert laptop.calls("helm", "kubectl") == []
    again = laptop.run("down.sh")
    assert (again.returncode, again.stdout) == (0, 'There is no kind cluster "marketfeed": nothing to remove.\n')


@pytest.mark.parametrize("script", ["up.sh", "down.sh"])
def test_help_needs_no_docker(laptop: Laptop, script: str) -> None:
    """--help prints what the script does and calls nothing; an unknown option is refused with exit code 2."""
    laptop.asked("no-engine")
    answer = laptop.run(script, "--help")
    assert answer.returncode == 0
    assert "KIND_CLUSTER" in answer.stdout
    assert laptop.calls("docker", "kind") == []
    assert laptop.run(script, "--force").returncode == 2


def test_the_values_are_plain_yaml() -> None:
    """Every settings file is a mapping, and names no image: images come from where the charts take them."""
    for path in (ROOT / "manifests" / "kind").glob("values-*.yaml"):
        values = yaml.safe_load(path.read_text())
        assert isinstance(values, dict)
        assert "image:" not in path.read_text()
