"""Records to bytes and back. JSON is the only encoding so far; another one is another pair of functions here.

The wire form is one flat JSON object whose `channel` says which record it is.
"""

from __future__ import annotations

import re

import msgspec

from marketfeed.errors import BadRecord
from marketfeed.events import RECORD_VERSION, BookTicker, Record

_NUMBER = r"[0-9]++(?:\.[0-9]++)?"
_DECIMAL = re.compile(_NUMBER, re.ASCII).fullmatch

# A record's numbers are checked by one match over all of them, with exactly one space between two.
_TWO_DECIMALS = re.compile(" ".join([_NUMBER] * 2), re.ASCII).fullmatch
_FOUR_DECIMALS = re.compile(" ".join([_NUMBER] * 4), re.ASCII).fullmatch

_decode = msgspec.json.Decoder(Record).decode
encode = msgspec.json.Encoder().encode


def is_decimal(text: str) -> bool:
    """Whether the text is a plain unsigned decimal number, the form in which prices and quantities travel."""
    return _DECIMAL(text) is not None


def stream_of(record: Record) -> str:
    """Return the text form of the record's stream, as `BTCUSDT@trade`."""
    return f"{record.symbol}@{record.channel}"


def decode(data: bytes) -> Record:
    """Read and check one record; raises BadRecord with the error's type and what would be right."""
    try:
        record: Record = _decode(data)
    except msgspec.ValidationError as error:
        raise BadRecord(validation_error_type(error), f"record refused: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRecord("not_json", f"record is not JSON: {error}") from None
    _check(record)
    return record


def validation_error_type(error: msgspec.ValidationError) -> str:
    """Map msgspec's message to a word of the taxonomy in `errors.BadInput`."""
    text = str(error)
    if "missing required field" in text:
        return "missing_field"
    if ">=" in text or "<=" in text:
        return "out_of_range"
    return "unknown_type" if "Invalid value" in text and "channel" in text else "wrong_type"


def _check(record: Record) -> None:
    """Refuse what the types cannot express: numbers that are none, and versions to come."""
    if isinstance(record, BookTicker):
        plain = _FOUR_DECIMALS(f"{record.bid_price} {record.bid_quantity} {record.ask_price} {record.ask_quantity}")
    else:
        plain = _TWO_DECIMALS(f"{record.price} {record.quantity}")
    if plain is None:
        raise BadRecord("not_a_number", f"{_no_number(record)!r} is not a decimal number such as 39432.48000000")
    if record.v != RECORD_VERSION:
        raise BadRecord(
            "out_of_range", f"record version {record.v} is unknown here; this reader knows {RECORD_VERSION}"
        )


def _no_number(record: Record) -> str:
    """Return the first of the record's numbers that is none."""
    if isinstance(record, BookTicker):
        numbers = [record.bid_price, record.bid_quantity, record.ask_price, record.ask_quantity]
    else:
        numbers = [record.price, record.quantity]
    return next(number for number in numbers if not is_decimal(number))
