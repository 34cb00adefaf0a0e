"""The command line: what exists is listed, what fails is one line and an exit code."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from marketfeed.cli import cli


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `marketfeed` as a user would, in an environment without any setting."""
    return subprocess.run(
        [sys.executable, "-c", "from marketfeed.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )


@pytest.mark.parametrize("name", sorted(entry.name for entry in entry_points(group="marketfeed.commands")))
def test_every_command_loads_and_explains_itself(name: str) -> None:
    """Each declared command can be imported and has a help text that begins with a sentence."""
    command = cli.get_command(None, name)  # type: ignore[arg-type] # the context is not looked at
    assert command is not None
    assert (command.help or "").strip().partition("\n")[0].endswith(".")


@pytest.mark.parametrize("subcommand", ["list", "create"])
def test_help_asks_for_no_settings(subcommand: str) -> None:
    """What a sub-command does can be read before any broker is named."""
    done = run("topics", subcommand, "--help")
    assert done.returncode == 0
    assert "--help" in done.stdout


@pytest.mark.parametrize("service", ["ingest", "consume", "analytics"])
def test_a_service_s_help_lists_its_variables(service: str) -> None:
    """What a service can be told stands in its --help, down to the port."""
    done = run(service, "--help")
    assert "MARKETFEED_FEED" in done.stdout
    assert "HTTP_PORT" in done.stdout


@pytest.mark.parametrize("service", ["ingest", "consume", "analytics"])
def test_missing_settings_are_one_line_and_exit_code_2(service: str) -> None:
    """A service without its settings ends with 2 and names the variables, without a traceback."""
    done = run(service)
    assert done.returncode == 2
    assert "MARKETFEED_FEED is not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_command_is_refused() -> None:
    """A command that does not exist is a usage error."""
    assert run("ingset").returncode == 2
