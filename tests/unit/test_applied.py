"""What applying a file leaves of a feed that is in a cluster: what nobody has applied stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from documents import changed
from feeds import documents
from marketfeed.errors import ConfigurationError
from marketfeed_operator.applied import LAST_APPLIED, applied
from marketfeed_operator.spec import parse


def live(spec: dict[str, Any], last: dict[str, Any] | None = None, owned: dict[str, Any] | None = None) -> Any:
    """Return a feed in a cluster; `last` was applied by the client, `owned` are the fields applied by the server."""
    body = changed(spec)
    annotations = {} if last is None else {LAST_APPLIED: json.dumps(changed(last))}
    managed = [{"operation": "Update", "fieldsV1": {"f:spec": {"f:ingest": {"f:maxShards": {}}}}}]
    managed += [] if owned is None else [{"operation": "Apply", "fieldsV1": {"f:spec": owned}}]
    return {**body, "metadata": {"name": "spot", "annotations": annotations, "managedFields": managed}}


def test_a_new_feed_is_what_the_file_says() -> None:
    """Without a feed in the cluster nothing is added."""
    feed = parse(changed({}))
    assert applied(feed, None) == (feed, ())


def test_what_kubectl_scale_has_set_stays() -> None:
    """The file names no number of shards, no apply ever did: the cluster's is kept, and said."""
    feed, staying = applied(parse(changed({})), live({"spec.ingest": {"shards": 3}}, last={}))
    assert feed.spec.ingest.shards == 3
    assert staying == ("spec.ingest.shards stays 3: it was set in the cluster, and the file leaves it out",)


@pytest.mark.parametrize(
    "earlier", [{"last": {"spec.ingest": {"shards": 3}}}, {"owned": {"f:ingest": {"f:shards": {}}}}]
)
def test_what_was_applied_and_is_left_out_now_goes(earlier: dict[str, Any]) -> None:
    """The client's annotation and the server's fields both say that it came from the file."""
    feed, staying = applied(parse(changed({})), live({"spec.ingest": {"shards": 3}}, **earlier))
    assert feed.spec.ingest.shards is None
    assert staying == ()


def test_a_part_that_the_file_drops_takes_along_what_others_set_in_it() -> None:
    """Client-side apply removes the whole part, server-side apply only the fields that it has set."""
    there = {"spec.ingest": {"shards": 3, "streamsPerShard": 20}}
    feed, _ = applied(parse(changed({})), live(there, last={"spec.ingest": {"streamsPerShard": 20}}))
    assert feed.spec.ingest.shards is None
    feed, _ = applied(parse(changed({})), live(there, owned={"f:ingest": {"f:streamsPerShard": {}}}))
    assert (feed.spec.ingest.shards, feed.spec.ingest.streams_per_shard) == (3, 50)


def test_what_the_file_says_counts() -> None:
    """A field of the file replaces the cluster's, a list as a whole."""
    file = parse(changed({"spec.symbols": ["XRPUSDT"], "spec.ingest": {"shards": 2}}))
    feed, staying = applied(file, live({"spec.ingest": {"shards": 3}, "spec.symbols": ["ADAUSDT", "BTCUSDT"]}))
    assert (feed.spec.ingest.shards, feed.spec.symbols) == (2, file.spec.symbols)
    assert staying == ()


def test_a_file_that_does_not_go_with_what_stays_is_refused() -> None:
    """As the API server would: the number of shards that stays is above the file's limit."""
    file = parse(changed({"spec.ingest": {"maxShards": 2}}))
    with pytest.raises(ConfigurationError, match="the file, applied to the feed in the cluster"):
        applied(file, live({"spec.ingest": {"shards": 3}}))


@given(documents())
@settings(max_examples=50)
def test_a_feed_applied_to_itself_is_itself(document: dict[str, Any]) -> None:
    """Whatever an API server filled in, an unchanged file changes nothing and has nothing to keep."""
    feed = parse(document)
    full = feed.model_dump(mode="json", by_alias=True, exclude_none=True)
    found, staying = applied(feed, {**full, "metadata": {"name": "spot"}})
    assert found.model_dump() == feed.model_dump()
    assert staying == ()
