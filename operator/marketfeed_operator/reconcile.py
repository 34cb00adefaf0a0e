"""One reconciliation for every cause: from what is there and what is wanted to what must be written.

This is the shell that calls the pure parts in order and carries out what they decide. It keeps nothing between two
calls but what the store holds.
What does not live here: any decision (plan, handover, render, changes, diff, deletion, spark, status).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from marketfeed.errors import ConfigurationError
from marketfeed.exchanges import venue
from marketfeed.logs import logger
from marketfeed_operator import changes, deletion, diff, handover, spark, status, waking
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.errors import Conflict, Forbidden, Invalid, NotFound, Terminating
from marketfeed_operator.direct import Topics
from marketfeed_operator.metrics import OperatorMetrics
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import (
    APPROVE,
    COMPONENT,
    COMPONENT_INGESTOR,
    CONFIG_MAP,
    KINDS,
    MARKETFEED,
    NUDGE,
    PAUSED,
    POD,
    SHARD_LABEL,
    SPARK_APPLICATION,
    STREAMS,
    Key,
    Kind,
    Manifest,
    annotations_of,
    claims_of,
    key_of,
    kind_of,
    labels_of,
)
from marketfeed_operator.observed import Observed
from marketfeed_operator.outcome import Outcome
from marketfeed_operator.plan import Defaults, Plan, plan
from marketfeed_operator.render import Installation, Owner, render
from marketfeed_operator.secret_versions import SecretVersions
from marketfeed_operator.spec import parse
from marketfeed_operator.store import FeedName, Store

_HAND_OVER_LOOK_S = 1.0
_RELEASE_LOOK_S = 2.0
_REFUSED_LOOK_S = 30.0  # whatever refused a write, a quota or a webhook, does not say when it would take it

_log = logger("reconcile")


@dataclass(frozen=True, slots=True)
class Again:
    """What a reconciliation asks for: to look again after so long, and to sample the feed's pods soon."""

    after_s: float | None = None
    sample: bool = False


@dataclass(frozen=True, slots=True)
class Tools:
    """What every reconciliation works with."""

    cluster: Cluster
    store: Store
    secrets: SecretVersions
    direct: Topics
    metrics: OperatorMetrics
    installation: Installation
    defaults: Defaults
    status_s: float
    patience_s: float = spark.PATIENCE_S
    answer_s: float = deletion.ANSWER_S
    wake: Callable[[FeedName], None] = lambda _: None  # lets another feed be looked at
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


async def reconcile(name: FeedName, tools: Tools) -> Again:
    """Bring what a feed needs in line with the feed. Raises ApiError for what may go better the next time."""
    body = tools.store.feed(name)
    if body is None or body["metadata"].get("deletionTimestamp"):
        return Again()
    return await _Pass(name, body, tools).run()


