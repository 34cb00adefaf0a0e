"""`python -m standins`: nodes, topic operator and Spark operator for a control plane that has none, until SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from threading import Event

import click

from standins.runner import Standins


@click.command()
@click.option(
    "--kubeconfig", type=click.Path(exists=True, dir_okay=False, path_type=Path), envvar="KUBECONFIG", required=True
)
@click.option(
    "--topic-namespace", default="kafka", show_default=True, help="Namespace whose KafkaTopics are looked after."
)
@click.option("--sync", default=60.0, show_default=True, help="Time until a changed ConfigMap is in its pods, s.")
@click.option("--rate", default=100.0, show_default=True, help="Messages per second of each stream.")
def main(kubeconfig: Path, topic_namespace: str, sync: float, rate: float) -> None:
    """Stand in for nodes, Strimzi's Topic Operator and the Spark operator, until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Standins(kubeconfig, topic_namespace=topic_namespace) as standins:
        standins.kubelet.sync_s, standins.kubelet.rate = sync, rate
        logging.getLogger("standins").info("standing in, as process %d; end it with SIGTERM", os.getpid())
        stop.wait()


if __name__ == "__main__":
    main()
