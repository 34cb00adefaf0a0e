"""The streams file: which streams this shard shall carry, now. It may change at any time, also by a swapped symlink."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from marketfeed.errors import ConfigurationError
from marketfeed.events import Stream
from marketfeed.exchanges.base import Venue


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    streams: list[str]


_decode = msgspec.json.Decoder(_Content).decode


def parse_streams(text: bytes, venue: Venue, channels: Collection[str]) -> frozenset[Stream]:
    """Read `{"streams": ["BTCUSDT@trade"]}`; `channels` are those that have somewhere to go.

    Raises ConfigurationError for text of another form, and for streams that cannot be carried on one connection.
    """
    try:
        names = _decode(text).streams
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f'{error}; write {{"streams": ["BTCUSDT@trade"]}}') from None
    streams = frozenset(Stream.parse(name) for name in names)
    possible = venue.channels.intersection(channels)
    for stream in sorted(streams):
        if stream.channel not in possible:
            why = "has no topic" if stream.channel in venue.channels else f"is not known of {venue.name}"
            raise ConfigurationError(f"{stream}: its channel {why} (possible here: {', '.join(sorted(possible))})")
    most = venue.limits.streams_per_connection
    if len(streams) > most:
        raise ConfigurationError(f"{len(streams)} streams: {venue.name} carries at most {most} on one connection")
    return streams


class StreamsFile:
    """Watches the file's content. A broken one leaves the streams of before, and `problem` says what is wrong."""

    def __init__(self, path: Path, venue: Venue, channels: Collection[str]) -> None:
        """Read the file for the first time; raises ConfigurationError."""
        self._path = path
        self._venue = venue
        self._channels = channels
        self._content = self._read()
        self.streams = self._parse(self._content)
        self.problem: str | None = None

    def look(self) -> bool:
        """Read the file again; return whether its streams or its problem changed."""
        before = self.streams, self.problem
        try:
            content = self._read()
            if content != self._content or self.problem is not None:
                self.streams = self._parse(content)
                self._content = content
            self.problem = None
        except ConfigurationError as error:
            self.problem = f"the streams file cannot be used, the streams of before are kept: {error}"
        return (self.streams, self.problem) != before

    def _parse(self, content: bytes) -> frozenset[Stream]:
        return parse_streams(content, self._venue, self._channels)

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{self._path}: {error.strerror}") from None