class _Pass:
    """One reconciliation of one feed."""

    def __init__(self, name: FeedName, body: Manifest, tools: Tools) -> None:
        self._name = name
        self._body = body
        self._tools = tools
        self._uid = str(body["metadata"]["uid"])
        self._failures: dict[Key, str] = {}

    async def run(self) -> Again:
        try:
            feed = parse(self._body, f"MarketFeed {self._name}")
            made = plan(feed, self._tools.defaults)
        except ConfigurationError as error:
            await self._report(self._observe(()), Outcome(problem=str(error)))
            return Again()
        if annotations_of(self._body).get(PAUSED) == "true":
            await self._report(self._observe(made.secret_names), Outcome(feed=feed, plan=made, paused=True))
            return Again()
        return await self._carry_out(feed, made)

    async def _carry_out(self, feed: MarketFeed, made: Plan) -> Again:
        await self._tools.secrets.need(self._name, made.secret_names)
        direct_s = self._tools.direct.need(self._name, self._body, feed, made)
        observed = self._observe(made.secret_names)
        moves = _moves(made, observed, self._uid)
        wanted, verdict = self._render(feed, made, observed, moves.holdings)
        observed = await self._complete(observed, wanted)
        policy = feed.spec.deletion_policy
        differences = changes.classify(wanted, observed, self._uid, policy)
        approved = annotations_of(self._body).get(APPROVE)
        allowed, held_back = changes.hold_back(wanted, observed, differences, approved)
        self._failures.update(diff.refusals(allowed, observed, self._uid, self._name.name))
        observed = await self._reclaim(observed, allowed)
        await self._tie_drivers(observed)
        for write in diff.writes(allowed, observed, self._uid):
            await self._write(write, known=write.key in observed.children)
        listening = await self._wake_pods(made)
        kept = {key_of(manifest) for manifest in (*wanted, *allowed)}
        releasing = await self._release(kept, {item.key for item in held_back}, policy)
        outcome = Outcome(
            feed=feed,
            plan=made,
            desired=allowed,
            hand_over=moves,
            held_back=held_back,
            approval=changes.approval_hash(held_back),
            analytics=verdict,
            releasing=releasing,
        )
        observed = self._observe(made.secret_names, observed.children)
        await self._report(observed, outcome)
        figures_s = status.figures_due_s(observed, outcome, self._tools.now(), self._tools.status_s)
        return _again(outcome, figures_s, direct_s, waking.AGAIN_S if listening else None, refused=bool(self._failures))

    def _observe(self, secrets: Iterable[str], adopted: Mapping[Key, Manifest] | None = None) -> Observed:
        """Gather what the store knows; `adopted` are objects of the right names that it did not know before."""
        known = self._tools.store
        others = [known.get(key) or manifest for key, manifest in (adopted or {}).items()]
        observed = known.observe(self._name, self._body, secrets, others)
        return dataclasses.replace(observed, failures=dict(self._failures))

    async def _complete(self, observed: Observed, wanted: Iterable[Manifest]) -> Observed:
        """Add what bears a name of ours and no label of ours: it is there to be adopted, or in the way."""
        found = {}
        for manifest in wanted:
            key = key_of(manifest)
            if key in observed.children:
                continue
            live = self._tools.store.get(key) or await self._tools.cluster.get(
                kind_of(manifest), key.namespace, key.name
            )
            if live is not None:
                found[key] = live
        return dataclasses.replace(observed, children={**observed.children, **found})

    def _render(
        self, feed: MarketFeed, made: Plan, observed: Observed, holdings: handover.Holdings
    ) -> tuple[tuple[Manifest, ...], spark.Verdict | None]:
        """Return the wanted objects, with the streaming job as its supervisor wants it."""
        owner = Owner(name=self._name.name, namespace=self._name.namespace, uid=self._uid)

        def rendered(nudge: str | None) -> tuple[Manifest, ...]:
            return render(
                made,
                feed,
                owner,
                self._tools.installation,
                observed.served,
                holdings=holdings,
                secrets=observed.secrets,
                nudge=nudge,
            )

        if made.analytics is None:
            return rendered(None), None
        key = Key(SPARK_APPLICATION.group, SPARK_APPLICATION.kind, self._name.namespace, made.analytics.name)
        live = observed.children.get(key)
        wanted = rendered(_nudge(live))
        job = next((manifest for manifest in wanted if key_of(manifest) == key), None)
        tools = self._tools
        verdict = spark.supervise(job, live, observed.pods, observed.served, tools.now(), patience_s=tools.patience_s)
        return (wanted if verdict.nudge == _nudge(live) else rendered(verdict.nudge)), verdict

    async def _reclaim(self, observed: Observed, allowed: Iterable[Manifest]) -> Observed:
        """Take back the topics that were being let go when the feed came to want them."""
        found = {}
        for key in filter(diff.is_topic_key, map(key_of, allowed)):
            live = observed.children.get(key)
            patch = None if live is None else deletion.reclaim(live)
            if live is not None and patch is not None:
                made = await self._patch(kind_of(live), live, patch)
                found.update({key: made} if made is not None else {})
        return dataclasses.replace(observed, children={**observed.children, **found})

    async def _write(self, write: diff.Write, *, known: bool) -> None:
        """Carry one write out; what the API server refuses for good is noted for the status.

        known: the object was there when it was decided on. Another feed may have made a topic since: then what to do
        about it is decided anew, and said in our words.
        """
        cluster, store = self._tools.cluster, self._tools.store
        key = write.key
        try:
            if isinstance(write, diff.Delete):
                await cluster.delete(KINDS[key.group, key.kind], key.namespace, key.name, uid=write.uid)
                _log.info("deleted", kind=key.kind, namespace=key.namespace, name=key.name)
                return
            made = await cluster.apply(
                write.manifest, kind_of(write.manifest), manager=write.manager, force=write.force
            )
        except Terminating:
            raise  # every other object would be refused alike, and the feed goes with its namespace
        except (Conflict, Forbidden, Invalid, NotFound) as error:
            if isinstance(error, Conflict) and (isinstance(write, diff.Delete) or write.force or not known):
                raise  # somebody wrote at the same moment: the same again, soon
            self._failures[key] = str(error)
            _log.warning("refused", kind=key.kind, namespace=key.namespace, name=key.name, reason=str(error))
        else:
            store.put(made)
            _wake_others(made, self._uid, self._tools)
            self._tools.metrics.children_applied.labels(key.kind, write.cause).inc()
            _log.info("applied", kind=key.kind, namespace=key.namespace, name=key.name, why=write.why)

    async def _tie_drivers(self, observed: Observed) -> None:
        """Let the drivers of a streaming job go with it: this comes before the job may be deleted."""
        for key, job in observed.children.items():
            if (key.group, key.kind) != (SPARK_APPLICATION.group, SPARK_APPLICATION.kind):
                continue
            for pod in observed.pods:
                patch = spark.tie(pod, job)
                if patch is not None:
                    await self._patch(POD, pod, patch)

    async def _wake_pods(self, made: Plan) -> bool:
        """Tell the kubelet of shards whose streams changed; return whether some pod may have to be told again.

        Without this a changed ConfigMap waits for the kubelet's next round, up to a minute and a half: see waking. It
        comes after the API server's answers to all writes, for a kubelet that is told too early mounts the old streams.
        """
        if made.suspended:
            return False
        store, listening = self._tools.store, False
        for pod in store.pods(self._name):
            shard = labels_of(pod).get(SHARD_LABEL)
            if shard is None or labels_of(pod).get(COMPONENT) != COMPONENT_INGESTOR:
                continue
            streams = store.get(Key(CONFIG_MAP.group, CONFIG_MAP.kind, self._name.namespace, shard))
            if streams is None or pod["metadata"].get("deletionTimestamp"):
                continue
            sample = store.samples.get((self._name.namespace, pod["metadata"]["name"]))
            listening |= not waking.is_awake(pod, streams, sample)
            annotation = waking.call(pod, streams, sample, self._tools.now().timestamp())
            if annotation is not None:
                await self._patch(POD, pod, {"metadata": {"annotations": {STREAMS: annotation}}})
        return listening

    async def _patch(self, kind: Kind, manifest: Manifest, patch: Mapping[str, Any]) -> Manifest | None:
        """Patch an object; return it as it is now, None when it is gone."""
        metadata = manifest["metadata"]
        try:
            made = await self._tools.cluster.patch(kind, metadata["namespace"], metadata["name"], patch)
        except NotFound:
            return None
        self._tools.store.put(made)
        return made

    async def _release(self, wanted: set[Key], held_back: set[Key], policy: str) -> tuple[str, ...]:
        """Let topics go that the feed claims and no longer wants."""
        notes = []
        for key, topic in self._tools.store.owned(self._uid).items():
            if diff.is_topic_key(key) and key not in wanted and key not in held_back:
                step = await let_go(topic, self._uid, policy, self._tools)
                notes += [] if step.done else [step.sentence]
        return tuple(notes)

    async def _report(self, observed: Observed, outcome: Outcome) -> None:
        """Write the status where it changed, and the events that go with it."""
        tools, store = self._tools, self._tools.store
        if store.named(self._uid) is not None:  # else it was deleted meanwhile, and is forgotten
            store.failures[self._uid] = dict(self._failures)
        old = self._body.get("status") or {}
        new = status.make(observed, outcome, tools.now(), tools.status_s)
        if new == old:
            return
        try:
            made = await tools.cluster.apply_status(MARKETFEED, self._name.namespace, self._name.name, new)
        except NotFound:
            return  # deleted in the meantime: the watch will say so
        store.put(made)
        for notice in status.transitions(old, new):
            await tools.cluster.event(MARKETFEED, self._name.namespace, self._name.name, self._uid, notice)


