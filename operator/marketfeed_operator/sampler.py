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
_AT_ONCE = 16
_TICK_S = 1.0
_LONGEST_ANSWER_BYTES = 4_000_000
_LONGEST_PROBLEM = 300  # characters
PORT_NAME = "http"

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

    def hurry(self, feed: FeedName) -> None:
        """Look at the feed's pods at the next tick, out of turn."""
        self._hurried.add(feed)

    async def run(self) -> None:
        """Look for ever."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=_AT_ONCE, force_close=True)
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
        await asyncio.gather(*(self._look(session, key, pods[key]) for key in wanted))

    async def _look(self, session: aiohttp.ClientSession, key: Key, pod: Manifest) -> None:
        place = (key.namespace, key.name)
        before = self._store.samples.get(place)
        sample = await ask(session, pod, before)
        self._metrics.samples.labels("failed" if sample.stats is None else "ok").inc()
        if self._store.get(key) is None:
            return  # gone while it was asked
        self._store.samples[place] = sample
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
        health = await _json(session, f"{base}/health")
        stats = health.get("stats")
        if not isinstance(stats, Mapping):
            raise ValueError("its /health holds no stats")  # noqa: TRY004, TRY301 - bad input, like no JSON at all
        carried: frozenset[str] = frozenset()
        if labels_of(pod).get(COMPONENT) == COMPONENT_INGESTOR:
            streams = await _json(session, f"{base}/streams")
            carried = frozenset(map(str, streams.get("carried") or ()))
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
        reason = str(error) or type(error).__name__
        return Sample(pod=name, at=now, stats=None, problem=f"does not answer: {reason}"[:_LONGEST_PROBLEM])
    problem = health.get("reason")
    return Sample(
        pod=name,
        at=now,
        stats=_with_rate(stats, now, before),
        carried=carried,
        problem=None if problem is None else str(problem)[:_LONGEST_PROBLEM],
    )


async def _json(session: aiohttp.ClientSession, url: str) -> Mapping[str, Any]:
    """Return the JSON object at `url`, of a good or a bad state; raises ValueError when it is none."""
    async with session.get(url) as answer:
        body = await answer.content.read(_LONGEST_ANSWER_BYTES)
        if answer.status not in (200, 503):
            raise ValueError(f"{answer.url.path} answers {answer.status}")
    return msgspec.json.decode(body, type=dict[str, Any])  # its errors are ValueErrors


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
