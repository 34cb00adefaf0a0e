"""Who may talk to whom, as the node's enforcer has it: tried by connections from inside pods."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest

from stand import Stand, install
from stand.cluster import CommandFailed
from stand.feeds import Feeds
from stand.scenario import Figures, ScenarioFeed, Stopwatch, Tell

_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 4).close()"
_PLATFORM = (("kafka-kafka-bootstrap", 9092), ("postgresql", 5432), ("redis", 6379), ("simulator", 8765))
_REFUSED = re.compile(r"^(?:ConnectionRefused|Timeout|OS)Error: ", re.MULTILINE)
"""How Python's last line says that no connection came about; a name that is not found, and kubectl's errors, differ."""
_SOON_S = 60.0


@pytest.fixture
def stranger(feeds: Feeds) -> Iterator[ScenarioFeed]:
    """Return a namespace that nobody was told of, with one pod in it."""
    found = ScenarioFeed(feeds.stand, "stranger")
    found.begin_venue()
    yield found
    found.end()


def test_policies_refuse_what_nobody_was_promised(
    stand: Stand, feeds: Feeds, stranger: ScenarioFeed, tell: Tell, watch: Stopwatch
) -> None:
    """A stranger reaches neither broker, databases, operator nor a feed; a feed reaches what it needs and no more."""
    feeds.flow.wait("Ready")
    outside = (stranger.namespace, stranger.venue_pod())
    inside = (install.FEED_NAMESPACE, _feed_pod(stand))
    operator = (stand.cluster.pods(install.OPERATOR_NAMESPACE)[0]["status"]["podIP"], 8080)
    places = [(f"{name}.{install.PLATFORM_NAMESPACE}", port) for name, port in _PLATFORM]
    feed = (f"{install.FEED}-ingestor.{install.FEED_NAMESPACE}", 8081)
    # Its own Service and a feed in a namespace without policies: what is refused is not the stranger's network.
    open_to_all = [(f"venue.{stranger.namespace}", 8765), (f"{feeds.flow.name}-ingestor.{feeds.flow.namespace}", 8081)]
    for place in open_to_all:
        stranger.until(partial(_reaches, stand, outside, place), _SOON_S, f"the stranger to reach {place}")
    assert [place for place in (*places, operator, feed) if _reaches(stand, outside, place)] == []
    assert [place for place in places if not _reaches(stand, inside, place)] == []
    assert not _reaches(stand, inside, operator)
    tell(Figures(f"policies: {len(places) + 3} connections refused", watch.seconds))


def _feed_pod(stand: Stand) -> str:
    selector = f"marketfeed.dev/feed={install.FEED},app.kubernetes.io/component=ingestor"
    return str(stand.cluster.pods(install.FEED_NAMESPACE, selector)[0]["metadata"]["name"])


def _reaches(stand: Stand, pod: tuple[str, str], place: tuple[str, int]) -> bool:
    namespace, name = pod
    host, port = place
    command = ("exec", name, f"--namespace={namespace}", "--", "python3", "-c", _CONNECT, host, str(port))
    try:
        stand.cluster.kubectl(*command)
    except CommandFailed as error:
        if not _REFUSED.search(str(error)):
            raise
        return False
    return True
