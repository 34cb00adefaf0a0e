"""Topics without Strimzi, against brokers that a test plays: what is asked when, and what becomes of the answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from documents import changed
from fake_cluster import FakeCluster
from marketfeed import topics
from marketfeed.errors import Unavailable
from marketfeed.settings import KafkaSettings, Topic
from marketfeed_operator import direct
from marketfeed_operator.direct import Topics, approval, hosts
from marketfeed_operator.observed import DirectTopics
from marketfeed_operator.plan import Defaults, plan
from marketfeed_operator.spec import parse
from marketfeed_operator.store import FeedName, Store

NAME = FeedName("md", "spot")
NAMES = frozenset({"binance.trades", "binance.dlq"})
DIRECT = {"spec.kafka.topics.provisioner": "direct"}
SASL = {
    **DIRECT,
    "spec.kafka.security": {
        "protocol": "SASL_SSL",
        "mechanism": "SCRAM-SHA-512",
        "credentialsSecretRef": {"name": "kafka-user"},
        "caSecretRef": {"name": "kafka-ca", "key": "ca.crt"},
    },
}


@dataclass
class Brokers:
    """Brokers that a test plays: what they were asked, what they answer."""

    asked: list[tuple[KafkaSettings, tuple[Topic, ...], bool]] = field(default_factory=list)
    deleted: list[list[str]] = field(default_factory=list)
    authority: str = ""
    answer: topics.Outcome | Exception = topics.Outcome()
    open: threading.Event = field(default_factory=threading.Event)
    called: threading.Event = field(default_factory=threading.Event)

    def reconcile(self, kafka: KafkaSettings, wanted: Sequence[Topic], *, shorten: bool) -> topics.Outcome:
        self.asked.append((kafka, tuple(wanted), shorten))
        if kafka.ca_file is not None:
            self.authority = Path(kafka.ca_file).read_text()
        self.called.set()
        assert self.open.wait(10), "the test never let the brokers answer"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def delete(self, kafka: KafkaSettings, names: Sequence[str]) -> list[str]:
        del kafka
        self.deleted.append(list(names))
        self.called.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return list(names)


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    """Play the brokers; they answer at once until a test closes them."""
    found = Brokers()
    found.open.set()
    monkeypatch.setattr(topics, "reconcile", found.reconcile)
    monkeypatch.setattr(topics, "delete", found.delete)
    monkeypatch.setattr(direct, "_REMOVAL_RETRY_S", 0.0)
    return found


class Bench:
    """The topics of feeds of a store, with the brokers that a test plays."""

    def __init__(self) -> None:
        self.cluster, self.store = FakeCluster(), Store()
        self.told: list[FeedName] = []
        self._version = 0
        self.topics = Topics(self.cluster, self.store, Defaults(), self.told.append)

    def feed(self, changes: dict[str, Any] | None = None, name: str = "spot", uid: str = "u1") -> dict[str, Any]:
        """Put a feed into the store; return it."""
        self._version += 1
        body = changed({**DIRECT, **(changes or {})})
        body["metadata"] |= {"name": name, "namespace": "md", "uid": uid, "resourceVersion": str(self._version)}
        self.store.put(body)
        return body

    def need(self, body: dict[str, Any]) -> float | None:
        """Ask for the feed's topics, as a reconciliation does."""
        feed = parse(body)
        return self.topics.need(FeedName("md", body["metadata"]["name"]), body, feed, plan(feed))

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        async with asyncio.timeout(10):
            while self.topics._tasks:
                await asyncio.wait(list(self.topics._tasks.values()))
                await asyncio.sleep(0)

    def said(self, uid: str = "u1") -> DirectTopics:
        """Return what the brokers said last."""
        return self.store.direct[uid]


