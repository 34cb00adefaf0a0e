"""`marketfeed settle`: finish what deletions have begun, while the operator is still there, and say what stays.

The chart runs it before the operator is uninstalled, with the operator's own settings and account. A leader may work
beside it: whatever either of them writes holds for the version that it has seen, and the other one looks again.
What does not live here: the steps (deletion), what is left and how it is said (settlement). Topics that were made
without Strimzi are no business of it: the leader removes them at once, and nothing in the cluster tells of them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from marketfeed.service_command import ServiceCommand, seconds
from marketfeed_operator import deletion, resync
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.errors import ApiError, Conflict, NotFound, NotServed, Unanswered
from marketfeed_operator.deletion import Orphan
from marketfeed_operator.objects import (
    KAFKA_TOPIC_V1,
    KAFKA_TOPIC_V1BETA2,
    MANAGED_BY,
    MANAGER,
    MARKETFEED,
    Key,
    Kind,
    Manifest,
)
from marketfeed_operator.options import cluster_options
from marketfeed_operator.reconcile import take
from marketfeed_operator.settings import OperatorSettings
from marketfeed_operator.settlement import Sight, farewell
from marketfeed_operator.watch import Watched

_OURS = f"{MANAGED_BY}={MANAGER}"
_LEADERS_S = 3.0
"""How long a topic is the leader's: it has seen the feed go, and knows its last policy better than the topic does."""
_SOON_S, _LOOK_S = 0.2, 1.0
_LAST_S = 5.0
"""How much longer than its time it takes at most, to leave in good order what Strimzi has not answered for."""


class Settling:
    """One settling. `tell` takes the sentences of what is done, each once."""

    def __init__(
        self,
        cluster: Cluster,
        settings: OperatorSettings,
        timeout_s: float,
        tell: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._timeout_s = timeout_s
        self._tell = tell
        self._clock, self._now, self._sleep = clock, now, sleep
        self._ends = clock() + timeout_s
        self._leaders_s = min(_LEADERS_S, timeout_s / 2)
        self._since: dict[tuple[Key, str], float] = {}
        self._refusals: dict[Key, str] = {}
        self._blind: str | None = None
        self._told: set[str] = set()

    async def run(self) -> list[str]:
        """Let go what can be let go in the time; return what is left, in sentences. Raises ApiError if it sees none."""
        try:
            async with asyncio.timeout(self._timeout_s):
                self._sight = await self._look()
        except TimeoutError:
            raise Unanswered(0, "Timeout", f"no answer within {self._timeout_s:g} s") from None
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s + _LAST_S):
                await self._let_all_go()
        answer_s = self._settings.topic_patience_s
        return farewell(self._sight, self._now(), answer_s, self._refusals, self._blind)

    async def _let_all_go(self) -> None:
        while (orphans := self._sight.to_let_go()) and self._clock() < self._ends + _LAST_S:
            wait_s = min([await self._step(orphan) for orphan in orphans])
            await self._sleep(wait_s)
            await self._look_again()

    async def _step(self, orphan: Orphan) -> float:
        """Take the next step of letting a topic go; return when to look again, s."""
        now_s = self._clock()
        leaders_s = self._since.setdefault((orphan.key, orphan.uid), now_s) + self._leaders_s - now_s
        if leaders_s > 0:
            return min(leaders_s, _LOOK_S)
        answer_s = self._settings.topic_patience_s if now_s < self._ends else 0.0
        step = deletion.release(orphan.topic, orphan.uid, orphan.policy, self._now(), answer_s)
        try:
            await take(step, orphan.topic, self._cluster)
        except (Conflict, NotFound):
            return _SOON_S  # the leader, Strimzi or a new feed was quicker
        except ApiError as error:
            self._refusals[orphan.key] = str(error)
            return _LOOK_S
        self._refusals.pop(orphan.key, None)
        self._say(f"{step.sentence}.")
        return _SOON_S if step.patch is not None or step.delete else min(step.look_again_s or _LOOK_S, _LOOK_S)

    def _say(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._tell(sentence)

    async def _look_again(self) -> None:
        """Look; where the API server does not answer, what was seen before counts on."""
        try:
            self._sight = await self._look()
        except ApiError as error:
            self._blind = str(error)
        else:
            self._blind = None

    async def _look(self) -> Sight:
        """Return what there is: the topics, and only then the feeds."""
        near = self._settings.namespaces
        far = tuple(dict.fromkeys((*near, *self._settings.topic_namespaces))) if near else ()
        topics = await self._listed(KAFKA_TOPIC_V1, far, _OURS)
        if topics is None:
            topics = await self._listed(KAFKA_TOPIC_V1BETA2, far, _OURS)
        feeds = await self._listed(MARKETFEED, near)
        return Sight(tuple(topics or ()), None if feeds is None else tuple(feeds), frozenset(near))

    async def _listed(self, kind: Kind, namespaces: tuple[str, ...], selector: str = "") -> list[Manifest] | None:
        """Return the objects of a kind, None where it is not served."""
        try:
            return await resync.listed(self._cluster, Watched(kind, selector), namespaces)
        except NotServed:
            return None


@click.command(
    "settle", cls=ServiceCommand, settings=OperatorSettings, short_help="Finish deletions before the operator goes."
)
@click.option(
    "--timeout",
    "timeout_s",
    default="60s",
    show_default=True,
    callback=seconds,
    help="How long Strimzi may take to let go of topics in all.",
)
@cluster_options
def command(timeout_s: float, kubeconfig: str | None, context: str | None) -> None:
    """Finish what deletions of feeds have begun, before the operator goes, and say what will go on without it.

    Topics of feeds that are gone are let go as an operator does it, step by step; one may work at the same time. What
    Strimzi does not answer for in time is left as it is, not managed, with its data. Feeds that are there are not
    touched. Takes the operator's settings and permissions.

    \b
    Exit codes:
      0  it could look; what is left, if anything, is said
      1  the API server does not answer, or does not let feeds and topics be read
      2  the settings or the kubeconfig cannot be used
    """  # noqa: D301 - click's \b keeps the lines of a block
    settings = OperatorSettings.from_env(os.environ, lambda path: Path(path).read_text("utf-8"))
    for sentence in asyncio.run(_settle(settings, kubeconfig, context, timeout_s)):
        click.echo(sentence)


async def _settle(
    settings: OperatorSettings, kubeconfig: str | None, context: str | None, timeout_s: float
) -> list[str]:
    cluster = await Cluster.connect(kubeconfig, context, settings=settings)
    try:
        return await Settling(cluster, settings, timeout_s, click.echo).run()
    except ApiError as error:
        raise type(error)(error.status, error.reason, f"{cluster.host}: {error}", error.retry_after_s) from error
    finally:
        await cluster.close()