async def let_go(topic: Manifest, uid: str, policy: str, tools: Tools) -> deletion.Step:
    """Take the next step of releasing a topic from a feed. Raises Conflict when it is another by now: judge it anew."""
    step = deletion.release(topic, uid, policy, tools.now(), tools.answer_s)
    key = key_of(topic)
    if step.patch is None and not step.delete:
        return step
    _log.info("releasing", topic=key.name, namespace=key.namespace, step=step.action, why=step.sentence)
    try:
        made = await take(step, topic, tools.cluster)
    except NotFound:
        tools.store.drop(topic)
        return step
    if made is not None:
        tools.store.put(made)
        _wake_others(made, uid, tools)
    return step


async def take(step: deletion.Step, topic: Manifest, cluster: Cluster) -> Manifest | None:
    """Carry a step out; return the topic as it is now, None where nothing was written or it is deleted.

    Raises Conflict when the topic is another by now, NotFound when there is none to be changed.
    """
    key, kind = key_of(topic), kind_of(topic)
    if step.patch is not None:
        return await cluster.patch(kind, key.namespace, key.name, step.patch)
    if step.delete:
        await cluster.delete(kind, key.namespace, key.name, uid=step.uid, resource_version=step.resource_version)
    return None


def _wake_others(topic: Manifest, uid: str, tools: Tools) -> None:
    """Let the other feeds of a topic that we wrote be looked at: to the watch our own write is no news."""
    for other in claims_of(topic).keys() - {uid}:
        name = tools.store.named(other)
        if name is not None:
            tools.wake(name)


