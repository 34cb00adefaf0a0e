"""`marketfeed operator`: the process that looks after every MarketFeed of a cluster. It wires the parts together.

What does not live here: what is done for one feed (reconcile), following the cluster (mirror), the lease (leader).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from prometheus_client import CollectorRegistry

from marketfeed.logs import configure, logger
from marketfeed.metrics import ServiceMetrics
from marketfeed.server import Pulse, Server
from marketfeed.service_command import ServiceCommand
from marketfeed_operator.api.cluster import Cluster
from marketfeed_operator.api.leader import Leadership
from marketfeed_operator.direct import Topics
from marketfeed_operator.health import Progress
from marketfeed_operator.metrics import OperatorMetrics
from marketfeed_operator.mirror import Mirror
from marketfeed_operator.options import cluster_options
from marketfeed_operator.plan import Defaults
from marketfeed_operator.reconcile import Tools
from marketfeed_operator.render import Installation
from marketfeed_operator.sampler import Sampler
from marketfeed_operator.secret_versions import SecretVersions
from marketfeed_operator.settings import OperatorSettings
from marketfeed_operator.store import Store
from marketfeed_operator.workers import Work, Workers
from marketfeed_operator.workqueue import WorkQueue

_GAUGES_EVERY_S = 1.0

_log = logger("operator")


class Operator:
    """One replica: it follows the cluster from its start, and works while it holds the lease."""

    def __init__(
        self, settings: OperatorSettings, cluster: Cluster, leadership: Leadership, metrics: OperatorMetrics
    ) -> None:
        self._settings = settings
        self._leadership = leadership
        self._metrics = metrics
        self._store = Store()
        self._queue: WorkQueue[Work] = WorkQueue()
        self.progress = Progress(metrics)
        self.progress.figures = self._figures
        self._secrets = SecretVersions(cluster, self._store, self._queue.add)
        self._sampler = Sampler(self._store, metrics, settings.sample_s, self._queue.add)
        defaults = Defaults(bootstrap_servers=settings.bootstrap_servers)
        self._direct = Topics(cluster, self._store, defaults, self._queue.add)
        tools = Tools(
            cluster=cluster.guarded_by(leadership.guard),
            direct=self._direct,
            store=self._store,
            secrets=self._secrets,
            metrics=metrics,
            installation=_installation(settings),
            defaults=defaults,
            status_s=settings.status_s,
            answer_s=settings.topic_patience_s,
            wake=self._queue.add,
            patience_s=settings.analytics_patience_s,
        )
        self._workers = Workers(tools, self._queue, self._sampler, self.progress, settings.namespaces)
        self._mirror = Mirror(
            settings,
            cluster,
            self._store,
            self.progress,
            changed=self._workers.changed,
            renewed=self._workers.everything,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`. Raises LostLeadership, or whatever ended a part that should never end."""
        parts = (
            self.progress.beat(),
            self._gauges(),
            self._leadership.run(),
            self._mirror.run(),
            self._lead(),
            stop.wait(),
        )
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._mirror.stop()
            await self._direct.stop()
            await self._leadership.release()
        for task in done:
            task.result()

    async def _lead(self) -> None:
        """Work once this replica leads and has seen the cluster."""
        await self._leadership.elected.wait()
        await self.progress.synced.wait()
        self.progress.leading = True
        _log.info("leading", feeds=len(self._store.feeds()))
        self._workers.everything()
        workers = [self._workers.work() for _ in range(self._settings.workers)]
        tasks = [asyncio.create_task(part) for part in (*workers, self._sampler.run(), self._secrets.run())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _gauges(self) -> None:
        """Keep the gauges current for ever."""
        metrics = self._metrics
        while True:
            metrics.queue_depth.set(self._queue.depth)
            metrics.queue_oldest_seconds.set(self._queue.oldest_s())
            for kind, age_s in self._mirror.ages_s().items():
                metrics.watch_age_seconds.labels(kind).set(age_s)
            for ready, count in self._store.readiness().items():
                metrics.feeds.labels(ready).set(count)
            metrics.show_reasons(self._store.reasons())
            await asyncio.sleep(_GAUGES_EVERY_S)

    def _figures(self) -> Mapping[str, Any]:
        return {"feeds": len(self._store.feeds()), "queue": self._queue.depth}


def _installation(settings: OperatorSettings) -> Installation:
    return Installation(
        services_image=settings.services_image,
        analytics_image=settings.analytics_image,
        image_pull_policy=settings.image_pull_policy,
        image_pull_secrets=settings.image_pull_secrets,
    )


@click.command("operator", cls=ServiceCommand, settings=OperatorSettings, short_help="Look after a cluster's feeds.")
@cluster_options
def command(kubeconfig: str | None, context: str | None) -> None:
    """Look after every MarketFeed of a cluster, until SIGTERM.

    Several replicas may run: the one that holds the Lease works, the others follow and take over. Exits 0 when asked to
    end, 2 when the configuration is wrong, 1 when the lease is lost or a watch ends, so that it is started anew.
    """
    configure()
    settings = OperatorSettings.from_env(os.environ, lambda path: Path(path).read_text("utf-8"))
    configure(settings.log_level)
    asyncio.run(_serve(settings, kubeconfig, context))
    sys.exit(0)


async def _serve(settings: OperatorSettings, kubeconfig: str | None, context: str | None) -> None:
    """Run one replica and its HTTP server."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    identity = settings.identity or f"{socket.gethostname()}-{os.getpid()}"
    cluster = await Cluster.connect(kubeconfig, context, settings=settings, metrics=metrics)
    leadership = Leadership(cluster, settings.namespace, identity=identity, lease_s=settings.lease_s, metrics=metrics)
    operator = Operator(settings, cluster, leadership, metrics)
    progress = operator.progress
    try:
        pulse = Pulse(progress.live, progress.ready, progress.stats)
        ServiceMetrics(registry, "operator", pulse.unready)
        server = Server(settings.http, pulse, registry)
        try:
            _log.info("listening", url=server.url, identity=identity)
            await operator.run(stop)
        finally:
            server.close()
    finally:
        await cluster.close()
