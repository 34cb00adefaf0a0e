"""What is wrong with a document, in sentences: the field as the user wrote it, what was found, and what would be right.

What does not live here: reading documents (spec) and the rules over several fields (rules).
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from marketfeed_operator.fields import MEANING

Location = tuple[int | str, ...]

_LONGEST_VALUE = 60

_KINDS = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "model_type": "a mapping",
    "string_type": "text",
    "tuple_type": "a list",
}
"""pydantic's errors about a value's kind → the kind that is right."""

_BOUNDS = {
    "greater_than": ("gt", "must be above"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be below"),
    "less_than_equal": ("le", "must be at most"),
}
"""pydantic's errors about a number's size → where the bound stands, and how to say it."""


class Problem(NamedTuple):
    """One thing that is wrong."""

    location: Location
    sentence: str

    def __str__(self) -> str:
        return f"{path(self.location)}: {self.sentence}"


def path(location: Location) -> str:
    """Return the field's path as people write it: `spec.sinks[0].batch.rows`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def worded(errors: Iterable[ErrorDetails], model: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's errors about a document of `model` into problems.

    A list counts as short when its items are wrong: the items' own problems are enough.
    """
    known = list(errors)
    around = {error["loc"][:-1] for error in known}
    return [
        Problem(error["loc"], _sentence(error, model))
        for error in known
        if not (error["type"] == "too_short" and error["loc"] in around)
    ]


def one_of(value: str, choices: Iterable[str]) -> str:
    """Return the sentence that refuses `value` and offers the choices, the nearest first where one is near."""
    known = list(choices)
    return f"{shown(value)} is not one of {', '.join(known)}{_hint(str(value), known)}"


def shown(value: Any) -> str:
    """Return a value as a document would hold it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _sentence(error: ErrorDetails, model: type[BaseModel]) -> str:  # noqa: PLR0911 - one return per kind of error
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return f"is missing: {_description(model, error['loc'])}"
    if kind == "extra_forbidden":
        return _unknown(error["loc"], model)
    if kind in _KINDS:
        return _wrong_kind(value, _KINDS[kind])
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"{words} {context[bound]:.15g}, not {shown(value)}"
    if kind in ("literal_error", "enum"):
        return _wrong_choice(value, _choices(context["expected"]))
    if kind == "string_pattern_mismatch":
        return f"{shown(value)} is not {MEANING[context['pattern']]}"
    if kind in ("string_too_long", "too_long"):
        return (
            f"is too long: {len(value)} {'characters' if isinstance(value, str) else 'items'}, "
            f"at most {context['max_length']} are taken"
        )
    if kind == "too_short":
        return f"is empty: {_description(model, error['loc'])}"
    return error["msg"]


def _wrong_kind(value: Any, right: str) -> str:
    advice = ""
    if right == "text" and isinstance(value, bool | int | float):
        advice = ": put it in quotes"
    elif "number" in right and isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        advice = ": leave the quotes out"
    return f"must be {right}, not {shown(value)}{advice}"


def _wrong_choice(value: Any, choices: list[str]) -> str:
    if not isinstance(value, str):
        return (
            _wrong_kind(value, "text")
            if str(value) in choices
            else f"{shown(value)} is not one of {', '.join(choices)}"
        )
    return one_of(value, choices)


def _choices(expected: str) -> list[str]:
    """Take apart pydantic's "'a', 'b' or 'c'"."""
    return [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]


def _hint(name: str, known: Iterable[str]) -> str:
    by_lower = {choice.lower().replace("_", ""): choice for choice in known}
    near = get_close_matches(name.lower().replace("_", ""), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def _unknown(location: Location, model: type[BaseModel]) -> str:
    """Refuse a field: offer its nearest neighbour, else the place where a field of that name belongs."""
    name = str(location[-1])
    known = fields_of(_model_at(model, location[:-1]))
    hint = _hint(name, known)
    if not hint:
        elsewhere = [found for found in _places(model) if found[-1] == name]
        hint = f"; did you mean {path(elsewhere[0])}?" if len(elsewhere) == 1 else ""
    return f"is not a known field{hint or '; known here: ' + ', '.join(known)}"


def _description(model: type[BaseModel], location: Location) -> str:
    fields = fields_of(_model_at(model, location[:-1]))
    return (fields[str(location[-1])].description or "").partition(";")[0].rstrip(".")


def fields_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's fields by the name that documents use."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel]:
    """Return the model of the section at `location`."""
    for part in location:
        if isinstance(part, str):
            model = section_of(fields_of(model)[part].annotation) or model
    return model


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside `Model`, `Model | None` or `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := section_of(part))), None)


def _places(model: type[BaseModel], before: Location = ()) -> Iterator[Location]:
    """Yield the location of every field of the document, outer fields first."""
    for name, field in fields_of(model).items():
        yield (*before, name)
        section = section_of(field.annotation)
        if section is not None:
            yield from _places(section, (*before, name))
