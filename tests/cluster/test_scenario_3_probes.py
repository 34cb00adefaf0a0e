"""Liveness and readiness as the kubelet acts on them: two feeds are disturbed at once, because both take their time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from stand.cluster import restarts, uid
from stand.feeds import Feeds
from stand.scenario import SIMULATOR, Stopwatch, Tell

_NOTICED_S, _RESTARTED_S = 60.0, 150.0
_LIVENESS_S = 45.0  # three failures, 10 s apart, with answers waited for 5 s each


class Disturbed:
    """What was frozen when, and which pods there were."""

    def __init__(self, feeds: Feeds) -> None:
        stand, frozen, mute = feeds.stand, feeds.frozen, feeds.mute
        for feed in (frozen, mute):
            feed.wait("Ready")
            feed.wait_for_rows(200)
        self.frozen_pod, self.mute_pod = frozen.pod("ingestor"), mute.pod("ingestor")
        (venue,) = stand.cluster.pods(mute.namespace, f"app.kubernetes.io/name={SIMULATOR}")
        name = str(self.frozen_pod["metadata"]["name"])
        self.venue_pid = stand.container_pid(mute.namespace, str(venue["metadata"]["name"]), SIMULATOR)
        os.kill(stand.container_pid(frozen.namespace, name, "ingestor"), signal.SIGSTOP)
        os.kill(self.venue_pid, signal.SIGSTOP)
        self.watch = Stopwatch()


@pytest.fixture(scope="module")
def disturbed(feeds: Feeds) -> Iterator[Disturbed]:
    """Freeze one feed's ingestor and another's venue; the venue goes on afterwards, whatever happens."""
    found = Disturbed(feeds)
    yield found
    with suppress(ProcessLookupError):
        os.kill(found.venue_pid, signal.SIGCONT)


def test_a_frozen_ingestor_is_noticed_and_restarted(feeds: Feeds, disturbed: Disturbed, tell: Tell) -> None:
    """DataFlowing says that a frozen ingestor does not answer before the kubelet restarts it; and it is well again."""
    frozen = feeds.frozen
    noticed = frozen.until(lambda: _not_flowing(feeds), _NOTICED_S, "DataFlowing to notice the frozen ingestor")
    assert noticed["reason"] == "NotAnswering"
    assert restarts(frozen.pods("ingestor")[0]) == 0, "it was restarted before it was noticed"
    frozen.until(lambda: restarts(frozen.pods("ingestor")[0]), _RESTARTED_S, "the kubelet to restart the ingestor")
    assert [uid(pod) for pod in frozen.pods("ingestor")] == [uid(disturbed.frozen_pod)]
    frozen.wait("Ready")
    frozen.wait_for_rows(200)
    tell(frozen.prove("a frozen ingestor restarted", disturbed.watch, nothing_missing=False))


def _not_flowing(feeds: Feeds) -> dict[str, str] | None:
    found = feeds.frozen.condition("DataFlowing")
    return found if found["status"] != "True" and found["reason"] != "Missing" else None


def test_an_ingestor_without_a_venue_is_not_restarted(feeds: Feeds, disturbed: Disturbed, tell: Tell) -> None:
    """A mute venue makes the ingestor unready and says so; the kubelet leaves it alone, and it goes on by itself."""
    mute = feeds.mute
    mute.wait("IngestReady", "False")
    mute.wait("DataFlowing", "False")
    mute.until(
        lambda: disturbed.watch.seconds > _LIVENESS_S + 15, _LIVENESS_S + 30, "the time that liveness may take to pass"
    )
    (pod,) = mute.pods("ingestor")
    assert (uid(pod), restarts(pod)) == (uid(disturbed.mute_pod), 0)
    os.kill(disturbed.venue_pid, signal.SIGCONT)
    mute.wait("Ready")
    mute.wait_for_rows(200)
    (pod,) = mute.pods("ingestor")
    assert (uid(pod), restarts(pod)) == (uid(disturbed.mute_pod), 0)
    tell(mute.prove("a mute venue, no restart", disturbed.watch, nothing_missing=False))
