"""Comparing the store with the API server's lists: what a watch has missed is found, what it has not is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fake_cluster import FakeCluster, unanswered
from marketfeed_operator import resync
from marketfeed_operator.api.errors import ApiError
from marketfeed_operator.objects import CONFIG_MAP, Manifest, key_of
from marketfeed_operator.store import Change, Store
from marketfeed_operator.watch import Watched

OURS = {"app.kubernetes.io/managed-by": "marketfeed-operator", "marketfeed.dev/feed-uid": "u1"}
WATCHED = Watched(CONFIG_MAP, "app.kubernetes.io/managed-by=marketfeed-operator")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a healthy watch take no time."""
    monkeypatch.setattr(resync, "_GRACE_S", 0.0)


def streams(name: str = "a", namespace: str = "md", value: str = "1", **labels: str) -> dict[str, Any]:
    """Return a ConfigMap of ours."""
    metadata = {"name": name, "namespace": namespace, "labels": labels or OURS}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": value}}


def known(cluster: FakeCluster, *manifests: Manifest) -> Store:
    """Return a store that knows these objects as the API server has them."""
    store = Store()
    for manifest in manifests:
        store.put(cluster.put(manifest))
    return store


def compare(cluster: FakeCluster, store: Store, *namespaces: str) -> list[Change]:
    """Return what the watch had missed."""
    return asyncio.run(resync.compare(cluster, store, WATCHED, namespaces))


def meanwhile(cluster: FakeCluster, verb: str, does: Callable[[], object]) -> None:
    """Let something happen right when the cluster is asked."""

    def before(call: tuple[str, str]) -> None:
        if call[0] == verb:
            cluster.before = lambda _: None
            does()

    cluster.before = before


def test_the_first_look_takes_what_is_ours_and_says_of_what_kind_it_is() -> None:
    """Every watched kind in every namespace, by label; what others made stays out."""
    cluster, store = FakeCluster(), Store()
    for manifest in (streams(), streams("b", "other"), streams("c", foreign="x"), streams("d", "elsewhere")):
        cluster.put(manifest)
    asyncio.run(resync.fill(cluster, store, [WATCHED], ["md", "other"]))
    assert sorted(item["metadata"]["name"] for item in store.of_kind("ConfigMap")) == ["a", "b"]
    assert cluster.calls == [("list", "ConfigMap"), ("list", "ConfigMap")]
    everywhere = Store()
    asyncio.run(resync.fill(cluster, everywhere, [WATCHED], []))
    assert len(everywhere.of_kind("ConfigMap")) == 3


def test_nothing_is_found_where_nothing_is_missed() -> None:
    """One list, no change."""
    cluster = FakeCluster()
    store = known(cluster, streams(), streams("b"))
    assert compare(cluster, store) == []
    assert len(cluster.calls) == 1


def test_a_missed_change_and_a_missed_object_are_taken() -> None:
    """Both are told, and the store has them as they are."""
    cluster = FakeCluster()
    store = known(cluster, streams())
    cluster.edit(key_of(streams()), lambda found: found["data"].update(x="2"))
    cluster.put(streams("new"))
    changes = compare(cluster, store)
    assert {change.key.name for change in changes} == {"a", "new"}
    kept = store.get(key_of(streams()))
    assert kept is not None
    assert kept["data"] == {"x": "2"}


def test_a_missed_deletion_is_told_as_one() -> None:
    """The object is forgotten, and its last state says whom it concerned."""
    cluster = FakeCluster()
    store = known(cluster, streams())
    cluster.remove(key_of(streams()))
    (change,) = compare(cluster, store)
    assert (change.new, (change.old or {})["metadata"]["labels"]) == (None, OURS)
    assert store.of_kind("ConfigMap") == []


def test_an_object_that_lost_our_label_is_gone_for_us() -> None:
    """The list no longer shows it: its feed is told, and finds it by name to adopt it again."""
    cluster = FakeCluster()
    store = known(cluster, streams())
    cluster.edit(key_of(streams()), lambda found: found["metadata"]["labels"].pop("app.kubernetes.io/managed-by"))
    (change,) = compare(cluster, store)
    assert change.new is None


def test_what_we_write_while_the_list_is_read_is_not_taken_for_deleted() -> None:
    """A new object, and one that was written again: neither is in the list as it was read."""
    cluster = FakeCluster()
    store = known(cluster, streams(), streams("gone"))
    stale = cluster.at(key_of(streams()))
    assert stale is not None

    def write() -> None:
        store.put(cluster.edit(key_of(streams()), lambda found: found["data"].update(x="2")))
        store.put(cluster.put(streams("written")))
        cluster.remove(key_of(streams()))  # so that the list, which is older, has neither
        cluster.remove(key_of(streams("written")))

    meanwhile(cluster, "list", write)
    changes = compare(cluster, store)
    assert changes == []
    assert {item["metadata"]["name"] for item in store.of_kind("ConfigMap")} == {"a", "written", "gone"}


def test_what_the_watch_tells_within_the_grace_was_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A healthy watch that is a moment late is no mute one."""
    cluster = FakeCluster()
    store = known(cluster, streams())
    changed = cluster.edit(key_of(streams()), lambda found: found["data"].update(x="2"))

    async def grace(_: float) -> None:
        store.put(changed)

    monkeypatch.setattr("marketfeed_operator.resync.asyncio.sleep", grace)
    assert compare(cluster, store) == []


def test_an_older_list_never_takes_anything_back() -> None:
    """A list from a lagging replica of the API server changes nothing."""
    cluster = FakeCluster()
    store = known(cluster, streams())
    newer = {**streams(value="9"), "metadata": {**streams()["metadata"], "resourceVersion": "1000"}}
    store.put(newer)
    assert compare(cluster, store) == []
    assert store.get(key_of(newer)) == newer


def test_a_list_that_fails_changes_nothing() -> None:
    """No answer is not an empty one."""
    cluster = FakeCluster()
    store = known(cluster, streams())
    cluster.fails["list", "ConfigMap"] = unanswered()
    with pytest.raises(ApiError):
        compare(cluster, store)
    assert len(store.of_kind("ConfigMap")) == 1
