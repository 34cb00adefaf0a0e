"""`python -m stand up|status|down`: what `make cluster` and `make cluster-down` run."""

from __future__ import annotations

import sys

import click

from marketfeed.errors import MarketfeedError
from stand import background, install
from stand.cluster import Cluster


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run a real Kubernetes node on this machine, with the platform, the operator and the example feed."""


@main.command("up")
def up_command() -> None:
    """Bring up what is not there yet, and say how to use it."""
    problem = background.missing()
    if problem is not None:
        raise click.ClickException(problem)
    click.echo(_advice(background.up(click.echo).cluster))


@main.command("status")
def status_command() -> None:
    """Say whether it runs, and how to use it."""
    found = background.find()
    if found is None:
        click.echo("no node runs here: make cluster")
        sys.exit(1)
    click.echo(found.cluster.kubectl("get", "marketfeeds", "--all-namespaces", check=False).rstrip())
    click.echo(_advice(found.cluster))


@main.command("down")
def down_command() -> None:
    """End it and remove what it held."""
    click.echo("the node has ended, and nothing of it is left" if background.down() else "no node ran here")


def _advice(cluster: Cluster) -> str:
    place = install.FEED_NAMESPACE
    health = f"/api/v1/namespaces/{place}/services/{install.FEED}-ingestor:http/proxy/health"
    return "\n".join(
        (
            "",
            f"export KUBECONFIG={cluster.kubeconfig}",
            f"export PATH={cluster.kubectl_program.parent}:{cluster.helm_program.parent}:$PATH",
            "helm ls -A",
            "kubectl get mf -A",
            "kubectl get pods -A",
            f"kubectl wait --for=condition=Ready marketfeed/{install.FEED} --timeout=5m",
            f"kubectl get --raw {health}",
            "make e2e           # the end-to-end tests, on this node",
            "make cluster-down  # end it, and leave nothing behind",
        )
    )


if __name__ == "__main__":
    try:
        main()
    except MarketfeedError as error:
        click.echo(f"marketfeed: {error}", err=True)
        sys.exit(1)
