"""What a change sets in motion: whom it concerns, and the workers that take one feed after the other.

What does not live here: what is done for one feed (reconcile), and where changes come from (mirror).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketfeed.logs import logger
from marketfeed_operator import deletion, resync
from marketfeed_operator.api.errors import ApiError, LostLeadership, NotLeader
from marketfeed_operator.diff import is_topic_key
from marketfeed_operator.health import Progress
from marketfeed_operator.objects import (
    KAFKA_TOPIC_V1,
    MARKETFEED,
    POD,
    Key,
    Manifest,
    annotations_of,
    claims_of,
    key_of,
)
from marketfeed_operator.reconcile import Again, Tools, let_go, reconcile
from marketfeed_operator.sampler import Sampler
from marketfeed_operator.store import Change, FeedName, feed_of, owners
from marketfeed_operator.watch import Watched
from marketfeed_operator.workqueue import WorkQueue

_LEFT_FOR_S = 120.0
"""How long it counts that a feed was deleted: a replica that waits saw it too, and by then another one has done it."""

_IN_TURN, _SOON, _AT_ONCE = range(3)  # how urgent work is

_log = logger("operator")


@dataclass(frozen=True, slots=True)
class Topic:
    """Work on a topic that feeds which are gone have left behind."""

    key: Key

    def __str__(self) -> str:
        return str(self.key)


@dataclass(frozen=True, slots=True)
class Left:
    """Work on what a feed that is gone may have left outside the cluster."""

    uid: str

    def __str__(self) -> str:
        return f"what feed {self.uid} left"


Work = FeedName | Topic | Left


class Workers:
    """The queue and those who work on it."""

    def __init__(
        self,
        tools: Tools,
        queue: WorkQueue[Work],
        sampler: Sampler,
        progress: Progress,
        namespaces: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look after the feeds of these namespaces, of all when there is none."""
        self._namespaces = frozenset(namespaces)
        self._tools = tools
        self._store = tools.store
        self._metrics = tools.metrics
        self._queue = queue
        self._sampler = sampler
        self._progress = progress
        self._policies: dict[str, str] = {}  # deletion policies of feeds that were seen to go, by uid
        self._gone: set[str] = set()  # feeds that the API server was asked for and did not know, by uid
        self._clock = clock
        self._left: dict[str, tuple[float, FeedName, Manifest]] = {}  # those feeds as they were last, and when

    # Whom it concerns

    def changed(self, change: Change) -> None:
        """Let whom a change concerns be looked at: what a person changed or somebody deleted comes first."""
        key, gone = change.key, change.new is None
        if key.kind == MARKETFEED.kind:
            self._feed_changed(change, FeedName(key.namespace, key.name))
            return
        # It concerns those whose label was taken off too.
        concerned = (*self._concerned(key, change.old), *self._concerned(key, change.new))
        for work in dict.fromkeys(concerned):
            self._queue.add(work, urgent=_AT_ONCE if gone and key.kind != POD.kind else _IN_TURN)

    def _concerned(self, key: Key, manifest: Manifest | None) -> list[Work]:
        """Return who is to look at an object: the feed that it names, else the feeds that claim it."""
        if manifest is None:
            return []
        feed = feed_of(manifest)
        if feed is not None:
            return [feed]
        return [self._store.named(uid) or Topic(key) for uid in owners(manifest)]

    def _feed_changed(self, change: Change, name: FeedName) -> None:
        old, new = change.old, change.new
        if old is not None and (new is None or _uid(new) != _uid(old)):
            self._feed_gone(old, name)
        if new is not None:
            self._queue.add(name, urgent=_urgency(old, new))

    def _feed_gone(self, feed: Manifest, name: FeedName) -> None:
        """Remember how a feed wanted to be deleted, and let its topics be let go one by one."""
        uid = _uid(feed)
        policy = self._policies[uid] = str(feed["spec"].get("deletionPolicy", "Retain"))
        for key in self._store.owned(uid):
            if is_topic_key(key):
                self._queue.add(Topic(key), urgent=_SOON)
        self._store.forget_feed(uid)
        self._tools.secrets.forget(name)
        now = self._clock()
        recent = {other: left for other, left in self._left.items() if now - left[0] <= _LEFT_FOR_S}
        self._left = {**recent, uid: (now, name, feed)}  # a replica that waits for the lease takes none out
        self._queue.add(Left(uid))
        self._queue.forget(name)
        _log.info("feed_deleted", namespace=name.namespace, name=name.name, policy=policy)

    def everything(self) -> None:
        """Let every feed be looked at, and every topic that a feed left behind."""
        self._policies = {uid: policy for uid, policy in self._policies.items() if self._store.owned(uid)}
        for name in self._store.feeds():
            self._queue.add(name)
        for topic in self._store.of_kind(KAFKA_TOPIC_V1.kind):
            if self._orphaned(topic):
                self._queue.add(Topic(key_of(topic)))

    def _orphaned(self, topic: Manifest) -> list[str]:
        """Return the uids that claim a topic and that no feed bears, of feeds that were ours to look after."""
        return [
            uid
            for uid, feed in claims_of(topic).items()
            if self._store.named(uid) is None and (uid in self._policies or deletion.is_ours(feed, self._namespaces))
        ]

    # The work

    async def work(self) -> None:
        """Take one piece of work after the other. Raises NotLeader or LostLeadership when the lease is gone."""
        while True:
            work = await self._queue.get()
            self._progress.begun(work)
            try:
                await self._do(work)
            finally:
                self._progress.ended(work)
                self._queue.done(work)
            await asyncio.sleep(0)  # what is as it should be waits for nothing: the lease and others want their turn

    async def _do(self, work: Work) -> None:
        try:
            with self._metrics.reconcile_seconds.time():
                again = await self._dispatch(work)
        except (NotLeader, LostLeadership):
            raise
        except ApiError as error:
            self._put_off(work, type(error).__name__, str(error))
        except Exception as error:  # noqa: BLE001 - a bug of ours in one feed's work must not end the others'
            _log.error("failed", work=str(work), error=error)
            self._put_off(work, type(error).__name__, "see the error before this")
        else:
            self._metrics.reconciles.labels("ok").inc()
            self._queue.forget(work)
            self._look_again(work, again)

    async def _dispatch(self, work: Work) -> Again:
        match work:
            case Topic(key):
                return await self._let_go(key)
            case Left(uid):
                self._remove(uid)
                return Again()
        return await reconcile(work, self._tools)

    def _remove(self, uid: str) -> None:
        """Let go what a feed has left outside the cluster, once, and unless a leader before us has had the time to."""
        left = self._left.pop(uid, None)
        if left is not None and self._clock() - left[0] <= _LEFT_FOR_S:
            self._tools.direct.remove(*left[1:])

    def _put_off(self, work: Work, kind: str, reason: str) -> None:
        self._metrics.reconciles.labels("error").inc()
        self._metrics.errors.labels(kind).inc()
        self._metrics.retries.inc()
        delay_s = self._queue.retry(work)
        _log.warning("put_off", work=str(work), reason=reason, delay_s=round(delay_s, 1))

    def _look_again(self, work: Work, again: Again) -> None:
        if again.after_s is not None:
            self._queue.add_after(work, again.after_s)
        if again.sample and isinstance(work, FeedName):
            self._sampler.hurry(work)

    async def _let_go(self, key: Key) -> Again:
        """Release a topic from feeds that are gone."""
        again_s: list[float] = []
        topic = self._store.get(key)
        for uid in await self._surely_orphaned(topic) if topic is not None else ():
            topic = self._store.get(key)
            if topic is None:
                break
            policy = self._policies.get(uid) or deletion.policy_of(topic)
            step = await let_go(topic, uid, policy, self._tools)
            again_s += [] if step.look_again_s is None else [step.look_again_s]
        return Again(min(again_s, default=None))

    async def _surely_orphaned(self, topic: Manifest) -> list[str]:
        """Return the uids of `_orphaned` that are gone for the API server too, unless we have seen all of them go.

        A topic may be newer here than its feed is. To ask once is enough for every claim that we know: it is younger
        than its feed, which the answer would hold.
        """
        orphaned = self._orphaned(topic)
        if self._policies.keys() | self._gone >= set(orphaned):
            return orphaned
        claims = {uid for topic in self._store.of_kind(KAFKA_TOPIC_V1.kind) for uid in claims_of(topic)}
        for feed in await resync.listed(self._tools.cluster, Watched(MARKETFEED), tuple(self._namespaces)):
            change = self._store.put(feed)
            if change is not None:
                self.changed(change)
        self._gone |= {uid for uid in claims if self._store.named(uid) is None}
        return self._orphaned(topic)  # without those whose feeds the answer held


def _uid(feed: Manifest) -> str:
    return str(feed["metadata"]["uid"])


def _urgency(old: Manifest | None, new: Manifest) -> int:
    """Return how urgent a feed is: what changes one that runs is a write or two, and need not wait for new ones."""
    if old is None:
        return _SOON
    return _AT_ONCE if _wish(old) != _wish(new) else _IN_TURN


def _wish(feed: Manifest) -> tuple[str, Mapping[str, Any], Mapping[str, str]]:
    """Return what a person says by a feed: that it is this one, its spec and its annotations."""
    return _uid(feed), feed["spec"], annotations_of(feed)
