"""The operator leaves while feeds run, and comes again: last, because it takes away what all others need."""

from __future__ import annotations

from stand import Stand, install
from stand.background import loaded
from stand.feeds import Feeds
from stand.scenario import Stopwatch, Tell

_PLACE = install.OPERATOR_NAMESPACE
_GONE_S = 90.0


def test_feeds_outlive_the_operator(stand: Stand, feeds: Feeds, tell: Tell, watch: Stopwatch) -> None:
    """Uninstalled, feeds go on and their definition stays; installed again, all is ready and no pod was replaced."""
    cluster, flow = stand.cluster, feeds.flow
    flow.wait("Ready")
    before, proven = flow.identities(), flow.prove("before", watch, nothing_missing=False)
    listed = {feed["metadata"]["uid"] for feed in cluster.items("marketfeeds.marketfeed.dev")}
    cluster.helm("uninstall", install.OPERATOR, f"--namespace={_PLACE}", "--wait", "--timeout=5m")
    try:
        cluster.until(lambda: not cluster.items("pods", _PLACE), _GONE_S, "the operator's pods to go", _PLACE)
        assert {feed["metadata"]["uid"] for feed in cluster.items("marketfeeds.marketfeed.dev")} == listed
        flow.wait_for_rows(500)
    finally:  # the topics of feeds that are deleted afterwards go by it, and a stand that was there goes on
        install.operator(cluster, loaded(), stand.folder)
    flow.patch(sinks=[{**flow.document()["spec"]["sinks"][0], "batch": {"maxDelay": "400ms"}}])
    flow.wait("Ready")
    install.await_feed(cluster)
    ingestors = {name: known for name, known in before.items() if "ingestor" in name}
    assert ingestors.items() <= flow.identities().items()
    after = flow.prove("uninstalled and installed again", watch, nothing_missing=False)
    assert after.missing == proven.missing
    tell(after)
