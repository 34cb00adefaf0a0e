"""What rules allow and what requests needed, right by right, so that the one can be held against the other.

What does not live here: reading the audit log's lines (controlplane.audit), and which rights no test needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from controlplane import audit

Right = tuple[str, str, str]
"""API group, resource, verb."""

_FORBIDDEN, _CREATED = 403, 201


def of_rules(rules: Iterable[Mapping[str, Sequence[str]]]) -> set[Right]:
    """Return what rules allow, one by one."""
    return {
        (group, resource, verb)
        for each in rules
        for group in each.get("apiGroups", ())
        for resource in each.get("resources", ())
        for verb in each["verbs"]
    }


def denied(asked: Iterable[audit.Request]) -> list[str]:
    """Return what was forbidden."""
    return [f"{item.verb} {item.uri}" for item in asked if item.code == _FORBIDDEN]


def used(asked: Iterable[audit.Request]) -> set[Right]:
    """Return what requests needed; a server-side apply that makes the object needs the right to create it too."""
    found = set()
    for item in asked:
        group = item.uri.split("/")[2] if item.uri.startswith("/apis/") else ""
        if item.resource and item.code != _FORBIDDEN:
            found.add((group, item.resource, item.verb))
            if item.verb == "patch" and item.code == _CREATED:
                found.add((group, item.resource, "create"))
    return found
