"""`make bench`: run the benchmarks and print one JSON object a line. A missed target is printed, it is no error."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import analytics, database, fleet, ingest, live, store
from benchmarks.children import Failed
from benchmarks.figures import Figure, say
from marketfeed import logs
from marketfeed.errors import MarketfeedError
from marketfeed.local.kafka import EmbeddedKafka

NAMES = ("ingest", "store", "latency", "memory", "analytics", "operator")
_LIVE = {"latency", "memory"}  # two figures of one run

Benchmark = Callable[[], Iterator[Figure]]


def main() -> int:
    """Return 0 when everything could be measured, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(NAMES)} [default: all]")
    parser.add_argument("--rounds", type=int, help="rounds of each comparison [default: 5 of ingest, 3 of the others]")
    parser.add_argument("--feeds", type=int, default=fleet.FEEDS, help="feeds of the operator [default: %(default)s]")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(NAMES))
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}: choose of {', '.join(NAMES)}")
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if chosen.feeds < fleet.LEAST_FEEDS:
        parser.error(f"--feeds must be {fleet.LEAST_FEEDS} or more")
    logs.configure("ERROR")  # our own use of the clients; the services' logs are theirs
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="marketfeed-bench-")))
        names = frozenset(chosen.names or NAMES)
        benchmarks = _of_services(names - {"operator"}, chosen.rounds, folder, stack)
        if "operator" in names:
            benchmarks["operator"] = partial(fleet.run, folder, chosen.feeds)
        return int(not all([_measure(name, benchmark) for name, benchmark in benchmarks.items()]))  # noqa: C419 - all of them run


def _of_services(names: frozenset[str], rounds: int | None, folder: Path, stack: ExitStack) -> dict[str, Benchmark]:
    """Start the servers that these benchmarks of the services need, and return the benchmarks, not begun."""
    if not names:
        return {}
    say("starting the servers")
    kafka = stack.enter_context(EmbeddedKafka(folder / "kafka"))
    benchmarks: dict[str, Benchmark] = {}
    if "ingest" in names:
        benchmarks["ingest"] = partial(ingest.run, kafka, folder, rounds or 5)
    if names - {"ingest"}:
        postgres = stack.enter_context(database.server(folder / "postgres"))
        if "store" in names:
            benchmarks["store"] = partial(store.run, kafka, postgres, folder, rounds or 3)
        if "analytics" in names:
            benchmarks["analytics"] = partial(analytics.run, kafka, postgres, folder, rounds or 3)
        if names & _LIVE:
            benchmarks[" and ".join(sorted(names & _LIVE))] = partial(live.run, kafka, postgres, folder, names)
    return benchmarks


def _measure(name: str, benchmark: Benchmark) -> bool:
    """Print a benchmark's figures as they come; return whether it could be measured."""
    started = time.monotonic()
    try:
        for figure in benchmark():
            sys.stdout.write(figure.line() + "\n")
            sys.stdout.flush()
    except (Failed, MarketfeedError) as error:
        say(f"{name} could not be measured: {error}")
        return False
    say(f"{name} took {time.monotonic() - started:.0f} s")
    return True


if __name__ == "__main__":
    sys.exit(main())
