"""From a frame's bytes to a record's, without decoding: what was learnt from one frame serves all of its shape.

A frame's shape is the frame with a 0 for every digit. Frames of one shape differ in digits alone, so that their numbers
stand in the same places: the record of one, its numbers replaced by the other's, is the record of the other. A shape is
learnt from a frame that was parsed and checked in full, and only when the copy equals what was encoded, byte for byte.

What this cannot see is a number that JSON or a database would refuse, as one with a leading zero. The reader of the
record refuses it then, and it goes to quarantine from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter

from marketfeed.events import Record
from marketfeed.exchanges.base import Field

_SHAPE = bytes.maketrans(b"123456789", b"000000000")
_KNOWN_SHAPES = 16_384  # a stream has a few dozen; one takes about a kilobyte
_LONGEST_FRAME_BYTES = 512
_has_digit = re.compile(r"\d").search


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How frames of one shape are copied: `pick` takes the numbers out of the frame, `template` takes them in."""

    stream: str
    template: bytes
    pick: Callable[[bytes], tuple[bytes, ...]]
    times: int  # how often the time of receipt follows: twice where it stands for the event time, too

    def copy(self, frame: bytes, ingestion_time: int) -> bytes:
        return self.template % (*self.pick(frame), *(ingestion_time,) * self.times)


class Transcriber:
    """Copies frames whose shape is known; `fields` says where each record's numbers stand on the wire.

    The venue promises of the channels in `fields` that everything else of a record is told by a frame's letters.
    """

    def __init__(self, fields: Mapping[type[Record], Mapping[str, Field]]) -> None:
        self._fields = fields
        self._known: dict[bytes, _Recipe] = {}

    def transcribe(self, frame: bytes, ingestion_time: int) -> tuple[str, bytes] | None:
        """Return the stream (`BTCUSDT@trade`) and the encoded record of a frame; None where its shape is not known."""
        recipe = self._known.get(frame.translate(_SHAPE))
        if recipe is None:
            return None
        if recipe.times == 1:
            return recipe.stream, recipe.template % (*recipe.pick(frame), ingestion_time)
        return recipe.stream, recipe.copy(frame, ingestion_time)

    def learn(self, frame: bytes, stream: str, record: Record, value: bytes) -> None:
        """Remember the shape of a frame that holds just this record, encoded as `value`, if it can be copied."""
        recipe = self._recipe(frame, stream, record, value)
        if recipe is not None and recipe.copy(frame, record.ingestion_time) == value:
            if len(self._known) >= _KNOWN_SHAPES:
                self._known.clear()
            self._known[frame.translate(_SHAPE)] = recipe

    def _recipe(self, frame: bytes, stream: str, record: Record, value: bytes) -> _Recipe | None:
        fields = self._fields.get(record.__class__)
        # Digits in a symbol's name would pass for a number, and behind a backslash they stand for any character.
        if fields is None or len(frame) > _LONGEST_FRAME_BYTES or _has_digit(record.symbol) or b"\\" in frame:
            return None
        spans: list[slice] = []
        template = value.replace(b"%", b"%%")
        for name, field in fields.items():
            digits = str(getattr(record, name)).removesuffix(field.suffix).encode()
            span = _find(frame, field.key, digits)
            if span is None:
                return None
            spans.append(span)
            template = _replace(template, name, digits, b"%b")
        received = str(record.ingestion_time).encode()
        times = 1 if "event_time" in fields else 2
        for name in ("event_time", "ingestion_time")[-times:]:
            template = _replace(template, name, received, b"%d")
        return _Recipe(stream, template, itemgetter(*spans), times)


def _find(frame: bytes, key: str, digits: bytes) -> slice | None:
    """Return where the number behind this key stands; None unless the key stands there once, with that number."""
    found = re.findall(rb'"%b":"?' % re.escape(key.encode()), frame)
    if len(found) != 1:
        return None
    start = frame.index(found[0]) + len(found[0])
    span = slice(start, start + len(digits))
    return span if frame[span] == digits else None


def _replace(template: bytes, name: str, digits: bytes, by: bytes) -> bytes:
    """Put a placeholder for a field's number."""
    return re.sub(rb'("%b":"?)%b' % (name.encode(), re.escape(digits)), rb"\g<1>%b" % by, template, count=1)
