"""Quantities as the API server writes them back, so that what we apply equals what is stored.

Amounts are rounded up to a thousandth, no fraction is written, and the suffix is the largest that allows it. Negative
and exponential quantities stay as they are: nobody asks for such resources.
Source: ParseQuantity and CanonicalizeBytes of k8s.io/apimachinery/pkg/api/resource, whose habit of leaving text such as
`1.500` as it is, is kept; the rounding is SetDefaults_ResourceList of k8s.io/kubernetes/pkg/apis/core/v1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Any

_QUANTITY = re.compile(r"0*(?P<whole>\d*)\.?(?P<part>\d*)(?P<suffix>[KMGTPE]i|[numkMGTPE]|)")
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_WRITTEN = _DECIMAL[_DECIMAL.index("m") :]
_LARGEST = 2**63 - 1
_LONGEST = 30  # characters: no amount of anything needs more, and a hostile one shall cost no time


def canonical(value: Any) -> Any:
    """Return a quantity's canonical text; what is none is returned as it is, for the API server to refuse."""
    text = str(value).strip()
    match = None if isinstance(value, bool) or len(text) > _LONGEST else _QUANTITY.fullmatch(text)
    if match is None or not text[:1].isdigit():
        return value
    whole, part, suffix = match["whole"], match["part"], match["suffix"]
    number = Fraction(int((whole + part) or "0"), 10 ** len(part))
    if suffix in _BINARY[1:]:
        return _binary(number * 1024 ** _BINARY.index(suffix))
    number *= Fraction(1000) ** (_DECIMAL.index(suffix) - _DECIMAL.index(""))
    return text if _kept(whole, part, number) else _decimal(number)


def canonical_resources(resources: Any) -> Any:
    """Return a container's resources with every quantity of `requests` and `limits` in canonical form."""
    if not isinstance(resources, Mapping):
        return resources
    return {
        part: _amounts(amounts) if part in ("requests", "limits") else amounts for part, amounts in resources.items()
    }


def _amounts(amounts: Any) -> Any:
    if not isinstance(amounts, Mapping):
        return amounts
    return {name: canonical(amount) for name, amount in amounts.items()}


def _kept(whole: str, part: str, number: Fraction) -> bool:
    """Say whether the API server takes a decimal quantity's text for canonical without a closer look."""
    digits, rounded = (whole or "0") + part, (number * 1000).denominator != 1
    return not rounded and len(part) % 3 == 0 and not digits.endswith("000") and not digits.startswith("0")


def _binary(number: Fraction) -> str:
    if number < 1024 or number.denominator != 1:  # noqa: PLR2004 - where the first suffix begins
        return _decimal(number)
    amount, index = min(int(number), _LARGEST), 0
    while amount % 1024 == 0 and index < len(_BINARY) - 1:
        amount, index = amount // 1024, index + 1
    return f"{amount}{_BINARY[index]}"


def _decimal(number: Fraction) -> str:
    amount, index = ceil(number * 1000), 0
    if amount == 0:
        return "0"
    while amount % 1000 == 0 and index < len(_WRITTEN) - 1:
        amount, index = amount // 1000, index + 1
    return f"{amount}{_WRITTEN[index]}"
