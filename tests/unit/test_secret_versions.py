"""Versions of secrets: whose are asked for, what a change sets in motion, and what an error does not."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from fake_cluster import FakeCluster, secret_key, unanswered
from marketfeed_operator import secret_versions
from marketfeed_operator.api.errors import ApiError
from marketfeed_operator.secret_versions import SecretVersions
from marketfeed_operator.store import FeedName, Store

SPOT, OTHER, ELSEWHERE = FeedName("md", "spot"), FeedName("md", "other"), FeedName("fx", "spot")
DSN = ("version", "Secret md/dsn")


class Bench:
    """Versions over a fake API server."""

    def __init__(self) -> None:
        self.cluster, self.store = FakeCluster(), Store()
        self.told: list[FeedName] = []
        self.versions = SecretVersions(self.cluster, self.store, self.told.append)

    def need(self, feed: FeedName, *names: str) -> None:
        """Ask for a feed's secrets, as a reconciliation does."""
        asyncio.run(self.versions.need(feed, names))

    def look(self) -> None:
        """Ask again for everything, once."""

        async def run() -> None:
            for place in list(self.versions._users):
                await self.versions._look(place)

        asyncio.run(run())


def test_a_version_is_asked_for_once_and_by_name() -> None:
    """Two feeds, three reconciliations, one question; metadata alone are asked for, and no list."""
    b = Bench()
    b.cluster.secret("dsn", {"dsn": "hunter2"})
    for feed in (SPOT, SPOT, OTHER):
        b.need(feed, "dsn")
    assert b.cluster.calls == [DSN]
    assert "hunter2" not in str(b.store.secrets)


def test_a_secret_that_is_missing_is_known_as_missing() -> None:
    """It has no version; one of the same name in another namespace is another one."""
    b = Bench()
    b.cluster.secret("dsn", {"dsn": "x"}, "fx")
    b.need(SPOT, "dsn")
    b.need(ELSEWHERE, "dsn")
    assert b.store.secrets["md", "dsn"] is None
    assert b.store.secrets["fx", "dsn"]


def test_a_change_an_appearance_and_a_disappearance_are_told_to_every_user() -> None:
    """Everybody who names the secret learns of it, and nobody of what is as it was."""
    b = Bench()
    b.need(SPOT, "dsn")
    b.need(OTHER, "dsn")
    seen = []
    for change in (
        lambda: b.cluster.secret("dsn", {"dsn": "1"}),
        lambda: None,
        lambda: b.cluster.secret("dsn", {"dsn": "2"}),
        lambda: b.cluster.remove(secret_key("dsn")),
    ):
        change()
        b.look()
        seen.append((sorted(b.told), b.store.secrets["md", "dsn"] is not None))
        b.told.clear()
    both = sorted([SPOT, OTHER])
    assert seen == [(both, True), ([], True), (both, True), (both, False)]


def test_an_error_keeps_what_was_known() -> None:
    """An API server that is away makes no secret look changed or missing."""
    b = Bench()
    b.cluster.secret("dsn", {"dsn": "1"})
    b.need(SPOT, "dsn")
    before = dict(b.store.secrets)
    b.cluster.fails[DSN] = unanswered()
    b.look()
    assert (b.store.secrets, b.told) == (before, [])


def test_without_a_first_answer_nothing_is_decided() -> None:
    """A reconciliation that cannot know a version ends with the error; the next one asks again."""
    b = Bench()
    b.cluster.secret("dsn", {"dsn": "1"})
    b.cluster.fails[DSN] = unanswered()
    with pytest.raises(ApiError):
        b.need(SPOT, "dsn")
    assert b.store.secrets == {}
    b.cluster.fails.clear()
    b.need(SPOT, "dsn")
    assert b.store.secrets["md", "dsn"]


def test_who_needs_a_secret_no_longer_is_not_told() -> None:
    """A feed that names another secret now, or is gone, leaves; the last one takes the version along."""
    b = Bench()
    b.need(SPOT, "dsn")
    b.need(OTHER, "dsn")
    b.need(SPOT, "new")
    b.cluster.secret("dsn", {"dsn": "1"})
    b.look()
    assert b.told == [OTHER]
    b.versions.forget(OTHER)
    assert set(b.store.secrets) == {("md", "new")}
    b.versions.forget(SPOT)
    assert (b.store.secrets, b.versions._users) == ({}, {})


def test_a_feed_that_goes_while_its_secret_is_asked_for_leaves_no_version() -> None:
    """A version that nobody keeps true would be believed by the next feed that names the secret."""
    b = Bench()
    b.cluster.secret("dsn", {"dsn": "1"})
    b.cluster.before = lambda _: b.versions.forget(SPOT)
    b.need(SPOT, "dsn")
    assert b.store.secrets == {}


def test_it_asks_by_itself_until_it_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The running part finds a change without anybody's call; with no secret at all it does nothing."""
    monkeypatch.setattr(secret_versions, "_EVERY_S", 0.02)
    b = Bench()
    b.cluster.secret("dsn", {"dsn": "1"})

    async def run() -> None:
        asking = asyncio.create_task(b.versions.run())
        await asyncio.sleep(0.05)
        assert b.cluster.calls == []
        await b.versions.need(SPOT, ["dsn"])
        b.cluster.secret("dsn", {"dsn": "2"})
        async with asyncio.timeout(10):
            while not b.told:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking

    asyncio.run(run())
    assert set(b.told) == {SPOT}


@pytest.mark.parametrize(("count", "pause_s"), [(2, 5.0), (1000, 0.1)])
def test_many_secrets_are_not_asked_for_more_often(count: int, pause_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few are asked for every 15 s; of a thousand, ten a second, so that rest costs the API server little."""
    b = Bench()
    b.versions._users = {("md", f"secret-{number}"): {SPOT} for number in range(count)}

    async def sleep(seconds: float) -> None:
        assert seconds == pause_s
        raise asyncio.CancelledError

    monkeypatch.setattr("asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(b.versions.run())
    assert len(b.cluster.calls) == 1