def run(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a scenario, then break off what is under way."""

    async def whole() -> None:
        bench = Bench()
        try:
            await scenario(bench)
        finally:
            await bench.topics.stop()

    asyncio.run(asyncio.wait_for(whole(), 20))


def test_the_brokers_are_asked_once_and_the_answer_stands(brokers: Brokers) -> None:
    """One question for many looks at a feed; the answer is kept, told of, and good for minutes."""

    async def scenario(b: Bench) -> None:
        body = b.feed()
        assert b.need(body) is None
        assert b.need(body) is None
        await b.settled()
        left_s = b.need(body)
        assert left_s is not None
        assert 200 < left_s <= 300
        assert len(brokers.asked) == 1
        assert (b.said().names, b.said().problem) == (NAMES, None)
        assert b.told == [NAME]

    run(scenario)


@pytest.mark.parametrize(
    "change",
    [
        {"spec.kafka.topics.partitions": 9},
        {"spec.kafka.topics.retention": "30d"},
        {"spec.kafka.bootstrapServers": "elsewhere:9092"},
        {"metadata.annotations": {"marketfeed.dev/approve": "abc"}},
    ],
    ids=str,
)
def test_another_wish_is_another_question(brokers: Brokers, change: dict[str, Any]) -> None:
    """Whatever the answer depends on is asked about at once when it changes, not minutes later."""

    async def scenario(b: Bench) -> None:
        b.need(b.feed())
        await b.settled()
        assert b.need(b.feed(change)) is None
        await b.settled()
        assert len(brokers.asked) == 2

    run(scenario)


def test_a_wish_that_comes_amid_a_question_is_asked_after_it(brokers: Brokers) -> None:
    """The reconciliation that the first answer's news sets off finds nothing under way, and asks again."""

    async def scenario(b: Bench) -> None:
        brokers.open.clear()
        b.need(b.feed())
        body = b.feed({"spec.kafka.topics.partitions": 9})
        assert b.need(body) is None
        again: list[float | None] = []
        b.topics._told = lambda _: again.append(b.need(body)) if not again else None
        brokers.open.set()
        await b.settled()
        assert again == [None]
        assert [wanted[0].partitions for _, wanted, _ in brokers.asked] == [3, 9]

    run(scenario)


def test_brokers_that_do_not_answer_are_asked_again_soon(brokers: Brokers) -> None:
    """The sentence stands in the store, each failure is told of, and the waits grow up to 15 s."""

    async def scenario(b: Bench) -> None:
        brokers.answer = Unavailable("no Kafka broker answers at x:1 within 5 s")
        body, waits = b.feed(), []
        for number in range(8):
            assert b.need(body) is None
            await b.settled()
            assert b.said().problem == "no Kafka broker answers at x:1 within 5 s"
            assert len(b.told) == number + 1
            left_s = b.need(body)
            assert left_s is not None
            waits.append(left_s)
            b.topics._due.clear()  # time passes
        assert 0 < waits[0] <= 1
        assert max(waits) <= 15
        brokers.answer = topics.Outcome(created=tuple(NAMES))
        b.need(body)
        await b.settled()
        assert (b.said().names, b.said().problem) == (NAMES, None)

    run(scenario)


def test_a_bug_is_told_and_tried_again(brokers: Brokers) -> None:
    """An error that nobody expected neither vanishes nor ends the operator."""

    async def scenario(b: Bench) -> None:
        brokers.answer = RuntimeError("oops")
        body = b.feed()
        b.need(body)
        await b.settled()
        assert b.said().problem == "the operator failed over it: its log says how"
        assert b.need(body) is not None
        assert b.told == [NAME]

    run(scenario)


def test_a_shorter_retention_waits_for_the_hash_that_is_named(brokers: Brokers) -> None:
    """The topic is held, the sentence holds the very annotation that lets it go, and no other value does."""

    async def scenario(b: Bench) -> None:
        brokers.answer = topics.Outcome(held=("binance.trades",))
        b.need(b.feed({"spec.kafka.topics.retention": "1d"}))
        await b.settled()
        said = b.said()
        assert said.names == {"binance.dlq"}
        assert said.held == {"binance.trades"}
        wanted = approval(brokers.asked[0][1])
        assert f"marketfeed.dev/approve={wanted} --overwrite" in (said.problem or "")
        for approved in ("another", wanted):
            annotations = {"metadata.annotations": {"marketfeed.dev/approve": approved}}
            b.need(b.feed({"spec.kafka.topics.retention": "1d", **annotations}))
            await b.settled()
        assert [shorten for _, _, shorten in brokers.asked] == [False, False, True]

    run(scenario)


def test_credentials_come_from_secrets_and_go_nowhere_else(
    brokers: Brokers, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User, password and authority reach the brokers; afterwards no file is left, and no log or status names them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def scenario(b: Bench) -> None:
        b.cluster.secret("kafka-user", {"username": "writer", "password": "hunter2"})
        b.cluster.secret("kafka-ca", {"ca.crt": "-----BEGIN CERTIFICATE-----"})
        b.need(b.feed(SASL))
        await b.settled()
        (kafka, _, _) = brokers.asked[0]
        assert (kafka.security_protocol, kafka.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
        assert (str(kafka.sasl_username), str(kafka.sasl_password)) == ("writer", "hunter2")
        assert brokers.authority == "-----BEGIN CERTIFICATE-----"
        assert "hunter2" not in f"{b.said()}{kafka!r}"

    with caplog.at_level("DEBUG"):
        run(scenario)
    assert list(tmp_path.iterdir()) == []
    assert "hunter2" not in "".join(str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize(
    ("secrets", "sentence"),
    [
        ({}, "Secret kafka-user is missing: the brokers cannot be reached without it"),
        ({"username": "writer"}, "key password of Secret kafka-user is missing: the brokers cannot be reached"),
        ({"username": "writer", "password": b"hunter2\xff"}, "key password of Secret kafka-user is not text in UTF-8"),
    ],
    ids=["no secret", "no key", "not text"],
)
def test_a_secret_that_cannot_be_used_is_named(
    brokers: Brokers, caplog: pytest.LogCaptureFixture, secrets: dict[str, str | bytes], sentence: str
) -> None:
    """What is missing is named with its Secret; no broker is asked without it, and no value is shown."""

    async def scenario(b: Bench) -> None:
        if secrets:
            b.cluster.secret("kafka-user", secrets)
        body = b.feed(SASL)
        b.need(body)
        await b.settled()
        assert sentence in (b.said().problem or "")
        assert brokers.asked == []
        b.store.secrets["md", "kafka-user"] = "another version"
        assert b.need(body) is None, "a changed Secret must be tried at once"
        await b.settled()

    with caplog.at_level("DEBUG"):
        run(scenario)
    assert "hunter2" not in "".join(str(vars(record)) for record in caplog.records)


DELETE = {"spec.deletionPolicy": "Delete"}


def gone(b: Bench, changes: dict[str, Any]) -> dict[str, Any]:
    """Let the feed of these changes go; return it."""
    body = b.feed(changes)
    b.store.drop(body)
    return body


@pytest.mark.parametrize(
    ("changes", "deleted"),
    [
        (DELETE, [["binance.trades", "binance.dlq"]]),
        ({"spec.deletionPolicy": "Retain"}, []),
        ({**DELETE, "spec.kafka.topics.provisioner": "strimzi"}, []),
        ({**DELETE, "spec.symbols": []}, []),
    ],
    ids=["Delete", "Retain", "Strimzi's", "unreadable"],
)
def test_topics_go_with_their_feed_only_where_it_said_so(
    brokers: Brokers, changes: dict[str, Any], deleted: list[list[str]]
) -> None:
    """Delete deletes; Retain, topics of Strimzi's and a feed that nobody can read leave all as it is."""

    async def scenario(b: Bench) -> None:
        b.topics.remove(NAME, gone(b, changes))
        await b.settled()
        assert brokers.deleted == deleted

    run(scenario)


@pytest.mark.parametrize(
    ("other", "left"),
    [
        ({}, ["binance.dlq"]),
        ({"spec.kafka.topics.provisioner": "strimzi"}, ["binance.dlq"]),
        ({"spec.kafka.bootstrapServers": "kafka-kafka-bootstrap.kafka.svc:9093"}, ["binance.dlq"]),
        ({"spec.kafka.bootstrapServers": "elsewhere:9092"}, ["binance.trades", "binance.dlq"]),
        ({"spec.suspend": True}, ["binance.dlq"]),
        ({"spec.symbols": []}, []),
    ],
    ids=["direct", "Strimzi's", "another listener", "other brokers", "suspended", "unreadable"],
)
def test_a_topic_that_another_feed_wants_survives(brokers: Brokers, other: dict[str, Any], left: list[str]) -> None:
    """Whoever provisions it, whatever the brokers are called; of a feed that cannot be read the worst is believed."""

    async def scenario(b: Bench) -> None:
        b.feed({"spec.deadLetter": {"topic": "other.dlq"}, **other}, "other", "u2")
        b.topics.remove(NAME, gone(b, DELETE))
        await b.settled()
        assert brokers.deleted == [left]

    run(scenario)


def test_a_feed_that_is_made_again_keeps_its_topics(brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the brokers are away the feed comes back: the next attempt to delete its topics deletes none."""
    monkeypatch.setattr(direct, "_REMOVAL_RETRY_S", 0.2)

    async def scenario(b: Bench) -> None:
        brokers.answer = Unavailable("no Kafka broker answers")
        b.topics.remove(NAME, gone(b, DELETE))
        assert await asyncio.to_thread(brokers.called.wait, 10)
        b.feed(DELETE, uid="u2")
        brokers.answer = topics.Outcome()
        await b.settled()
        assert brokers.deleted[0] == ["binance.trades", "binance.dlq"]
        assert brokers.deleted[-1] == []

    run(scenario)


def test_a_feed_that_goes_amid_a_question_leaves_nothing(brokers: Brokers) -> None:
    """Its topics are deleted after they were made, not before, and its answer is not kept."""

    async def scenario(b: Bench) -> None:
        brokers.open.clear()
        body = b.feed(DELETE)
        b.need(body)
        assert await asyncio.to_thread(brokers.called.wait, 10)
        b.store.drop(body)
        b.topics.remove(NAME, body)
        assert brokers.deleted == []
        brokers.open.set()
        await b.settled()
        assert brokers.deleted == [["binance.trades", "binance.dlq"]]
        assert b.store.direct == {}
        assert b.topics._tasks == {}

    run(scenario)


def test_without_direct_topics_nothing_is_asked(brokers: Brokers) -> None:
    """A feed whose topics Strimzi makes, or that needs none, forgets what the brokers said."""

    async def scenario(b: Bench) -> None:
        b.need(b.feed())
        await b.settled()
        assert b.need(b.feed({"spec.kafka.topics.provisioner": "strimzi"})) is None
        assert b.store.direct == {}
        stdout = {"spec.kafka.enabled": False, "spec.sinks": [{"name": "out", "type": "stdout"}]}
        assert b.need(b.feed(stdout)) is None
        assert len(brokers.asked) == 1

    run(scenario)


@pytest.mark.parametrize(
    ("brokers", "names"),
    [
        ("kafka-kafka-bootstrap.kafka:9092", {"kafka-kafka-bootstrap.kafka"}),
        ("kafka-kafka-bootstrap.kafka.svc:9093", {"kafka-kafka-bootstrap.kafka"}),
        ("kafka-kafka-bootstrap.kafka.svc.cluster.local:9092", {"kafka-kafka-bootstrap.kafka"}),
        ("kafka:9092", {"kafka.md"}),
        ("a.example.com:9092, b.example.com:9092", {"a.example.com", "b.example.com"}),
    ],
)
def test_one_cluster_has_many_names(brokers: str, names: set[str]) -> None:
    """Ports, a Service's domain and the order of brokers make no other cluster."""
    assert hosts(brokers, "md") == names
