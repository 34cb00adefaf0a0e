"""Options that the commands which work on a cluster share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., object])


def cluster_options(command: _Command) -> _Command:
    """Add `--kubeconfig` and `--context`, which say how the API server is reached."""
    kubeconfig = click.option(
        "--kubeconfig",
        type=click.Path(exists=True, dir_okay=False),
        envvar="KUBECONFIG",
        help="How to reach the API server.  [default: the pod's service account, else ~/.kube/config]",
    )
    context = click.option("--context", help="Context of the kubeconfig.  [default: its current one]")
    return kubeconfig(context(command))
