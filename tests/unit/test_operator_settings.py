"""The operator's variables: what travels, what `--help` shows, and what is said of a wrong one."""

from __future__ import annotations

from dataclasses import fields

import pytest
from click.testing import CliRunner

from marketfeed.errors import ConfigurationError
from marketfeed.settings import HttpSettings
from marketfeed_operator.operate import command
from marketfeed_operator.settings import OperatorSettings

USUAL = OperatorSettings()
NUMBERS = {item.name: getattr(USUAL, item.name) for item in fields(USUAL) if item.type in ("int", "float")}
OTHER = OperatorSettings(
    **{name: number + 1 for name, number in NUMBERS.items()},
    namespaces=("a", "b"),
    topic_namespaces=("kafka", "streams"),
    namespace="operators",
    identity="replica-0",
    services_image="registry.example.com/services@sha256:abc",
    analytics_image="registry.example.com/analytics:1",
    image_pull_policy="Always",
    image_pull_secrets=("one", "two"),
    bootstrap_servers="a:1,b:2",
    log_level="DEBUG",
    http=HttpSettings(host="127.0.0.1", port=9000),
)


def no_file(path: str) -> str:
    """Stand in for a file system without files."""
    raise FileNotFoundError(path)


def test_every_setting_survives_the_environment() -> None:
    """What to_env() writes, from_env() reads back: the defaults, and settings that differ from them in every field."""
    assert OperatorSettings.from_env({}, no_file) == USUAL
    assert OperatorSettings.from_env(USUAL.to_env(), no_file) == USUAL
    assert OperatorSettings.from_env(OTHER.to_env(), no_file) == OTHER
    assert [item.name for item in fields(OTHER) if getattr(OTHER, item.name) == getattr(USUAL, item.name)] == []


def test_help_lists_every_variable_with_its_default() -> None:
    """Nobody has to read the code to find a setting; both options are there too."""
    answer = CliRunner().invoke(command, ["--help"], terminal_width=200)
    assert answer.exit_code == 0
    for name in OperatorSettings.variables():
        assert f"  {name} " in answer.output
    for text in ("--kubeconfig", "--context", "[default: 8080]", "[default: 10.0]", "Always, IfNotPresent, Never"):
        assert text in answer.output


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("OPERATOR_WORKERS", "0", "OPERATOR_WORKERS: 0 is below 1"),
        ("OPERATOR_WORKERS", "many", "OPERATOR_WORKERS: 'many' is not a whole number"),
        ("OPERATOR_LEASE", "0.5", "OPERATOR_LEASE: 0.5 is below 1"),
        ("OPERATOR_IMAGE_PULL_POLICY", "always", "OPERATOR_IMAGE_PULL_POLICY: 'always' is not one of Always, "),
        ("HTTP_PORT", "http", "HTTP_PORT: 'http' is not a whole number"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, text: str, sentence: str) -> None:
    """Together with what would be right."""
    with pytest.raises(ConfigurationError) as caught:
        OperatorSettings.from_env({variable: text}, no_file)
    assert str(caught.value).startswith(sentence)


def test_all_wrong_variables_are_named_at_once() -> None:
    """One start shows them all."""
    with pytest.raises(ConfigurationError, match=r"OPERATOR_WORKERS: .*; OPERATOR_RESYNC: .*; HTTP_PORT: "):
        OperatorSettings.from_env({"OPERATOR_WORKERS": "0", "OPERATOR_RESYNC": "0", "HTTP_PORT": "-1"}, no_file)


def test_an_empty_variable_is_an_unset_one() -> None:
    """As in every shell script."""
    env = dict.fromkeys(OperatorSettings.variables(), "")
    assert OperatorSettings.from_env(env, no_file) == USUAL
