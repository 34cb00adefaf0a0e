"""The commands that read a MarketFeed and change nothing."""

from __future__ import annotations

from typing import BinaryIO

import click

from marketfeed.errors import ConfigurationError
from marketfeed_operator.describe import as_json, comparison_as_json, describe, describe_comparison
from marketfeed_operator.plan import plan
from marketfeed_operator.spec import MarketFeed, load


@click.command("plan", short_help="Show what a MarketFeed needs, or would change.")
@click.argument("file", type=click.File("rb"))
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON; of a plan, with every process's environment.")
@click.option("--against", type=click.Choice(["cluster"]), help="Print what applying FILE would change there.")
@click.option("--manifests", "manifests_wanted", is_flag=True, help="Print the Kubernetes objects, as YAML.")
@click.option("-n", "--namespace", help="The feed's namespace; by default the file's, else the kubeconfig's.")
@click.option("--kubeconfig", help="The kubeconfig of the cluster; $KUBECONFIG or ~/.kube/config by default.")
@click.option("--context", help="The context of the kubeconfig; its current one by default.")
def plan_command(
    file: BinaryIO,
    *,
    json_wanted: bool,
    against: str | None,
    manifests_wanted: bool,
    namespace: str | None,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Show what the MarketFeed in FILE needs: topics, shards and their streams, consumers, connections.

    With --against cluster: what applying it would change there, each change in a class, from live (running processes
    take it over) to destructive (stored records go). FILE is YAML or JSON; - reads standard input. Nothing is started
    or changed.

    \b
    Examples:
      marketfeed plan manifests/examples/binance-spot.yaml
      marketfeed plan feed.yaml --json | jq '.shards[].streams'
      kubectl get marketfeed binance-spot -o yaml | marketfeed plan -
      marketfeed plan feed.yaml --against cluster -n market
      marketfeed plan feed.yaml --manifests | kubectl diff -f -

    \b
    Exit codes:
      0  the plan, or the list of changes, was printed
      1  the cluster does not answer, or does not let its objects be read
      2  the MarketFeed or the kubeconfig cannot be used; each line says what to change
    """  # noqa: D301 - click's \b keeps the lines of a block
    _refuse_contradictions(
        against, json_wanted=json_wanted, manifests_wanted=manifests_wanted, located=kubeconfig or context
    )
    feed = read(file)
    if against is not None:
        text = _compared(feed, namespace, kubeconfig, context, json_wanted=json_wanted)
    elif manifests_wanted:
        text = _manifests(feed, namespace)
    else:
        made = plan(feed)
        text = as_json(made) if json_wanted else describe(made)
    click.echo(text, nl=False)


def _refuse_contradictions(
    against: str | None, *, json_wanted: bool, manifests_wanted: bool, located: str | None
) -> None:
    """Raise a usage error for options that do not go together."""
    if located and against is None:
        raise click.UsageError("--kubeconfig and --context say where a cluster is: add --against cluster.")
    if manifests_wanted and (json_wanted or against):
        raise click.UsageError("--manifests prints YAML of no cluster: leave out --json and --against.")


def _compared(
    feed: MarketFeed, namespace: str | None, kubeconfig: str | None, context: str | None, *, json_wanted: bool
) -> str:
    from marketfeed_operator.against import Target, compared  # noqa: PLC0415 - its clients take half a second to load

    found = compared(feed, Target(kubeconfig, context, namespace))
    return comparison_as_json(found) if json_wanted else describe_comparison(found)


def _manifests(feed: MarketFeed, namespace: str | None) -> str:
    from marketfeed_operator.manifests import manifests  # noqa: PLC0415 - only wanted here

    return manifests(feed, namespace)


def read(file: BinaryIO) -> MarketFeed:
    """Read the MarketFeed of an open file; raises ConfigurationError that names the file."""
    source = str(getattr(file, "name", "<stdin>"))  # not every stream that stands in for standard input has a name
    try:
        text = file.read().decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    return load(text, source)
