"""Asking the services themselves, pod by pod: `/stats`, `/readyz`, and an ingestor's `/streams`.

What does not live here: what the answers mean (status, handover).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import msgspec

from marketfeed_operator.metrics import OperatorMetrics
from marketfeed_operator.objects import COMPONENT, COMPONENT_INGESTOR, POD, Key, Manifest, labels_of
from marketfeed_operator.observed import Sample
from marketfeed_operator.store import FeedName, Store, feed_of

_TIMEOUT_S = 2.0
_AT_ONCE = 32
_TICK_S = 1.0
_TROUBLED_S = 3.0  # until one that answers and is not ready, as a new one is, is looked at again
_LONGEST_ANSWER_BYTES = 4_000_000
_LONGEST_PROBLEM = 300  # characters
PORT_NAME = "http"
_FIGURES = ("messages_per_second", "total_messages", "last_message_age_s", "lag_seconds", "lag_records")
_PROOF_FIGURES = ("window_s", "missing", "expected", "unprovable_streams")

Notable = Callable[[FeedName], None]
"""Is called when a sample says something else than the one before it, beside figures that always move."""


class Sampler:
    """Looks at every running pod now and then, and each second at those of feeds that asked for it."""

    def __init__(self, store: Store, metrics: OperatorMetrics, every_s: float, notable: Notable) -> None:
        self._store = store
        self._metrics = metrics
        self._every_s = every_s
        self._notable = notable
        self._hurried: set[FeedName] = set()
        self._due: dict[Key, float] = {}  # monotonic, s
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    def hurry(self, feed: FeedName) -> None:
        """Look at the feed's pods at the next tick, out of turn."""
        self._hurried.add(feed)

    async def run(self) -> None:
        """Look for ever."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)  # a wait for one would count against the timeout
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                begun = time.monotonic()
                await self._round(session, begun)
                await asyncio.sleep(max(0.0, _TICK_S - (time.monotonic() - begun)))

    async def _round(self, session: aiohttp.ClientSession, now: float) -> None:
        hurried, self._hurried = self._hurried, set()
        pods = {
            Key(POD.group, POD.kind, pod["metadata"]["namespace"], pod["metadata"]["name"]): pod
            for pod in self._store.of_kind(POD.kind)
            if address(pod) is not None
        }
        self._due = {key: self._due.get(key, now) for key in pods}
        wanted = [key for key, pod in pods.items() if self._due[key] <= now or feed_of(pod) in hurried]
        for key in wanted:
            self._due[key] = now + self._every_s
        await asyncio.gather(*(self._look(session, key, pods[key], now) for key in wanted))

    async def _look(self, session: aiohttp.ClientSession, key: Key, pod: Manifest, now: float) -> None:
        place = (key.namespace, key.name)
        before = self._store.samples.get(place)
        async with self._at_once:
            sample = await ask(session, pod, before)
        self._metrics.samples.labels("failed" if sample.stats is None else "ok").inc()
        if self._store.get(key) is None:
            return  # gone while it was asked
        self._store.samples[place] = sample
        if sample.problem is not None and sample.stats is not None:
            self._due[key] = min(self._due[key], now + _TROUBLED_S)
        feed = feed_of(pod)
        if feed is not None and (before is None or _gist(before) != _gist(sample)):
            self._notable(feed)


def address(pod: Manifest) -> str | None:
    """Return `http://ip:port` of a pod's service; None while it has none, or is on its way out."""
    status = pod.get("status") or {}
    ip = status.get("podIP")
    if not ip or status.get("phase") != "Running" or pod["metadata"].get("deletionTimestamp"):
        return None
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports") or ())
    number = next((port["containerPort"] for port in ports if port.get("name") == PORT_NAME), None)
    host = f"[{ip}]" if ":" in ip else ip
    return None if number is None else f"http://{host}:{number}"


async def ask(session: aiohttp.ClientSession, pod: Manifest, before: Sample | None) -> Sample:
    """Ask one pod's service how it is; whatever goes wrong is the sample's problem."""
    name, base, now = str(pod["metadata"]["name"]), address(pod), time.time()
    try:
        carried: frozenset[str] = frozenset()
        desired: frozenset[str] | None = None
        if labels_of(pod).get(COMPONENT) == COMPONENT_INGESTOR:
            streams = await _json(session, f"{base}/streams")
            carried = frozenset(_texts(streams, "carried"))
            desired = frozenset(_texts(streams, "desired")) if "desired" in streams else None
        # Asked second: else it could say of streams that are carried by now that they are not, after their hand-over.
        health = await _json(session, f"{base}/health")
        stats = _stats(health)
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
        reason = str(error) or type(error).__name__
        return Sample(pod=name, at=now, stats=None, problem=f"does not answer: {reason}"[:_LONGEST_PROBLEM])
    problem = health.get("reason")
    return Sample(
        pod=name,
        at=now,
        stats=_with_rate(stats, now, before),
        carried=carried,
        desired=desired,
        problem=None if problem is None else str(problem)[:_LONGEST_PROBLEM],
    )


async def _json(session: aiohttp.ClientSession, url: str) -> Mapping[str, Any]:
    """Return the JSON object at `url`, of a good or a bad state; raises ValueError when it is none."""
    async with session.get(url) as answer:
        if answer.status not in (200, 503):
            raise ValueError(f"{answer.url.path} answers {answer.status}")
        body = bytearray()
        async for part in answer.content.iter_any():
            body += part
            if len(body) > _LONGEST_ANSWER_BYTES:
                raise ValueError(f"{answer.url.path} answers more than {_LONGEST_ANSWER_BYTES} bytes")
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(f"{answer.url.path} answers no JSON object: {error}") from None


def _stats(health: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the figures of `/health`; raises ValueError where one that is counted with is of another type."""
    stats = health.get("stats")
    if not isinstance(stats, Mapping):
        raise ValueError("/health holds no stats")  # noqa: TRY004 - bad input, like no JSON at all
    proof = stats.get("proof")
    if not isinstance(proof, Mapping | None):
        raise ValueError("/health holds a proof that is no object")  # noqa: TRY004
    for figures, names in ((stats, _FIGURES), (proof or {}, _PROOF_FIGURES)):
        for name in names:
            value = figures.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise ValueError(f"/health holds a {name} that is no number")  # noqa: TRY004
    return stats


def _texts(answer: Mapping[str, Any], name: str) -> list[str]:
    found = answer.get(name) or []
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError(f"/streams holds {name} that is no list of streams")
    return found


def _with_rate(stats: Mapping[str, Any], now: float, before: Sample | None) -> Mapping[str, Any]:
    """Return the figures with their rate per second, from the totals of two samples where the service gives none."""
    if "messages_per_second" in stats or before is None or before.stats is None or now <= before.at:
        return stats
    total, earlier = stats.get("total_messages"), before.stats.get("total_messages")
    if not isinstance(total, int) or not isinstance(earlier, int) or total < earlier:
        return stats
    return {**stats, "messages_per_second": (total - earlier) / (now - before.at)}


def _gist(sample: Sample) -> tuple[Any, ...]:
    """Return what of a sample is worth a look at the feed when it changes: figures in powers of two."""
    stats = sample.stats or {}
    proof = stats.get("proof") or {}
    figures = (stats.get("messages_per_second"), stats.get("lag_seconds"), stats.get("lag_records"))
    return (
        sample.problem,
        sample.stats is None,
        sample.carried,
        proof.get("missing"),
        proof.get("unprovable_streams"),
        bool(proof.get("expected")),
        tuple(None if figure is None else int(figure).bit_length() for figure in figures),
    )
