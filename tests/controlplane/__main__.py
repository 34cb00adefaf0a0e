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
    """Build the programs into the cache, unless they are there; print their folder."""
    click.echo(binaries.provide().apiserver.parent)


@main.command()
def up() -> None:
    """Start the control plane in the background, with our kinds and those of others; say how to use it."""
    state = background.state_dir()
    before = background.find(state)
    running = before or background.up(state)
    beside = f", with {' and '.join(running.companions)}" if running.companions else ""
    click.echo(f"The control plane is up{' already' if before else ''}: {running.url}{beside}")
    click.echo(usage(running, shutil.which("kubectl")))


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


def usage(running: background.Up, kubectl: str | None) -> str:
    """Return the commands that come next; `kubectl` is the one on the PATH."""
    lines = [f"  export KUBECONFIG={running.kubeconfig}"]
    if kubectl is None:
        lines.append(f"  export PATH=$PATH:{Path(running.kubectl).parent}   # kubectl")
    return "\n".join(
        [
            *lines,
            "  .venv/bin/marketfeed operator                      # in a terminal of its own",
            "  kubectl apply -f manifests/examples/binance-spot.yaml",
            "  kubectl get marketfeeds",
            "  make control-plane-down                            # ends it and removes what it held",
        ]
    )


if __name__ == "__main__":
    try:
        main()
    except MarketfeedError as error:
        sys.exit(f"control plane: {error}")
