"""What becomes of topics and their records when a feed is deleted."""

from __future__ import annotations

from stand.feeds import Feeds
from stand.scenario import Figures, ScenarioFeed, Stopwatch, Tell

_GONE_S = 90.0


def test_a_sink_that_is_taken_away_leaves_nothing(feeds: Feeds, tell: Tell, watch: Stopwatch) -> None:
    """Its consumers, their Service and their disruption budget go, and the feed is ready without them."""
    gone, cluster = feeds.gone, feeds.stand.cluster
    (sink,) = gone.document()["spec"]["sinks"]
    gone.patch(sinks=[{**sink, "replicas": 2}])
    gone.wait("Ready")
    kinds = "deployments,services,poddisruptionbudgets"
    selector = f"marketfeed.dev/feed={gone.name},app.kubernetes.io/component=consumer"
    found = cluster.items(kinds, gone.namespace, selector)
    assert {one["kind"] for one in found} == {"Deployment", "Service", "PodDisruptionBudget"}
    gone.patch(sinks=[])
    gone.until(lambda: not cluster.items(kinds, gone.namespace, selector), _GONE_S, "all that the sink had to go")
    gone.wait("Ready")
    tell(Figures("a sink taken away", watch.seconds))


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
