"""`make bench`: run the benchmarks and print one JSON object a line. A missed target is printed, it is no error."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import ingest
from benchmarks.children import Failed
from benchmarks.figures import Figure, say
from marketfeed.errors import MarketfeedError
from marketfeed.local.kafka import EmbeddedKafka


def main() -> int:
    """Return 0 when everything could be measured, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(_BENCHMARKS)} [default: all]")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison [default: %(default)s]")
    chosen = parser.parse_args()
    unknown = set(chosen.names) - set(_BENCHMARKS)
    if unknown or chosen.rounds < 1:
        parser.error(f"there is no {', '.join(unknown)}" if unknown else "--rounds must be 1 or more")
    failed = False
    for name in chosen.names or _BENCHMARKS:
        started = time.monotonic()
        try:
            for figure in _BENCHMARKS[name](chosen.rounds):
                sys.stdout.write(figure.line() + "\n")
                sys.stdout.flush()
        except (Failed, MarketfeedError) as error:
            say(f"{name} could not be measured: {error}")
            failed = True
        say(f"{name} took {time.monotonic() - started:.0f} s")
    return int(failed)


def _ingest(rounds: int) -> Iterator[Figure]:
    with _folder() as folder, EmbeddedKafka(folder / "kafka") as kafka:
        yield from ingest.run(kafka, folder, rounds)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="marketfeed-bench-") as folder:
        yield Path(folder)


_BENCHMARKS: dict[str, Callable[[int], Iterator[Figure]]] = {"ingest": _ingest}

if __name__ == "__main__":
    sys.exit(main())
