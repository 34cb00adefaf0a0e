"""Runs the stand-ins in a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from standins.api import Api
from standins.background import Background, Wait
from standins.kubelet import Kubelet
from standins.spark_operator import SparkOperator
from standins.topic_operator import TopicOperator


class Standins(Background):
    """`with Standins(kubeconfig) as standins`: nodes, topic operator and Spark operator, running.

    Settings are attributes of the stand-ins, to be set at any time: `standins.kubelet.sync_s = 1.0`.
    """

    kubelet: Kubelet
    topics: TopicOperator
    spark: SparkOperator

    def __init__(self, kubeconfig: Path, *, topic_namespace: str = "kafka", start: Iterable[str] | None = None) -> None:
        """Take who begins to work at once, of kubelet, topics and spark; all when None."""
        super().__init__()
        self._kubeconfig = kubeconfig
        self._topic_namespace = topic_namespace
        self._wanted = None if start is None else set(start)

    async def work(self, wait: Wait) -> None:
        async with Api.connect(self._kubeconfig) as api:
            self.kubelet = Kubelet(api)
            self.topics = TopicOperator(api, namespace=self._topic_namespace)
            self.spark = SparkOperator(api)
            named = {"kubelet": self.kubelet, "topics": self.topics, "spark": self.spark}
            for name, standin in named.items():
                if self._wanted is None or name in self._wanted:
                    await standin.start_here()
            await wait()
            await asyncio.gather(*(standin.close() for standin in named.values()))
