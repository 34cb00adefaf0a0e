"""`python -m images`: build the images, list them. What `make images` calls."""

from __future__ import annotations

import sys
import time

import click

from images import NAMES, Image, catalog, provide
from marketfeed.errors import MarketfeedError

_MEGABYTE = 1_000_000


@click.group()
def main() -> None:
    """Build container images with docker or buildah, into the cache."""


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def build(names: tuple[str, ...]) -> None:
    """Build the named images, else marketfeed's own; print their sizes."""
    rows = [(name, *_timed(name)) for name in names or catalog.OURS]
    for name, image, seconds in rows:
        size = f"{image.size_bytes / _MEGABYTE:.0f} MB"
        click.echo(f"{name:<12} {size:>8} {seconds:>6.1f} s  {image.reference}  {image.archive}")


@main.command("list")
def list_command() -> None:
    """Print the names of the images that there are."""
    for name in NAMES:
        click.echo(name)


def _timed(name: str) -> tuple[Image, float]:
    started = time.monotonic()
    return provide(name), time.monotonic() - started


if __name__ == "__main__":
    try:
        main.main(prog_name="python -m images")
    except MarketfeedError as error:
        sys.stderr.write(f"images: {error}\n")
        sys.exit(1)
