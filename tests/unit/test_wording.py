"""Phrases that several parts say."""

from __future__ import annotations

import pytest

from marketfeed_operator.wording import approve_command, count, feeds, shortened


@pytest.mark.parametrize(("number", "said"), [(0, "0 processes"), (1, "1 process"), (2, "2 processes")])
def test_one_thing_alone_is_singular(number: int, said: str) -> None:
    """None and many have a plural, which may be of its own kind."""
    assert count(number, "process", "es") == said


def test_feeds_are_named_one_by_one() -> None:
    """One is a feed, more are feeds."""
    assert (feeds(["a"]), feeds(["a", "b"])) == ("feed a", "feeds a, b")


@pytest.mark.parametrize(("text", "cut"), [("", ""), ("abc", "abc"), ("abcd", "ab…")])
def test_a_text_is_never_longer_than_asked_for_and_shows_that_it_was_cut(text: str, cut: str) -> None:
    """The ellipsis counts."""
    assert shortened(text, 3) == cut


def test_the_command_that_approves_names_the_namespace_where_there_is_one() -> None:
    """A person can paste it."""
    said = "kubectl annotate marketfeed spot -n md marketfeed.dev/approve=abc --overwrite"
    assert approve_command("spot", "md", "abc") == said
    assert approve_command("spot", None, "abc") == said.replace(" -n md", "")
