"""`marketfeed plan`: what it prints, and how it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from documents import DOCUMENT, changed
from marketfeed.errors import ConfigurationError
from marketfeed_operator.commands import plan_command
from marketfeed_operator.describe import as_json, describe
from marketfeed_operator.plan import plan
from marketfeed_operator.spec import parse


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file that holds a MarketFeed."""
    path = tmp_path / "feed.yaml"
    path.write_text(json.dumps(DOCUMENT))
    return path


def test_a_file_is_shown_as_text(file: Path) -> None:
    """Without options the plan's text is all that is printed."""
    result = CliRunner().invoke(plan_command, [str(file)])
    assert (result.exit_code, result.output) == (0, describe(plan(parse(DOCUMENT))))


def test_a_file_is_shown_as_json(file: Path) -> None:
    """With --json the plan's JSON is all that is printed."""
    result = CliRunner().invoke(plan_command, [str(file), "--json"])
    assert (result.exit_code, result.output) == (0, as_json(plan(parse(DOCUMENT))))


def test_standard_input_is_read() -> None:
    """A single dash stands for standard input."""
    result = CliRunner().invoke(plan_command, ["-"], input=json.dumps(DOCUMENT))
    assert result.output == describe(plan(parse(DOCUMENT)))


def test_what_cannot_be_used_is_named_with_its_file(file: Path) -> None:
    """A wrong feed is a ConfigurationError that begins with the file's name; nothing is printed."""
    file.write_text("kind: MarketFeed")
    result = CliRunner().invoke(plan_command, [str(file)])
    assert isinstance(result.exception, ConfigurationError)
    assert str(result.exception) == f"{file}: apiVersion: is missing: write marketfeed.dev/v1alpha1"
    assert result.output == ""


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    """A file that is not UTF-8 is refused with the position of the first wrong byte."""
    file.write_bytes(b"a: \xff")
    result = CliRunner().invoke(plan_command, [str(file)])
    assert str(result.exception) == f"{file}: not UTF-8 text: invalid start byte at byte 3"


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    """A file that is not there ends with exit code 2 and its name."""
    result = CliRunner().invoke(plan_command, [str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "none.yaml': No such file" in result.output


def test_objects_are_printed_as_yaml(file: Path) -> None:
    """With --manifests every object is a document that can be applied, and nothing ties it to a feed in a cluster."""
    result = CliRunner().invoke(plan_command, [str(file), "--manifests", "-n", "market"])
    objects = list(yaml.safe_load_all(result.output))
    assert result.exit_code == 0
    assert {"ConfigMap", "Deployment", "KafkaTopic"} <= {found["kind"] for found in objects}
    assert {found["metadata"]["namespace"] for found in objects} == {"market", "kafka"}
    assert not [
        tie for tie in ("ownerReferences", "feed-uid", "claim.", "nobody", "null", "&id") if tie in result.output
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--context", "a"], "add --against cluster"),
        (["--kubeconfig", "a"], "add --against cluster"),
        (["--manifests", "--json"], "leave out --json and --against"),
        (["--manifests", "--against", "cluster"], "leave out --json and --against"),
        (["--against", "file"], "'file' is not 'cluster'"),
    ],
)
def test_options_that_contradict_are_usage_errors(file: Path, options: list[str], sentence: str) -> None:
    """Options that mean nothing together end with exit code 2 and what to change."""
    result = CliRunner().invoke(plan_command, [str(file), *options])
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.split())


def test_a_feed_of_another_namespace_is_refused(file: Path) -> None:
    """A namespace that contradicts the file's is not compared with."""
    file.write_text(json.dumps(changed({"metadata.namespace": "market"})))
    result = CliRunner().invoke(plan_command, [str(file), "--against", "cluster", "-n", "other"])
    assert str(result.exception) == "the feed is of namespace market, not other: leave out -n, or change the file"


def test_planning_alone_loads_no_client() -> None:
    """The command starts without the API server's client, which takes longer to load than a plan to make."""
    clients = ("kubernetes", "aiohttp", "kopf", "asyncio")
    code = f"import sys, marketfeed_operator.commands; print([name for name in {clients} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_has_examples_and_exit_codes() -> None:
    """--help shows how to call the command and what its exit codes mean."""
    output = CliRunner().invoke(plan_command, ["--help"]).output
    assert "marketfeed plan manifests/examples/binance-spot.yaml" in output
    assert "2  the MarketFeed or the kubeconfig cannot be used" in output
