"""`python -m controlplane`: build it, leave it running, end it. What `make control-plane` calls."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from controlplane import background, binaries, crds
from marketfeed.errors import MarketfeedError


@click.group()
def main() -> None:
    """Run a real Kubernetes control plane on this machine, without Docker."""


@main.command()
def build() -> None:
    """Build every program into the cache, unless it is there: control plane, node, Helm; print their folders."""
    for folder in binaries.build_all():
        click.echo(folder)


@main.command()
def up() -> None:
    """Start a control plane with the operator and all that feeds need, in the background; say how to use it."""
    state = background.state_dir()
    before = background.find(state)
    running = before or background.up(state)
    click.echo(f"The control plane is up{' already' if before else ''}: {running.url}")
    click.echo(usage(running, shutil.which("kubectl"), again=before is not None))


@main.command()
def down() -> None:
    """End the control plane and all that runs beside it; remove what it held."""
    ended = background.down(background.state_dir())
    click.echo("The control plane is down." if ended else "No control plane was up.")


@main.command("crds")
def crds_command() -> None:
    """Print the files that define others' kinds: KafkaTopic, SparkApplication, PodMonitor."""
    for path in crds.third_party():
        click.echo(path)


@main.command(hidden=True)
def serve() -> None:
    """Run the control plane in this process, until it is told to end."""
    background.serve(background.state_dir())


def usage(running: background.Up, kubectl: str | None, *, again: bool = False) -> str:
    """Return what runs, and the commands that come next; `kubectl` is the one on the PATH.

    again: the control plane was found running, with the code that there was when it was started.
    """
    old = (
        ["It runs the code of when it was started: `make control-plane-down` first, to try a change."] if again else []
    )
    path = [] if kubectl else [f"  export PATH=$PATH:{Path(running.kubectl).parent}   # kubectl"]
    return "\n".join(
        [
            f"Beside it run {' and '.join(running.companions)}; in place of nodes, Strimzi and Spark: no image is run.",
            f"Logs: {running.logs}/*.log    The operator's figures: {running.operator_url}/metrics",
            *old,
            "",
            f"  export KUBECONFIG={running.kubeconfig}",
            *path,
            "  kubectl apply -f manifests/examples/binance-spot.yaml",
            "  kubectl get marketfeeds",
            "  kubectl wait --for=condition=TopicsReady marketfeed/binance-spot",
            "  kubectl describe marketfeed binance-spot",
            "  make control-plane-down    # ends all of it and removes what it held",
        ]
    )


if __name__ == "__main__":
    try:
        main()
    except MarketfeedError as error:
        sys.exit(f"control plane: {error}")
