"""What a shard says of its streams while they come and go, from a volume as a ConfigMap's is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until
from ingestors import SOON_S, Start, starter, trade, wait_ready
from pipeline import Service
from scripted_venue import ScriptedVenue


class Volume:
    """A folder as the kubelet keeps it: files are links through `..data`, which is swapped as a whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._version = 0
        self.file = folder / "streams.json"
        self.file.symlink_to("..data/streams.json")

    def hold(self, *streams: str) -> None:
        """Swap the content, and remove the one of before, as the kubelet does."""
        before, self._version = self._version, self._version + 1
        content = self._folder / f"..v{self._version}"
        content.mkdir()
        (content / "streams.json").write_text(json.dumps({"streams": streams}))
        (self._folder / "..data_tmp").symlink_to(content.name)
        (self._folder / "..data_tmp").replace(self._folder / "..data")
        if before:
            (self._folder / f"..v{before}" / "streams.json").unlink()
            (self._folder / f"..v{before}").rmdir()


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """Return a volume with one stream."""
    folder = tmp_path / "volume"
    folder.mkdir()
    made = Volume(folder)
    made.hold("BTCUSDT@trade")
    return made


@pytest.fixture
def venue() -> Iterator[ScriptedVenue]:
    """Return a venue that listens."""
    with ScriptedVenue() as scripted:
        yield scripted


@pytest.fixture
def ingest(tmp_path: Path, venue: ScriptedVenue, volume: Volume) -> Iterator[Start]:
    """Return a function that starts an ingestor of the volume's streams."""
    with starter(tmp_path, venue.url, volume.file) as start:
        yield start


def streams(service: Service) -> dict[str, Any]:
    """Return `/streams`."""
    status, body = service.get("/streams")
    assert status == 200
    return body


def wait_for(service: Service, desired: list[str], carried: list[str]) -> None:
    """Wait until the shard says just this."""
    expected = {"desired": desired, "carried": carried}
    wait_until(lambda: streams(service) == expected, SOON_S, f"/streams to be {expected}")


def test_streams_follow_the_volume(venue: ScriptedVenue, ingest: Start, volume: Volume) -> None:
    """A swapped volume is subscribed and unsubscribed on the open connection, and `/streams` says what is carried."""
    service = ingest()
    wait_for(service, ["BTCUSDT@trade"], ["BTCUSDT@trade"])
    volume.hold("ETHUSDT@trade", "BTCUSDT@trade")
    wait_for(service, ["BTCUSDT@trade", "ETHUSDT@trade"], ["BTCUSDT@trade", "ETHUSDT@trade"])
    volume.hold("ETHUSDT@trade")
    wait_for(service, ["ETHUSDT@trade"], ["ETHUSDT@trade"])
    assert venue.carried == {"ethusdt@trade"}
    assert len(venue.paths) == 1


def test_only_what_is_acknowledged_is_carried(venue: ScriptedVenue, ingest: Start, volume: Volume) -> None:
    """A stream that the venue has not acknowledged is desired and not carried: nobody else may let go of it yet."""
    service = ingest()
    wait_ready(service)
    wait_until(lambda: venue.requests, SOON_S, "the first check")
    venue.acknowledges = False
    volume.hold("BTCUSDT@trade", "ETHUSDT@trade")
    wait_for(service, ["BTCUSDT@trade", "ETHUSDT@trade"], ["BTCUSDT@trade"])


def test_without_a_connection_nothing_is_carried(venue: ScriptedVenue, ingest: Start) -> None:
    """What the last connection carried counts no longer once it is cut."""
    service = ingest(backoff_first_s=60.0, backoff_max_s=120.0)
    wait_for(service, ["BTCUSDT@trade"], ["BTCUSDT@trade"])
    venue.status = 503
    venue.cut()
    wait_for(service, ["BTCUSDT@trade"], [])


def test_a_shard_that_is_left_with_nothing_stays_calm(venue: ScriptedVenue, ingest: Start, volume: Volume) -> None:
    """An empty list ends the connection; no other is tried, and the shard stays ready until it is ended."""
    service = ingest()
    wait_ready(service)
    volume.hold()
    wait_for(service, [], [])
    wait_until(lambda: not venue.connected, SOON_S, "the end of the connection")
    wait_ready(service)
    assert service.terminate() == 0
    assert len(venue.paths) == 1


def test_the_pace_of_messages_is_told(venue: ScriptedVenue, ingest: Start) -> None:
    """`/stats` says how many messages a second came lately; a shard that heard nothing says 0."""
    service = ingest()
    wait_ready(service)
    venue.send(*(trade(number) for number in range(500)))
    told = wait_until(lambda: service.stats()["messages_per_second"], SOON_S, "a pace above zero")
    assert 0 < told <= 2_500