def _moves(made: Plan, observed: Observed, uid: str) -> handover.HandOver:
    """Return what every shard is to hold next."""
    if made.suspended:
        return handover.HandOver(made.holdings)
    current = handover.current_holdings(observed, uid)
    limit = venue(made.exchange).limits.streams_per_connection
    return handover.hand_over(made.holdings, current, _carried(observed), limit)


def _carried(observed: Observed) -> dict[str, frozenset[str]]:
    """Return the streams that each shard's pods were seen to carry."""
    carried: dict[str, frozenset[str]] = {}
    for pod in observed.pods:
        shard = labels_of(pod).get(SHARD_LABEL)
        sample = observed.samples.get(pod["metadata"]["name"])
        if shard is not None and sample is not None and not pod["metadata"].get("deletionTimestamp"):
            carried[shard] = carried.get(shard, frozenset()) | sample.carried
    return carried


def _nudge(application: Manifest | None) -> str | None:
    """Return the value that last started the streaming job again."""
    if application is None:
        return None
    found = (application["spec"].get("driver") or {}).get("annotations") or {}
    value: str | None = found.get(NUDGE)
    return value


def _again(outcome: Outcome, *others_s: float | None, refused: bool) -> Again:
    """Say when to look again without an event."""
    moving = outcome.hand_over is not None and bool(outcome.hand_over.moving)
    waits = [
        _HAND_OVER_LOOK_S if moving else None,
        _RELEASE_LOOK_S if outcome.releasing else None,
        outcome.analytics.look_again_s if outcome.analytics is not None else None,
        *others_s,
        _REFUSED_LOOK_S if refused else None,
    ]
    return Again(min((wait for wait in waits if wait is not None), default=None), sample=moving)
