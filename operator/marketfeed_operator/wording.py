"""Phrases that several parts say: numbers of things, names of feeds, texts cut short. Pure.

What does not live here: whole sentences, which stand where they are said.
"""

from __future__ import annotations

from collections.abc import Sequence

from marketfeed_operator.objects import APPROVE


def count(number: int, thing: str, plural: str = "s") -> str:
    """Return a number with its thing, as `1 stream` or `2 streams`."""
    return f"{number} {thing if number == 1 else thing + plural}"


def feeds(names: Sequence[str]) -> str:
    """Return one feed or several by their names, as `feed a` or `feeds a, b`."""
    return f"feed{'' if len(names) == 1 else 's'} {', '.join(names)}"


def shortened(text: str, longest: int) -> str:
    """Return at most `longest` characters of a text; one that was longer ends with an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def approve_command(name: str, namespace: str | None, approval: str) -> str:
    """Return the command that approves the destructive changes of this hash to a feed."""
    place = f" -n {namespace}" if namespace else ""
    return f"kubectl annotate marketfeed {name}{place} {APPROVE}={approval} --overwrite"
