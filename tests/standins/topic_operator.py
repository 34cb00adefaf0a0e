"""Plays Strimzi's Topic Operator on the KafkaTopics of one namespace, with topics that exist in memory only.

True to life: which label is needed, the finalizer, the conditions and their words, that the oldest of two resources
for one topic wins *and that deleting the other one, if it ever got the finalizer, deletes the topic all the same*,
that a paused one is deleted like any other, that a full pass comes every `pass_s`. Not so: no batches, no
configuration is refused. `Broker.on_change` is the place to create the topics in a real broker.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from standins.api import CONFLICT, NOT_FOUND, Api, ApiError, Key, Mirror, Object, key_of, timestamp
from standins.standin import StandIn, control

FINALIZER = "strimzi.io/topic-operator"
CLUSTER = "strimzi.io/cluster"
_MANAGED, _PAUSED = "strimzi.io/managed", "strimzi.io/pause-reconciliation"
_GROUP = "/apis/kafka.strimzi.io"

_log = logging.getLogger("standins.topic_operator")


@dataclass(slots=True)
class Topic:
    """A topic of the pretended broker; a topic that was deleted and created again has another id."""

    partitions: int
    replicas: int
    config: dict[str, str] = field(default_factory=dict)
    data: bool = False
    id: str = field(default_factory=lambda: urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))


@dataclass(slots=True)
class Broker:
    """The topics that exist; `on_change(name, topic)` hears of every change, None for a deleted topic."""

    topics: dict[str, Topic] = field(default_factory=dict)
    problem: str | None = None
    on_change: Callable[[str, Topic | None], None] = lambda _name, _topic: None

    def create(self, name: str, topic: Topic) -> None:
        """Add or change a topic."""
        self.topics[name] = topic
        self.on_change(name, topic)

    def delete(self, name: str) -> None:
        """Delete a topic and its data; one that is gone is fine."""
        if self.topics.pop(name, None) is not None:
            self.on_change(name, None)


class Refusal(Exception):
    """What makes a KafkaTopic not Ready."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TopicOperator(StandIn):
    """Reconciles the KafkaTopics of `namespace` that are labelled with `cluster`; with any cluster's name when None."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str = "kafka",
        cluster: str | None = None,
        delay_s: float = 0.2,
        pass_s: float = 120.0,
        deletes: bool = True,
    ) -> None:
        """Take s from a change to its status; `deletes` False is a broker with delete.topic.enable=false."""
        super().__init__(api)
        self.broker = Broker()
        self.namespace, self.cluster, self.delay_s, self.pass_s, self.deletes = (
            namespace,
            cluster,
            delay_s,
            pass_s,
            deletes,
        )
        self._version = "v1"
        self.mirrors()  # empty ones: it may be commanded before it starts

    # -- what tests command ------------------------------------------------------------------------------------------

    @property
    def topics(self) -> dict[str, Topic]:
        """Return a copy of what exists."""
        return dict(self.broker.topics)

    @control
    def create_topic(self, name: str, topic: Topic) -> None:
        """Have a topic exist that nobody asked for here."""
        self.broker.create(name, topic)
        self._look_at_all()

    @control
    def fill(self, name: str) -> None:
        """Put data into a topic; it is gone when the topic has been deleted or created anew."""
        self.broker.topics[name].data = True

    @control
    def break_broker(self, message: str = "Call(callName=describeTopics) timed out at 1 after 1 attempt(s)") -> None:
        """Let every call to the broker fail: KafkaError, until `mend_broker`."""
        self.broker.problem = message
        self._look_at_all()

    @control
    def mend_broker(self) -> None:
        """Let the broker answer again."""
        self.broker.problem = None
        self._look_at_all()

    # -- the reconciler ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._version = await self._served()
        await super().run()

    def mirrors(self) -> list[Mirror]:
        self._path = f"{_GROUP}/{self._version}/namespaces/{self.namespace}/kafkatopics"
        self._resources = Mirror(self.api, self._path, self._changed)
        return [self._resources]

    async def aside(self) -> None:
        """Look at everything now and then, as the real one does."""
        while True:
            await asyncio.sleep(self.pass_s)
            self._look_at_all()

    async def reconcile(self, key: Key) -> float | None:
        resource = self._resources.objects.get(key)
        if resource is None or not self._selected(resource):
            return None
        try:
            if "deletionTimestamp" in resource["metadata"]:
                await self._release(resource)
            else:
                await self._keep(resource)
        except Refusal as refusal:
            condition = {"type": "Ready", "status": "False", "reason": refusal.reason, "message": str(refusal)}
            await self._say(resource, condition, keep=True)
        except ApiError as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise
        return None

    async def _release(self, resource: Object) -> None:
        """Delete a managed resource's topic, then let the resource go."""
        if _is_managed(resource):
            _check_name(resource)
            self._check_broker()
            if not self.deletes and topic_name(resource) in self.broker.topics:
                raise Refusal("KafkaError", "Topic deletion is disabled.")
            self.broker.delete(topic_name(resource))
            _log.info("topic %s: deleted with its data", topic_name(resource))
        await self._finalize(resource, wanted=False)

    async def _keep(self, resource: Object) -> None:
        if not _is_managed(resource):
            await self._finalize(resource, wanted=True)
            await self._say(resource, {"type": "Unmanaged", "status": "True"})
            return
        _check_name(resource)
        self._check_oldest(resource)
        if _annotation(resource, _PAUSED) == "true":
            await self._say(resource, {"type": "ReconciliationPaused", "status": "True"}, keep=True)
            return
        await self._finalize(resource, wanted=True)
        self._check_broker()
        topic = self._bring_about(resource)
        await self._say(resource, {"type": "Ready", "status": "True"}, topic)

    def _bring_about(self, resource: Object) -> Topic:
        """Create or grow the topic, set its configuration; keys that are not asked for are removed."""
        spec, name = resource.get("spec") or {}, topic_name(resource)
        config = {key: _text(value) for key, value in (spec.get("config") or {}).items()}
        topic = self.broker.topics.get(name)
        if topic is None:
            topic = Topic(spec.get("partitions", 1), spec.get("replicas", 1), config)
            self.broker.create(name, topic)
            return topic
        if config != topic.config or spec.get("partitions", 1) > topic.partitions:
            topic.config = config
            topic.partitions = max(topic.partitions, spec.get("partitions", 1))
            self.broker.create(name, topic)
        if spec.get("partitions", topic.partitions) < topic.partitions:
            raise Refusal("NotSupported", "Decreasing partitions not supported")
        if spec.get("replicas", topic.replicas) != topic.replicas:
            partitions = ", ".join(str(number) for number in range(topic.partitions))
            raise Refusal(
                "NotSupported", f"Replication factor change not supported, but required for partitions [{partitions}]"
            )
        return topic

    def _check_broker(self) -> None:
        if self.broker.problem is not None:
            raise Refusal("KafkaError", self.broker.problem)

    def _check_oldest(self, resource: Object) -> None:
        """Refuse all but the oldest of the resources for one topic; of two of one second, the one that is Ready."""
        others = [
            other
            for other in self._resources.objects.values()
            if self._selected(other) and _is_managed(other) and topic_name(other) == topic_name(resource)
        ]
        oldest = min(others, key=_age, default=resource)
        ties = [other for other in others if other is not oldest and _created(other) == _created(oldest)]
        if key_of(oldest) != key_of(resource) or (ties and not _is_ready(resource)):
            where = oldest["metadata"]
            ref = f"Ref{{namespace='{where['namespace']}', name='{where['name']}'}}"
            raise Refusal("ResourceConflict", f"Managed by {ref}")

    async def _finalize(self, resource: Object, *, wanted: bool) -> None:
        before = resource["metadata"].get("finalizers", [])
        after = [name for name in before if name != FINALIZER] + ([FINALIZER] if wanted else [])
        if set(after) != set(before):
            version = resource["metadata"]["resourceVersion"]  # a list is replaced: not if somebody else changed it
            patch = {"metadata": {"finalizers": after or None, "resourceVersion": version}}
            await self.api.merge(f"{self._path}/{resource['metadata']['name']}", patch)

    async def _say(
        self, resource: Object, condition: Object, topic: Topic | None = None, *, keep: bool = False
    ) -> None:
        """Write the status if it says anything new; `keep` the topic's name and id that it has, else set or clear."""
        metadata, old = resource["metadata"], resource.get("status") or {}
        new: Object = {"observedGeneration": metadata["generation"], "conditions": [condition]}
        if topic is not None:
            new |= {"topicName": topic_name(resource), "topicId": topic.id}
        elif keep:
            new |= {name: old[name] for name in ("topicName", "topicId") if name in old}
        if new == {**old, "conditions": [_untimed(each) for each in old.get("conditions", [])]}:
            return
        new["conditions"] = [{**condition, "lastTransitionTime": timestamp()}]
        _log.info("topic %s: %s", topic_name(resource), condition.get("reason") or condition["type"])
        gone = {name: None for name in ("topicName", "topicId") if name in old and name not in new}
        await self.api.merge(f"{self._path}/{metadata['name']}/status", {"status": {**new, **gone}})

    # -- what changes ------------------------------------------------------------------------------------------------

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or old is None:
            self._look_at_rivals(new or old or {})
        if new is not None:
            self.queue.add(key_of(new), self.delay_s)

    def _look_at_rivals(self, resource: Object) -> None:
        for key, other in self._resources.objects.items():
            if topic_name(other) == topic_name(resource):
                self.queue.add(key, self.delay_s)

    def _look_at_all(self) -> None:
        for key in self._resources.objects:
            self.queue.add(key)

    def _selected(self, resource: Object) -> bool:
        found = (resource["metadata"].get("labels") or {}).get(CLUSTER)
        return found is not None and self.cluster in (None, found)

    async def _served(self) -> str:
        """Return the newest version of the API that is served, waiting for one."""
        while True:
            try:
                return str((await self.api.get(_GROUP))["preferredVersion"]["version"])
            except (ApiError, OSError) as error:
                _log.debug("%s: %s", _GROUP, error)
            await asyncio.sleep(0.5)


def topic_name(resource: Object) -> str:
    """Return the name of the topic that a KafkaTopic stands for."""
    return str((resource.get("spec") or {}).get("topicName") or resource["metadata"]["name"])


def _check_name(resource: Object) -> None:
    if (resource.get("status") or {}).get("topicName", topic_name(resource)) != topic_name(resource):
        raise Refusal("NotSupported", "Changing spec.topicName is not supported")


def _annotation(resource: Object, name: str) -> str | None:
    found: str | None = (resource["metadata"].get("annotations") or {}).get(name)
    return found


def _is_managed(resource: Object) -> bool:
    return _annotation(resource, _MANAGED) != "false"


def _created(resource: Object) -> str:
    return str(resource["metadata"]["creationTimestamp"])


def _age(resource: Object) -> tuple[str, bool]:
    return _created(resource), not _is_ready(resource)


def _is_ready(resource: Object) -> bool:
    conditions = (resource.get("status") or {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _untimed(condition: Object) -> Object:
    return {name: value for name, value in condition.items() if name != "lastTransitionTime"}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
