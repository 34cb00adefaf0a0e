"""Reading a MarketFeed: a document in, a checked feed out, or every problem of the document at once.

What does not live here: opening files (commands), the fields (models) and the rules over several of them (rules).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from marketfeed.errors import ConfigurationError
from marketfeed_operator.models import API_VERSION, KIND, MarketFeed
from marketfeed_operator.problems import Location, Problem, fields_of, section_of, shown, worded
from marketfeed_operator.rules import broken

_STAND_IN = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "any"}}
"""What the rules do not look at, right in any case."""

__all__ = ["MarketFeed", "load", "parse"]


def load(text: str, source: str) -> MarketFeed:
    """Read the one MarketFeed that a YAML (or JSON) text holds; `source` names the text in errors.

    Raises ConfigurationError: the position for what is no YAML, else one line for each problem.
    """
    try:
        documents = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.reader.ReaderError as error:
        raise ConfigurationError(_unreadable(error, text, source)) from None
    except yaml.MarkedYAMLError as error:
        raise ConfigurationError(_position(error, source)) from None
    if len(documents) != 1:
        raise ConfigurationError(
            f"{source}: holds {len(documents)} documents; write one {KIND} to a file"
            if documents
            else f"{source}: holds nothing; write a {KIND}, beginning with apiVersion: {API_VERSION}"
        )
    return parse(documents[0], source)


def parse(document: Any, source: str = KIND) -> MarketFeed:
    """Check a MarketFeed given as a mapping, as an API server or a YAML text gives it; `source` names it in errors.

    Raises ConfigurationError with one line for each problem.
    """
    if not isinstance(document, Mapping):
        raise ConfigurationError(
            f"{source}: must be a mapping with apiVersion, kind, metadata and spec, not {shown(document)}"
        )
    feed, problems = _examined(_without_nulls(json.loads(json.dumps(dict(document))), MarketFeed))
    if feed is None or problems:
        raise ConfigurationError(_report(problems, source))
    return feed


def _examined(document: dict[str, Any]) -> tuple[MarketFeed | None, list[Problem]]:
    """Return the feed, or all problems: the rules are tried too on what is left without the fields that are wrong."""
    foreign = _identity(document)
    if foreign:
        return None, foreign
    feed, known = _checked(document)
    found, removed = known, list[Location]()
    while feed is None:
        wrong = [_present(document, problem.location) for problem in found if problem.location[0] == "spec"]
        if "spec" not in document or any(len(location) < len(("spec", "field")) for location in wrong):
            break
        removed += wrong
        document = {**_STAND_IN, "spec": _without(document, wrong)["spec"]}
        feed, found = _checked(document)
        known = known + [problem for problem in found if not _follows(problem, removed)]
    return feed, known


def _without_nulls(value: Any, model: type[BaseModel]) -> Any:
    """Return a section, or a list of them, without its empty fields: `symbols:` with nothing says nothing.

    An API server leaves them out too. What is passed on as it is keeps its nulls.
    """
    if isinstance(value, list):
        return [_without_nulls(item, model) for item in value]
    if not isinstance(value, dict):
        return value
    sections = {name: section_of(field.annotation) for name, field in fields_of(model).items()}
    return {
        name: _without_nulls(inner, section) if (section := sections.get(name)) else inner
        for name, inner in value.items()
        if inner is not None
    }


def _checked(document: dict[str, Any]) -> tuple[MarketFeed | None, list[Problem]]:
    """Return the feed, if its fields are right one by one, and the problems of the fields, else those of the rules."""
    try:
        feed = MarketFeed.model_validate_json(json.dumps(document))
    except ValidationError as error:
        return None, worded(error.errors(include_url=False), MarketFeed)
    return feed, broken(feed)


def _identity(document: Mapping[str, Any]) -> list[Problem]:
    """Say when this is another kind of document altogether: then nothing more can be said about its fields."""
    expected = {"apiVersion": API_VERSION, "kind": KIND}
    return [
        Problem(
            (field,),
            f"must be {right}, not {shown(document[field])}" if field in document else f"is missing: write {right}",
        )
        for field, right in expected.items()
        if document.get(field) != right
    ]


def _present(document: Any, location: Location) -> Location:
    """Return the location, or that of the section around it where the document lacks the field."""
    for part in location[:-1]:
        document = document[part]
    return location if isinstance(document, list) or location[-1] in document else location[:-1]


def _without(document: dict[str, Any], locations: Iterable[Location]) -> dict[str, Any]:
    """Return the document without what stands at the locations."""
    rest = deepcopy(document)
    for location in sorted(set(locations), reverse=True):  # inner before outer, and a list's last item first
        parent: Any = rest
        for part in location[:-1]:
            parent = parent[part]
        del parent[location[-1]]
    return rest


def _follows(problem: Problem, removed: Iterable[Location]) -> bool:
    """Say whether the problem may come of removing something: from its own section, or from a list around it."""
    at = problem.location
    for location in removed:
        section = location[:-1]
        if isinstance(location[-1], int) and at[: len(section)] == section:
            return True
        if at[: len(location)] == location or at[:-1] == section != ("spec",):
            return True
    return False


def _report(problems: list[Problem], source: str) -> str:
    if len(problems) == 1:
        return f"{source}: {problems[0]}"
    return "\n  ".join([f"{source}: {len(problems)} problems", *map(str, problems)])


def _unreadable(error: yaml.reader.ReaderError, text: str, source: str) -> str:
    """Say which character YAML does not allow and where; lines and columns count from 1."""
    before = text[: error.position]
    line, column = before.count("\n") + 1, error.position - before.rfind("\n")
    return (
        f"{source}:{line}:{column}: not YAML that can be read: character {shown(chr(error.character))} is not allowed"
    )


def _position(error: yaml.MarkedYAMLError, source: str) -> str:
    """Say what is wrong with a YAML text and where; lines and columns count from 1."""
    mark = error.problem_mark or error.context_mark
    place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
    context = f" {error.context}" if error.context else ""
    return f"{place}: not YAML that can be read: {error.problem}{context}"


_NOT_JSON = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("binary", "omap", "pairs", "set", "timestamp"))


class _Loader(yaml.SafeLoader):
    """Reads YAML as Kubernetes does: dates stay text, only what JSON can hold is taken, and no key may repeat."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        """Refuse a key that stands twice in one mapping."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{shown(key)} stands here twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: constructor for tag, constructor in yaml.SafeLoader.yaml_constructors.items() if tag not in _NOT_JSON
}
