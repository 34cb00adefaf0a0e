"""`marketfeed up FILE`: a feed on this machine without Kubernetes. The command line, and a plan in the runner's words.

What does not live here: running anything, which `marketfeed.local` does without knowing what a plan is.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from marketfeed import logs
from marketfeed.analytics.thresholds import Thresholds
from marketfeed.errors import ConfigurationError
from marketfeed.local.run import Options, run
from marketfeed.local.venue import Market
from marketfeed.local.workload import Analytics, Consumer, Shard, Workload
from marketfeed_operator.fields import Duration
from marketfeed_operator.plan import AnalyticsJob, Defaults, Plan, plan
from marketfeed_operator.plan import Consumer as PlannedConsumer
from marketfeed_operator.spec import load

_duration = TypeAdapter(Duration)


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Read a length of time as the MarketFeed writes it; return it in s."""
    if text is None:
        return None
    try:
        return _duration.validate_python(text).seconds
    except ValidationError:
        raise click.BadParameter(
            f"{text!r} is not a duration: write a whole number and ms, s, m, h or d, as in 60s"
        ) from None


def _speed(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    """Check a factor on the market's pace, or `max`."""
    try:
        good = text == "max" or 0 < float(text) < float("inf")
    except ValueError:
        good = False
    if not good:
        raise click.BadParameter(f"{text!r} is neither a number above 0 nor max")
    return text


@click.command("up", short_help="Run a MarketFeed on this machine.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--live", is_flag=True, help="Connect to the venue itself, not to a simulation of it.")
@click.option(
    "--replay",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Let the simulated venue play the recordings (*.jsonl) in this directory.",
)
@click.option(
    "--speed",
    callback=_speed,
    metavar="FACTOR",
    default="1",
    show_default=True,
    help="Pace of the simulated venue: a factor on time, or max for as fast as the ingestors read.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Simulated payloads per second, all symbols and channels together.  [default: 200]",
)
@click.option("--seed", type=int, help="Seed of the simulated market: the same one draws the same market.")
@click.option(
    "--for",
    "for_s",
    callback=_seconds,
    metavar="DURATION",
    help="Run so long (as 45s or 5m), drain, prove, and exit 0 when all is proven.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep data, logs and truth here, and go on with them.",
)
@click.option("--no-analytics", is_flag=True, help="Leave out the feed's analytics, and Spark with them.")
def command(
    file: Path,
    *,
    live: bool,
    replay: Path | None,
    speed: str,
    rate: float | None,
    seed: int | None,
    for_s: float | None,
    keep: Path | None,
    no_analytics: bool,
) -> None:
    """Run the MarketFeed in FILE on this machine: a real Kafka, a real PostgreSQL, ingestors and consumers.

    The venue is simulated unless --live. What is missing on the machine is fetched once. A feed with analytics gets its
    metrics and alerts by Spark, where 2.5 GiB of memory are available. An edit of FILE is taken over
    while it runs. Ctrl-C ends everything in order and leaves nothing behind but the directory of --keep.

    \b
    Examples:
      marketfeed up manifests/examples/binance-spot.yaml
      marketfeed up feed.yaml --for 60s
      marketfeed up feed.yaml --replay recordings --speed max --for 30s --keep data

    \b
    Exit codes:
      0  ended by Ctrl-C, or by --for with a complete proof
      1  the proof found something missing, or the run could not go on
      2  the MarketFeed or an option cannot be used; the message says what to change
    """  # noqa: D301 - click's \b keeps the lines of a block
    logs.configure("ERROR")
    if live and (replay or rate or seed is not None or speed != "1"):
        raise ConfigurationError("--live has no simulated venue: leave out --replay, --speed, --rate and --seed")
    if replay and (rate or seed is not None):
        raise ConfigurationError("--replay plays recordings: leave out --rate and --seed")
    market = None if live else Market(replay=replay, speed=speed, rate=rate, seed=seed)
    watched = WatchedFeed(file)
    made = watched.plan()
    for warning in made.warnings:
        click.echo(f"Note: {warning}")
    if made.suspended:
        raise ConfigurationError(f"{file}: spec.suspend is true, so there is nothing to run: write false")
    options = Options(market=market, for_s=for_s, keep=keep, analytics=not no_analytics)
    click.get_current_context().exit(run(workload(made), watched.changed, options))


class WatchedFeed:
    """A MarketFeed's file, planned when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = ""

    def plan(self) -> Plan:
        """Read and plan the file; raises ConfigurationError."""
        try:
            self._text = self._path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self._path} cannot be read: {error}") from None
        return plan(load(self._text, str(self._path)), Defaults(checkpoint_stays=True))

    def changed(self) -> Workload | None:
        """Return the workload when the text is another than the last that was read, else None.

        Raises ConfigurationError when the new text cannot be used; it is not tried again until it changes.
        """
        try:
            same = self._path.read_text() == self._text
        except (OSError, UnicodeDecodeError):
            return None  # being replaced at this moment
        return None if same else workload(self.plan())


def workload(made: Plan) -> Workload:
    """Return the plan in the runner's words; a suspended feed has no services."""
    return Workload(
        feed=made.feed,
        kafka=bool(made.topics),
        topics=made.topics,
        shards=tuple(
            Shard(name=shard.name, streams=shard.holding, settings=shard.settings)
            for shard in made.shards
            if not made.suspended
        ),
        consumers=tuple(
            replica for consumer in made.consumers if not made.suspended for replica in _replicas(consumer)
        ),
        analytics=None if made.suspended or made.analytics is None else _analytics(made.analytics),
    )


def _analytics(job: AnalyticsJob) -> Analytics:
    numbers = (Decimal(str(number)) for number in (job.volatility, job.volume_spike, job.spread))
    return Analytics(name=job.name, settings=job.settings, thresholds=Thresholds(*numbers))


def _replicas(consumer: PlannedConsumer) -> Iterator[Consumer]:
    """Yield one consumer per replica; they share the topics' partitions as one group."""
    for number in range(consumer.replicas):
        suffix = f"-{number}" if consumer.replicas > 1 else ""
        yield Consumer(name=f"{consumer.name}{suffix}", settings=consumer.settings)
