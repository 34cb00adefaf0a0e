"""Topics without Strimzi: made through the Kafka admin API, beside the reconciliation, which never waits for a broker.

What does not live here: talking to the brokers (marketfeed.topics) and what the answers mean to a feed (status).
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import random
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path

from marketfeed import topics
from marketfeed.errors import ConfigurationError, MarketfeedError
from marketfeed.logs import logger
from marketfeed.policies import backoff_s
from marketfeed.settings import KafkaSettings, Secret, Topic
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.errors import presentable
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import APPROVE, SECRET, Manifest, annotations_of, digest
from marketfeed_operator.observed import DirectTopics
from marketfeed_operator.plan import Defaults, Plan, SecretFile, SecretUse, plan
from marketfeed_operator.spec import parse
from marketfeed_operator.store import FeedName, Store
from marketfeed_operator.wording import approve_command

_GOOD_FOR_S = 300.0
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 15.0
_REMOVAL_RETRY_S = 15.0
_REMOVALS = 20  # attempts
_PROVISIONER = "direct"
_SERVICE_DOMAIN = re.compile(r"\.svc(\..*)?$")

_log = logger("direct")


class Topics:
    """The feeds' direct topics: what the brokers said last stands in the store, and `told` says when they said it."""

    def __init__(self, cluster: Cluster, store: Store, defaults: Defaults, told: Callable[[FeedName], None]) -> None:
        self._cluster = cluster
        self._store = store
        self._defaults = defaults
        self._told = told
        # All by the feed's uid.
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[str, str] = {}  # what the last answer was an answer to
        self._due: dict[str, float] = {}  # when it is too old, monotonic, s
        self._failures: dict[str, int] = {}  # in a row

    def need(self, name: FeedName, body: Manifest, feed: MarketFeed, made: Plan) -> float | None:
        """See to it that the feed's topics are there; ask the brokers when the last answer is too old or to less.

        Returns after how long to look again, s; None while they are being asked, and where there is nothing to ask.
        """
        uid = str(body["metadata"]["uid"])
        if feed.spec.kafka.topics.provisioner != _PROVISIONER or not made.topics:
            self._forget(uid)
            return None
        if uid in self._tasks:
            return None
        approved = annotations_of(body).get(APPROVE)
        wish, left_s = self._wish(name, made, approved), self._due.get(uid, 0.0) - time.monotonic()
        if self._asked.get(uid) == wish and left_s > 0:
            return left_s
        self._asked[uid] = wish
        self._start(name, uid, partial(self._ask, name, uid, made, approved))
        return None

    def remove(self, name: FeedName, body: Manifest) -> None:
        """Delete the topics of a feed that is gone, but for those that another feed wants."""
        uid = str(body["metadata"]["uid"])
        self._forget(uid)
        try:
            feed = parse(body)
            if feed.spec.kafka.topics.provisioner != _PROVISIONER or feed.spec.deletion_policy != "Delete":
                return
            made = plan(feed, self._defaults)
        except ConfigurationError as error:
            _log.warning("topics_kept", feed=str(name), reason=presentable(str(error)))
            return
        if made.topics:
            self._start(name, uid, partial(self._remove, name, made))

    async def stop(self) -> None:
        """Break everything off."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, uid: str) -> None:
        for remembered in (self._store.direct, self._asked, self._due, self._failures):
            remembered.pop(uid, None)

    def _wish(self, name: FeedName, made: Plan, approved: str | None) -> str:
        """Return a hash of all that the brokers' answer depends on: a change of it is worth asking anew."""
        secrets = [self._store.secrets.get((name.namespace, use.name)) for use in _uses(made)]
        return digest([list(map(dataclasses.astuple, made.topics)), _kafka(made).to_env(), secrets, approved])

    def _start(self, name: FeedName, uid: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` once what is being done for the feed has ended, and say so afterwards."""
        before = self._tasks.get(uid)

        async def run() -> None:
            if before is not None:
                await asyncio.wait([before])
            await work()

        def ended(task: asyncio.Task[None]) -> None:
            if self._tasks.get(uid) is task:
                del self._tasks[uid]
            if not task.cancelled():
                self._told(name)

        task = self._tasks[uid] = asyncio.create_task(run())
        task.add_done_callback(ended)

    async def _ask(self, name: FeedName, uid: str, made: Plan, approved: str | None) -> None:
        """Ask the brokers, and keep what they say."""
        found = await self._answer(name, made, approved)
        if self._store.named(uid) is None:
            return  # deleted meanwhile
        failed = not found.names and not found.held
        self._failures[uid] = failures = self._failures.get(uid, 0) + 1 if failed else 0
        retry_s = backoff_s(failures - 1, _FIRST_RETRY_S, _LONGEST_RETRY_S, random.random())  # noqa: S311 - no secret
        self._due[uid] = time.monotonic() + (retry_s if failed else _GOOD_FOR_S)
        self._store.direct[uid] = found

    async def _answer(self, name: FeedName, made: Plan, approved: str | None) -> DirectTopics:
        try:
            with tempfile.TemporaryDirectory(prefix="marketfeed-") as folder:
                kafka = await self._settings(name.namespace, made, Path(folder))
                outcome = await asyncio.to_thread(
                    topics.reconcile, kafka, made.topics, shorten=approved == approval(made.topics)
                )
        except MarketfeedError as error:
            return DirectTopics(at=time.time(), problem=presentable(str(error)))
        except Exception as error:  # noqa: BLE001 - a bug of ours must be told too, and tried again
            _log.error("failed", feed=str(name), error=error)
            return DirectTopics(at=time.time(), problem="the operator failed over it: its log says how")
        if outcome.created or outcome.grown or outcome.retained:
            _log.info("topics_made", feed=str(name), **dataclasses.asdict(outcome))
        held = frozenset(outcome.held)
        names = frozenset(topic.name for topic in made.topics) - held
        problem = _held(name, made, outcome.held) if held else None
        return DirectTopics(at=time.time(), names=names, held=held, problem=problem)

    async def _remove(self, name: FeedName, made: Plan) -> None:
        """Delete what no other feed wants, which is looked at before each attempt: the feed may be made again."""
        for _ in range(_REMOVALS):
            doomed = await self._doomed(name, made)
            try:
                with tempfile.TemporaryDirectory(prefix="marketfeed-") as folder:
                    kafka = await self._settings(name.namespace, made, Path(folder))
                    gone = await asyncio.to_thread(topics.delete, kafka, doomed)
            except MarketfeedError as error:
                _log.warning("topics_not_deleted", feed=str(name), topics=doomed, reason=presentable(str(error)))
                await asyncio.sleep(_REMOVAL_RETRY_S)
            else:
                kept = [topic.name for topic in made.topics if topic.name not in doomed]
                _log.info("topics_deleted", feed=str(name), topics=gone, kept=kept)
                return

    async def _doomed(self, name: FeedName, made: Plan) -> list[str]:
        """Return the topics that no feed on the same brokers wants; a feed that cannot be read may want any."""
        brokers = hosts(_kafka(made).bootstrap_servers, name.namespace)
        kept: set[str] = set()
        for other in self._store.feeds():
            await asyncio.sleep(0)  # many feeds take a while to read
            body = self._store.feed(other)
            if body is None:
                continue
            try:
                spec = parse(body).spec
            except ConfigurationError as error:
                _log.warning("topics_kept", feed=str(name), reason=presentable(str(error)))
                return []
            servers = spec.kafka.bootstrap_servers or self._defaults.bootstrap_servers
            if spec.kafka.enabled and brokers & hosts(servers, other.namespace):
                kept |= {*spec.record_topics, spec.dead_letter_topic}
        return [topic.name for topic in made.topics if topic.name not in kept]

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
                kafka = dataclasses.replace(kafka, sasl_username=_text(value, use))
            elif use.variable == KafkaSettings.variable("sasl_password"):
                kafka = dataclasses.replace(kafka, sasl_password=_text(value, use))
        return kafka

    async def _value(self, namespace: str, use: SecretUse) -> bytes:
        found = await self._cluster.get(SECRET, namespace, use.name)
        text = ((found or {}).get("data") or {}).get(use.key)
        if text is None:
            missing = f"key {use.key} of Secret {use.name}" if found is not None else f"Secret {use.name}"
            raise ConfigurationError(f"{missing} is missing: the brokers cannot be reached without it")
        return base64.b64decode(text)


def hosts(brokers: str, namespace: str) -> frozenset[str]:
    """Return the hosts of brokers as a namespace names them: one cluster has many ports, and Services many names."""
    names = (server.strip().rpartition(":")[0] for server in brokers.split(","))
    plain = (_SERVICE_DOMAIN.sub("", name) for name in names)
    return frozenset(name if "." in name else f"{name}.{namespace}" for name in plain)


def approval(wanted: Iterable[Topic]) -> str:
    """Return the hash that approves that these topics keep their records for a shorter time than they do."""
    return digest(sorted([topic.name, topic.retention_ms] for topic in wanted))


def _held(name: FeedName, made: Plan, held: Iterable[str]) -> str:
    return (
        f"topic {', '.join(held)} keeps its records for longer than the feed asks for; Kafka would delete the older "
        f"ones: {approve_command(name.name, name.namespace, approval(made.topics))}"
    )


def _text(value: bytes, use: SecretUse) -> Secret:
    try:
        return Secret(value.decode())
    except UnicodeDecodeError:
        # Not raised from that error, which holds the value.
        raise ConfigurationError(f"key {use.key} of Secret {use.name} is not text in UTF-8") from None


def _kafka(made: Plan) -> KafkaSettings:
    kafka = made.shards[0].settings.kafka
    if kafka is None:
        raise ConfigurationError(f"{made.feed} has no brokers")
    return kafka


def _uses(made: Plan) -> list[SecretUse]:
    return list(made.shards[0].secrets)
