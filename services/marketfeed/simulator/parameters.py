"""Reading a REST request's parameters as the venue reads them: every mistake has its code and its words. Pure.

Parameters are read before their meaning is looked at: a missing, empty or malformed one is refused first, then one that
the endpoint does not know, and only then a symbol that is not listed. Source: binance-spot-api-docs, errors.md; the
order and the legal ranges as answers of the venue, published by others, show them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

Query = Mapping[str, str]
"""A query string's pairs; a multi-mapping counts a repeated name twice."""

Read = Callable[[str, str], Any]
"""`read(name, text)`: the value of one parameter; raises Refused."""

_LEGAL_NUMBER = "^[0-9]{1,20}$"
_LEGAL_SYMBOL = r"^[\w\-._&&[^a-z]]{1,50}$"
_LEGAL_SYMBOLS = r'^\[("[\w\-._&&[^a-z]]{1,50}"(,"[\w\-._&&[^a-z]]{1,50}"){0,}){0,1}\]$'

# The venue's expressions are Java's, where `&&` intersects.
_number = re.compile(r"[0-9]{1,20}", re.ASCII).fullmatch
_symbol = re.compile(r"(?:[^\Wa-z]|[-.]){1,50}").fullmatch
_symbols = re.compile(r'\["(?:[^\Wa-z]|[-.]){1,50}"(?:,"(?:[^\Wa-z]|[-.]){1,50}")*\]').fullmatch

_FIRST_MICROSECOND = 100_000_000_000_000  # a smaller timestamp is in ms: up to the year 5138


class Refused(Exception):
    """A request that the venue answers with HTTP 400 and this body."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.body = {"code": code, "msg": message}


def bad_combination() -> Refused:
    """Return the refusal of parameters that exclude each other."""
    return Refused(-1128, "Combination of optional parameters invalid.")


def read(query: Query, known: Mapping[str, Read], mandatory: Collection[str] = ()) -> dict[str, Any]:
    """Return the values of the parameters that were sent; raises Refused."""
    sent = len(query)
    if sent > len(set(query)):
        raise Refused(-1101, "Duplicate values for a parameter detected.")
    if sent and not known:
        raise Refused(-1101, f"Too many parameters; expected '0' and received '{sent}'.")
    for name in mandatory:
        if name not in query:
            raise Refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    values = {name: _value(name, query[name], reader) for name, reader in known.items() if name in query}
    if len(values) < sent:
        text = f"Not all sent parameters were read; read '{len(values)}' parameter(s) but was sent '{sent}'."
        raise Refused(-1104, text)
    return values


def _value(name: str, text: str, reader: Read) -> Any:
    if not text:
        raise Refused(-1105, f"Parameter '{name}' was empty.")
    return reader(name, text)


def _illegal(name: str, legal: str) -> Refused:
    return Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def number(name: str, text: str) -> int:
    """Read a whole number without a sign."""
    if not _number(text):
        raise _illegal(name, _LEGAL_NUMBER)
    return int(text)


def limit(name: str, text: str) -> int:
    """Read a number of rows, at least one."""
    rows = number(name, text)
    if rows == 0:
        raise Refused(-1130, f"Data sent for parameter '{name}' is not valid.")
    return rows


def timestamp_us(name: str, text: str) -> int:
    """Read a timestamp in ms or us and return it in us since 1970 UTC."""
    value = number(name, text)
    return value if value >= _FIRST_MICROSECOND else value * 1000


def symbol(name: str, text: str) -> str:
    """Read a symbol."""
    if not _symbol(text):
        raise _illegal(name, _LEGAL_SYMBOL)
    return text


def symbols(name: str, text: str) -> list[str]:
    """Read a list of symbols: JSON without a space, no symbol twice."""
    if not _symbols(text):
        raise _illegal(name, _LEGAL_SYMBOLS)
    found: list[str] = json.loads(text)
    if len(found) > len(set(found)):
        raise Refused(-1151, "Symbol is present multiple times in the list.")
    return found


def words(_name: str, text: str) -> frozenset[str]:
    """Read one word or a JSON list of words."""
    return frozenset(re.findall(r"\w+", text))


def status(name: str, text: str) -> str:
    """Read a trading status."""
    if text not in ("TRADING", "HALT", "BREAK"):
        raise Refused(-1122, f"Invalid {name}.")
    return text


def boolean(name: str, text: str) -> bool:
    """Read `true` or `false`."""
    if text not in ("true", "false"):
        raise _illegal(name, "^(true|false)$")
    return text == "true"
