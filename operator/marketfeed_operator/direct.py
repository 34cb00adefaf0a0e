"""Topics without Strimzi: made through the Kafka admin API, beside the reconciliation, which never waits for a broker.

What does not live here: talking to the brokers (marketfeed.topics) and what the answers mean to a feed (status).
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from marketfeed import topics
from marketfeed.errors import ConfigurationError, MarketfeedError
from marketfeed.logs import logger
from marketfeed.settings import KafkaSettings, Secret, Topic
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.errors import presentable
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import APPROVE, SECRET, Manifest, annotations_of, digest
from marketfeed_operator.observed import DirectTopics
from marketfeed_operator.plan import Defaults, Plan, SecretFile, SecretUse, plan
from marketfeed_operator.spec import parse
from marketfeed_operator.store import FeedName, Store

_GOOD_FOR_S = 300.0
_TRY_AGAIN_S = 15.0
_REMOVALS = 20  # attempts
_PROVISIONER = "direct"

_log = logger("direct")


class Topics:
    """The feeds' direct topics: what the brokers said last stands in the store, and `told` says of news."""

    def __init__(self, cluster: Cluster, store: Store, defaults: Defaults, told: Callable[[FeedName], None]) -> None:
        self._cluster = cluster
        self._store = store
        self._defaults = defaults
        self._told = told
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by the feed's uid
        self._asked: dict[str, str] = {}  # by the feed's uid: what the last answer was an answer to

    def need(self, name: FeedName, body: Manifest, feed: MarketFeed, made: Plan) -> None:
        """See to it that the feed's topics are there; ask the brokers when the last answer is too old or to less."""
        uid = str(body["metadata"]["uid"])
        if feed.spec.kafka.topics.provisioner != _PROVISIONER or not made.topics:
            self._store.direct.pop(uid, None)
            return
        wish = digest([[dataclasses.astuple(topic) for topic in made.topics], annotations_of(body).get(APPROVE)])
        if uid in self._tasks or (self._asked.get(uid) == wish and not self._due(uid)):
            return
        self._asked[uid] = wish
        self._start(uid, self._ask(name, uid, made, approved=annotations_of(body).get(APPROVE)))

    def remove(self, name: FeedName, body: Manifest) -> None:
        """Delete the topics of a feed that is gone, but for those that another feed wants."""
        uid = str(body["metadata"]["uid"])
        self._asked.pop(uid, None)
        try:
            feed = parse(body)
            made = plan(feed, self._defaults)
        except ConfigurationError:
            return  # it never had topics
        if feed.spec.kafka.topics.provisioner == _PROVISIONER and feed.spec.deletion_policy == "Delete":
            self._start(uid, self._remove(name, made))

    async def stop(self) -> None:
        """Break everything off."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _due(self, uid: str) -> bool:
        last = self._store.direct.get(uid)
        patience_s = _GOOD_FOR_S if last is not None and last.problem is None else _TRY_AGAIN_S
        return last is None or time.time() - last.at >= patience_s

    def _start(self, uid: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[uid] = task
        task.add_done_callback(lambda _: self._tasks.pop(uid, None))

    async def _ask(self, name: FeedName, uid: str, made: Plan, approved: str | None) -> None:
        """Ask the brokers, and keep what they say."""
        before = self._store.direct.get(uid)
        found = await self._answer(name, made, approved)
        self._store.direct[uid] = found
        if before is None or (before.names, before.problem) != (found.names, found.problem):
            self._told(name)

    async def _answer(self, name: FeedName, made: Plan, approved: str | None) -> DirectTopics:
        try:
            with tempfile.TemporaryDirectory(prefix="marketfeed-") as folder:
                kafka = await self._settings(name.namespace, made, Path(folder))
                outcome = await asyncio.to_thread(
                    topics.reconcile, kafka, made.topics, shorten=approved == approval(made.topics)
                )
        except MarketfeedError as error:
            return DirectTopics(at=time.time(), problem=presentable(str(error)))
        if outcome != topics.Outcome():
            _log.info("topics_made", feed=str(name), **dataclasses.asdict(outcome))
        names = frozenset(topic.name for topic in made.topics)
        if not outcome.held:
            return DirectTopics(at=time.time(), names=names)
        return DirectTopics(at=time.time(), names=names - set(outcome.held), problem=_held(name, made, outcome.held))

    async def _remove(self, name: FeedName, made: Plan) -> None:
        doomed = [topic.name for topic in made.topics if topic.name not in self._wanted_by_others(made)]
        for _ in range(_REMOVALS):
            try:
                with tempfile.TemporaryDirectory(prefix="marketfeed-") as folder:
                    kafka = await self._settings(name.namespace, made, Path(folder))
                    gone = await asyncio.to_thread(topics.delete, kafka, doomed)
            except MarketfeedError as error:
                _log.warning("topics_not_deleted", feed=str(name), topics=doomed, reason=presentable(str(error)))
                await asyncio.sleep(_TRY_AGAIN_S)
            else:
                _log.info("topics_deleted", feed=str(name), topics=gone)
                return

    def _wanted_by_others(self, made: Plan) -> set[str]:
        """Return the topics of other feeds on the same brokers."""
        brokers = _kafka(made).bootstrap_servers
        found: set[str] = set()
        for name in self._store.feeds():
            body = self._store.feed(name)
            try:
                other = plan(parse(body), self._defaults)
            except ConfigurationError:
                continue
            if other.topics and _kafka(other).bootstrap_servers == brokers:
                found |= {topic.name for topic in other.topics}
        return found

    async def _settings(self, namespace: str, made: Plan, folder: Path) -> KafkaSettings:
        """Return how to reach the brokers, with what their secrets hold. Raises ConfigurationError, ApiError."""
        kafka = _kafka(made)
        for use in _uses(made):
            value = await self._value(namespace, use)
            if isinstance(use, SecretFile):
                file = folder / "ca.crt"
                file.write_bytes(value)
                kafka = dataclasses.replace(kafka, ca_file=str(file))
            elif use.variable == KafkaSettings.variable("sasl_username"):
                kafka = dataclasses.replace(kafka, sasl_username=Secret(value.decode()))
            elif use.variable == KafkaSettings.variable("sasl_password"):
                kafka = dataclasses.replace(kafka, sasl_password=Secret(value.decode()))
        return kafka

    async def _value(self, namespace: str, use: SecretUse) -> bytes:
        found = await self._cluster.get(SECRET, namespace, use.name)
        text = ((found or {}).get("data") or {}).get(use.key)
        if text is None:
            missing = f"key {use.key} of Secret {use.name}" if found is not None else f"Secret {use.name}"
            raise ConfigurationError(f"{missing} is missing: the brokers cannot be reached without it")
        return base64.b64decode(text)


def approval(wanted: Iterable[Topic]) -> str:
    """Return the hash that approves that these topics keep their records for a shorter time than they do."""
    return digest(sorted([topic.name, topic.retention_ms] for topic in wanted))


def _held(name: FeedName, made: Plan, held: Iterable[str]) -> str:
    return (
        f"topic {', '.join(held)} keeps its records for longer than the feed asks for; Kafka would delete the older "
        f"ones: kubectl annotate marketfeed {name.name} -n {name.namespace} {APPROVE}={approval(made.topics)} "
        "--overwrite"
    )


def _kafka(made: Plan) -> KafkaSettings:
    kafka = made.shards[0].settings.kafka
    if kafka is None:
        raise ConfigurationError(f"{made.feed} has no brokers")
    return kafka


def _uses(made: Plan) -> list[SecretUse]:
    return list(made.shards[0].secrets)
