"""A feed's objects, as rendered for a document, and what a fake API server makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from documents import changed
from marketfeed_operator.diff import writes
from marketfeed_operator.handover import Holdings
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import KAFKA_TOPIC_V1, Manifest, Served
from marketfeed_operator.observed import Observed
from marketfeed_operator.plan import plan
from marketfeed_operator.render import Installation, Owner, render
from marketfeed_operator.spec import parse
from server import Server

UID = "u-1"
ALL_SERVED = Served(KAFKA_TOPIC_V1, spark_application=True, spark_suspend=True, pod_monitor=True)


def desired(changes: Mapping[str, Any] | None = None, uid: str = UID) -> tuple[Manifest, ...]:
    """Return the objects of the document with these changes."""
    return rendered(parse(changed(dict(changes or {}))), uid)


def rendered(
    feed: MarketFeed, uid: str = UID, holdings: Holdings | None = None, served: Served = ALL_SERVED
) -> tuple[Manifest, ...]:
    """Return the feed's objects; the shards hold what is planned where nothing else is said."""
    made = plan(feed)
    owner = Owner(feed.metadata.name, "feeds", uid)
    held = made.holdings if holdings is None else holdings
    return render(made, feed, owner, Installation(), served, holdings=held, secrets={})


def observed(server: Server, name: str = "spot", uid: str = UID) -> Observed:
    """Return what a feed sees of the server."""
    return Observed({"metadata": {"name": name, "namespace": "feeds", "uid": uid}}, ALL_SERVED, dict(server.objects))


def server_with(changes: Mapping[str, Any] | None = None) -> Server:
    """Return a server that has everything that the changed document asks for."""
    server = Server()
    server.write(writes(desired(changes), observed(server), UID))
    return server
