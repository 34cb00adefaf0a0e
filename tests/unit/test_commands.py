"""`marketfeed plan`: what it prints, and how it refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from documents import DOCUMENT
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


def test_help_has_examples_and_exit_codes() -> None:
    """--help shows how to call the command and what its exit codes mean."""
    output = CliRunner().invoke(plan_command, ["--help"]).output
    assert "marketfeed plan manifests/examples/binance-spot.yaml" in output
    assert "2  the MarketFeed cannot be used" in output
