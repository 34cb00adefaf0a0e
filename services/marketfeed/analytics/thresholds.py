"""The thresholds of the flags, as the feed gives them. Pure: reading the file is the service's business."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec

from marketfeed.errors import ConfigurationError

Threshold = Annotated[Decimal, msgspec.Meta(description="above 0")]


class Thresholds(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a window's figures are judged by.

    volatility: standard deviation of its prices as a share of their volume-weighted mean; volume_spike: its volume as a
    multiple of the mean of the five windows before; spread: its average spread as a multiple of its least.
    """

    volatility: Threshold = Decimal("0.005")
    volume_spike: Threshold = Decimal("3.0")
    spread: Threshold = Decimal("3.0")


def parse(text: str | bytes) -> Thresholds:
    """Read the JSON of a thresholds file; raises ConfigurationError that says what is wrong and what would be right."""
    try:
        found = msgspec.json.decode(text, type=Thresholds)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f'thresholds refused: {error}; write as in {{"volatility": 0.005}}') from None
    for name in Thresholds.__struct_fields__:
        value: Decimal = getattr(found, name)
        if not (value.is_finite() and value > 0):
            raise ConfigurationError(f"thresholds refused: {name} is {value}, and must be above 0")
    return found
