"""The feeds of all scenarios: begun together, because starting takes longer than most of what is tried on them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from stand import install
from stand.background import Stand, loaded
from stand.scenario import SYMBOLS, ScenarioFeed
from stand.streaming import StreamingFeed

NO_IMAGE = "localhost/marketfeed/services:there-is-none"

_QUICK_END: Mapping[str, Any] = {"spec": {"terminationGracePeriodSeconds": 5}}
"""A frozen process uses up all of its grace: a shorter one only shortens waiting."""
_BAD_IMAGE: Mapping[str, Any] = {"spec": {"containers": [{"name": "ingestor", "image": NO_IMAGE}]}}


class Feeds:
    """One feed for each group of scenarios that can share it.

    flow: undisturbed but for what its owner changes. killed: whose processes, broker and database are killed. frozen:
    whose ingestor stops. mute: whose venue falls silent. broken: that has neither image nor secret. kept, gone: that
    are deleted with Retain and with Delete. streaming: with a streaming job, begun by its scenario alone.
    """

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.begun = datetime.now(UTC)
        self.flow = ScenarioFeed(stand, "flow", rate=100, venue_symbols=(*SYMBOLS, "SOLUSDT"))
        self.killed = ScenarioFeed(stand, "killed")
        self.frozen = ScenarioFeed(stand, "frozen", spec={"ingest": {"podTemplate": _QUICK_END}})
        self.mute = ScenarioFeed(stand, "mute")
        self.broken = ScenarioFeed(stand, "broken", own_venue=False, spec={"ingest": {"podTemplate": _BAD_IMAGE}})
        self.kept = ScenarioFeed(stand, "kept", own_venue=False, spec={"deletionPolicy": "Retain"})
        self.gone = ScenarioFeed(stand, "gone", own_venue=False)
        self.streaming = StreamingFeed(stand, "streaming")

    @property
    def all(self) -> tuple[ScenarioFeed, ...]:
        """All that begin together."""
        return (self.flow, self.killed, self.frozen, self.mute, self.broken, self.kept, self.gone)

    def let_in(self) -> None:
        """Let them reach broker and database, as an administrator would, by a value of the platform's chart."""
        names = ",".join(feed.namespace for feed in (*self.all, self.streaming))
        self._upgrade(f"--set=networkPolicies.clientNamespaces={{{names}}}")

    def shut_out(self) -> None:
        """Take that back."""
        self._upgrade()

    def _upgrade(self, *more: str) -> None:
        install.platform(self.stand.cluster, loaded(self.stand.folder), self.stand.folder, *more)

    def begin(self) -> None:
        """Begin all of them."""
        self.begun = datetime.now(UTC)
        for feed in self.all:
            feed.begin(secret=feed is not self.broken)

    def end_disturbed(self) -> None:
        """Delete the feeds of earlier scenarios, so that those that follow have the machine for themselves."""
        for feed in (self.killed, self.frozen, self.mute, self.broken):
            feed.delete()
            feed.stop_venue()

    def topics(self) -> set[str]:
        """Return the names of the topics that the broker has, asked from a pod of a feed that runs."""
        consumer = self.flow.pod("consumer")["metadata"]["name"]
        where = f"--namespace={self.flow.namespace}"
        told = self.stand.cluster.kubectl("exec", consumer, where, "--", "marketfeed", "topics", "list")
        return {line.split()[0] for line in told.splitlines() if line.strip()}

    def clear(self, timeout_s: float) -> None:
        """Delete them with their namespaces, and wait until nothing of them is left."""
        found = (*self.all, self.streaming)
        for feed in found:
            feed.end()
        self.await_gone(*found, timeout_s=timeout_s)

    def await_gone(self, *feeds: ScenarioFeed, timeout_s: float) -> None:
        """Wait until nothing of these feeds' namespaces is left."""
        cluster, names = self.stand.cluster, [feed.namespace for feed in feeds]

        def left() -> set[str]:
            return {item["metadata"]["name"] for item in cluster.items("namespaces")} & {*names}

        cluster.until(lambda: not left(), timeout_s, "the scenarios' namespaces to go", *names)
