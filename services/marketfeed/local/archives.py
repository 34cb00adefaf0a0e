"""`python -m marketfeed.local.archives COMPONENT FOLDER`: a component's Java archives, laid into a folder.

What builds an image uses it. What does not live here: fetching and verifying them (components).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import click

from marketfeed.errors import MarketfeedError
from marketfeed.local.components import fetch


def lay(component: str, folder: Path) -> list[Path]:
    """Fetch a component's archives and return them as they lie in `folder`, which is made; no other copy stays.

    Raises ComponentMissing when one could not be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="marketfeed-archives-") as cache:
        found = fetch(component, f"they go into {folder}", cache=Path(cache))
        return [Path(shutil.copy(archive, folder)) for archive in found]


@click.command()
@click.argument("component")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(component: str, folder: Path) -> None:
    """Lay the archives of COMPONENT into FOLDER."""
    lay(component, folder)


if __name__ == "__main__":
    try:
        main.main(prog_name="python -m marketfeed.local.archives")
    except MarketfeedError as error:
        sys.stderr.write(f"archives: {error}\n")
        sys.exit(1)
