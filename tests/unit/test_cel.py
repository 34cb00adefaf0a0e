"""The rules in the API server's language: none is forgotten, and the models refuse the same documents."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from documents import changed, problems
from marketfeed.events import Channel
from marketfeed.exchanges import NAMES, venue
from marketfeed_operator import crd
from marketfeed_operator.cel import BY_SCHEMA, CHECKS, Check
from marketfeed_operator.models import MarketFeed, TopicNames
from marketfeed_operator.rules import RULES
from refusals import FIELDS, TOGETHER, Refusal

FUNCTIONS = {rule.__name__ for rule in RULES}


def test_every_rule_is_accounted_for() -> None:
    """Each function of RULES has a check in CEL or a reason why it needs none, and nothing else is mentioned."""
    checked = {check.expresses for check in CHECKS if check.expresses}
    assert checked | BY_SCHEMA.keys() == FUNCTIONS
    assert not checked & BY_SCHEMA.keys()


def test_only_changes_are_checked_by_the_api_server_alone() -> None:
    """A check without a rule in RULES compares with the document before, which a single document cannot tell."""
    assert all("oldSelf" in check.rule for check in CHECKS if check.expresses is None)


def test_every_check_has_a_document_that_breaks_it() -> None:
    """No check is without an example, which the tests on an API server apply."""
    broken = Counter(refusal.rule for refusal in TOGETHER)
    written = Counter(check.expresses for check in CHECKS if check.expresses)
    assert broken.keys() == FUNCTIONS
    assert [rule for rule, checks in written.items() if broken[rule] < checks] == []


@pytest.mark.parametrize("refusal", [*FIELDS, *TOGETHER])
def test_the_models_refuse_what_the_api_server_refuses(refusal: Refusal) -> None:
    """Each example is refused by `spec.parse` in the words that are expected of it."""
    assert refusal.words in problems(changed(refusal.changes))


@pytest.mark.parametrize("refusal", TOGETHER)
def test_each_example_breaks_the_rule_that_it_is_for(refusal: Refusal) -> None:
    """The function that an example names finds something in it, so the table of rules and examples is right."""
    feed = MarketFeed.model_validate_json(json.dumps(changed(refusal.changes)))
    assert refusal.rule in {rule.__name__ for rule in RULES if list(rule(feed))}


def test_every_check_names_a_field_that_exists() -> None:
    """An API server that is told of an unknown field would refuse the whole definition."""
    schema = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for check in CHECKS:
        found = schema
        for part in check.path.split("."):
            found = found["properties"][part.removesuffix("[]")]
            found = found["items"] if part.endswith("[]") else found


def test_a_sentence_quotes_its_words_and_formats_its_expressions() -> None:
    """What stands between the marks is an argument, and the rest is text, whatever quotes it holds."""
    check = Check("rule", "spec", "true", "it's «self.a», not «self.b + 'c'»", "a.b")
    assert check.schema() == {
        "rule": "true",
        "messageExpression": "'it\\'s %s, not %s'.format([self.a, self.b + 'c'])",
        "fieldPath": ".a.b",
    }
    assert Check("rule", "spec", "true", "no").schema() == {"rule": "true", "message": "no"}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_venue_allows_comes_from_its_module(name: str) -> None:
    """Every venue stands in the checks of its limits with its own numbers."""
    limits = venue(name).limits
    rules = " ".join(check.rule for check in CHECKS)
    assert f"'{name}': {limits.streams_per_connection}" in rules
    assert f"'{name}': {limits.connection_lifetime_s * 1000:.0f}" in rules


def test_every_channel_has_a_field_for_its_topic() -> None:
    """The check of dead letters compares with the topic of each channel, by the names that documents use."""
    (check,) = (check for check in CHECKS if check.expresses == "_dead_letters_have_their_own_topic")
    aliases = {field.alias for field in TopicNames.model_fields.values()}
    assert aliases == {str(channel) for channel in Channel}
    assert all(f"self.kafka.topics.names.{alias})" in check.rule for alias in aliases)
