"""What an operator that is to go must still do, and what it says before it goes. Pure.

What does not live here: looking at the cluster and writing (settle), and the steps of letting a topic go (deletion).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from marketfeed_operator import deletion
from marketfeed_operator.deletion import Orphan
from marketfeed_operator.objects import Key, Manifest, annotations_of, claims_of, key_of
from marketfeed_operator.wording import count

_MOST_SHOWN = 20
_NO_FEEDS_SERVED = (
    "MarketFeeds are not served, so that nobody can tell which feeds are gone: no topic is touched. Install the "
    "definition with kubectl apply --server-side -f crds/, and start an operator, to let topics go."
)


_UNTENDED = (
    "Their pods go on, and Kubernetes restarts them. Nothing else heals: an object that is lost is not made anew, a "
    "streaming job that ends stays ended, and no change of a feed takes effect."
)


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is, of feeds in `namespaces` (of all, without any).

    The topics must have been listed before the feeds: then every live feed that claims one of them is among them.
    `feeds` is None where their kind is not served: then no feed counts as gone.
    """

    topics: tuple[Manifest, ...]
    feeds: tuple[Manifest, ...] | None
    namespaces: frozenset[str] = frozenset()

    def orphans(self) -> tuple[Orphan, ...]:
        """Return the claims of feeds that are gone and were ours to look after."""
        if self.feeds is None:
            return ()
        return deletion.orphans(self.topics, self._live(), self.namespaces)

    def to_let_go(self) -> tuple[Orphan, ...]:
        """Return those on which there is something to write, one a topic: a write makes another version of it."""
        return tuple({orphan.key: orphan for orphan in self.orphans() if not _goes(orphan.topic)}.values())

    def going(self) -> tuple[Orphan, ...]:
        """Return those whose resource is deleted already; the rest is Strimzi's."""
        return tuple({orphan.key: orphan for orphan in self.orphans() if _goes(orphan.topic)}.values())

    def released_by_live_feeds(self) -> tuple[Manifest, ...]:
        """Return the topics that feeds which stay were letting go."""
        live = self._live()
        return tuple(
            topic
            for topic in self.topics
            if deletion.RELEASED_AT in annotations_of(topic) and claims_of(topic).keys() & live and not _goes(topic)
        )

    def _live(self) -> frozenset[str]:
        return frozenset(str(feed["metadata"]["uid"]) for feed in self.feeds or ())


def _goes(topic: Manifest) -> bool:
    return "deletionTimestamp" in topic["metadata"]


def farewell(
    sight: Sight, now: datetime, answer_s: float, refusals: Mapping[Key, str], blind: str | None = None
) -> list[str]:
    """Return what is left, in sentences: of topics first, then of feeds.

    `refusals`: why the last write to a topic failed; `blind`: why the cluster could not be looked at again.
    """
    old = [f"The API server did not answer the last look ({blind}): this is what there was before."] if blind else []
    if sight.feeds is None:
        return [*old, _NO_FEEDS_SERVED]
    return [*old, *_topics(sight, now, answer_s, refusals), *_feeds(sight.feeds)]


def _topics(sight: Sight, now: datetime, answer_s: float, refusals: Mapping[Key, str]) -> list[str]:
    left = [_left(orphan, refusals.get(orphan.key)) for orphan in sight.to_let_go()]
    going = [f"{deletion.release(one.topic, one.uid, one.policy, now, answer_s).sentence}." for one in sight.going()]
    begun = [
        f"{key_of(topic)} stays, not managed, with its data: a feed that no longer wants it was letting it go. An "
        "operator that is installed again goes on with it."
        for topic in sight.released_by_live_feeds()
    ]
    return [*left, *going, *begun] or ["No topic of a deleted feed is left to be let go."]


def _left(orphan: Orphan, refusal: str | None) -> str:
    feed = claims_of(orphan.topic)[orphan.uid]
    why = f" The last attempt failed: {refusal.rstrip('.')}." if refusal else ""
    return (
        f"{orphan.key} is not let go: the time was too short after the end of feed {feed}.{why} An operator that is "
        "installed again goes on with it."
    )


def _feeds(feeds: Iterable[Manifest]) -> list[str]:
    found = sorted(feeds, key=lambda feed: (feed["metadata"]["namespace"], feed["metadata"]["name"]))
    if not found:
        return ["No feed is left: nothing runs on."]
    more = [f"  and {len(found) - _MOST_SHOWN} more"] if len(found) > _MOST_SHOWN else []
    return [
        f"{count(len(found), 'feed')} will run on without an operator:",
        *(f"  {_named(feed)}: {_state(feed)}" for feed in found[:_MOST_SHOWN]),
        *more,
        _UNTENDED,
        *_topics_meanwhile(found),
        "To remove feeds as well, delete them while an operator runs, and uninstall it afterwards:",
        *(f"  kubectl delete marketfeeds --all --namespace {place}" for place in _places(found)),
    ]


def _topics_meanwhile(feeds: Iterable[Manifest]) -> list[str]:
    """Say what becomes of the topics of feeds that are deleted while there is no operator."""
    direct = any(_provisioner(feed) == "direct" for feed in feeds)
    return [
        "A feed that is deleted meanwhile takes its pods along. Its KafkaTopics stay until an operator is back"
        + ("; topics that were made without Strimzi stay for good." if direct else ".")
    ]


def _provisioner(feed: Manifest) -> str | None:
    topics: Mapping[str, str] = (feed["spec"].get("kafka") or {}).get("topics") or {}
    return topics.get("provisioner")


def _named(feed: Manifest) -> str:
    return f"{feed['metadata']['namespace']}/{feed['metadata']['name']}"


def _state(feed: Manifest) -> str:
    """Return how a feed was when an operator looked last."""
    conditions = (feed.get("status") or {}).get("conditions") or ()
    ready = next((one for one in conditions if one["type"] == "Ready"), None)
    if ready is None or ready["status"] == "Unknown":
        return "not known yet"
    return "Ready" if ready["status"] == "True" else f"not Ready ({ready['reason']})"


def _places(feeds: Iterable[Manifest]) -> list[str]:
    return list(dict.fromkeys(str(feed["metadata"]["namespace"]) for feed in feeds))[:_MOST_SHOWN]
