"""What becomes of topics and their records when a feed is deleted."""

from __future__ import annotations

from stand.feeds import Feeds
from stand.scenario import Figures, ScenarioFeed, Stopwatch, Tell

_GONE_S = 90.0


def test_retain_keeps_topics_and_delete_removes_them(feeds: Feeds, tell: Tell, watch: Stopwatch) -> None:
    """With Retain the topics outlive the feed, and one that is made anew takes them over; with Delete they go too."""
    kept, gone = feeds.kept, feeds.gone
    for feed in (kept, gone):
        feed.wait("Ready")
        assert set(feed.topics) <= feeds.topics()
        feed.delete()
    for feed in (kept, gone):
        _wait_gone(feed)
    feeds.flow.until(lambda: not {*gone.topics} & feeds.topics(), _GONE_S, "the topics of the feed with Delete to go")
    assert set(kept.topics) <= feeds.topics()
    stored = kept.rows()
    kept.apply(deletionPolicy="Delete")
    kept.wait("Ready")
    kept.until(lambda: kept.rows() > stored, 60, "more rows from the topics that were kept")
    kept.delete()
    _wait_gone(kept)
    feeds.flow.until(
        lambda: not {*kept.topics} & feeds.topics(), _GONE_S, "the topics of the feed that was changed to go"
    )
    tell(Figures("deleted with Retain and with Delete", watch.seconds))


def _wait_gone(feed: ScenarioFeed) -> None:
    """Wait until neither the feed nor anything of it is there."""
    kinds = "marketfeeds.marketfeed.dev,deployments,configmaps,services,poddisruptionbudgets,pods"
    selector = f"marketfeed.dev/feed={feed.name}"

    def left() -> bool:
        cluster = feed.stand.cluster
        return bool(cluster.items("marketfeeds.marketfeed.dev", feed.namespace)) or bool(
            cluster.items(kinds.partition(",")[2], feed.namespace, selector)
        )

    feed.until(lambda: not left(), _GONE_S, f"{feed.name} and all that it had to go")
