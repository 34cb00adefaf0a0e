"""`python -m node`: a bare Kubernetes node on this machine, left running, looked at, ended."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import click

from marketfeed.errors import MarketfeedError
from node import background


@click.group()
def main() -> None:
    """Run a real Kubernetes node on this machine, without Docker."""


@main.command()
def up() -> None:
    """Start a node in the background; say how to use it."""
    state = background.state_dir()
    before = background.find(state)
    started = time.monotonic()
    running = before or background.up(state, say=lambda line: click.echo(f"  {line}"))
    took = " already" if before else f" after {time.monotonic() - started:.1f} s"
    click.echo(f"The node is up{took}: {running.url}")
    click.echo(usage(running, shutil.which("kubectl")))


@main.command()
def down() -> None:
    """End the node and all that runs on it; remove what it held."""
    ended = background.down(background.state_dir())
    click.echo("The node is down." if ended else "No node was up.")


@main.command()
def status() -> None:
    """Say whether a node runs; exit code 1 when none does."""
    running = background.find(background.state_dir())
    if running is None:
        click.echo("No node is up: `python -m node up` starts one.")
        sys.exit(1)
    click.echo(f"The node is up: {running.url}")
    click.echo(running.node.kubectl("get", "nodes,pods", "--all-namespaces", "--output=wide").stdout, nl=False)


@main.command(hidden=True)
def serve() -> None:
    """Run the node in this process, until it is told to end."""
    background.serve(background.state_dir())


def usage(running: background.Up, kubectl: str | None) -> str:
    """Return the commands that come next; `kubectl` is the one on the PATH."""
    path = [] if kubectl else [f"  export PATH=$PATH:{Path(running.kubectl).parent}:{Path(running.helm).parent}"]
    return "\n".join(
        [
            f"Containers' logs: {running.directory}/var/log/pods    Servers' logs: {running.directory}/servers",
            "",
            f"  export KUBECONFIG={running.kubeconfig}",
            *path,
            "  kubectl get pods --all-namespaces",
            "  python -m node down    # ends all of it and removes what it held",
        ]
    )


if __name__ == "__main__":
    try:
        main()
    except MarketfeedError as error:
        sys.exit(f"node: {error}")
