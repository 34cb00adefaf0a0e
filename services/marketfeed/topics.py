"""Topics: `ensure` makes the ones that a feed needs, `marketfeed topics` lists and creates them by hand.

`reconcile` also changes what is there, and `delete` deletes: whether data may be lost by that is for their caller to
decide. Nothing here ever takes a partition away, because Kafka cannot.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

from marketfeed import durations
from marketfeed.errors import ConfigurationError, Unavailable
from marketfeed.kafka import ANSWER_TIMEOUT_S, admin, answered
from marketfeed.settings import KafkaSettings, Topic

_UNLIMITED_MS = -1

# What the broker refuses because of what was asked; asking again would not help.
_WRONG_REQUEST = frozenset(
    {
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_CONFIG,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_DELETION_DISABLED,
    }
)


def ensure(kafka: KafkaSettings, topics: Sequence[Topic]) -> list[str]:
    """Create the topics that do not exist; return their names.

    Raises ConfigurationError when an existing topic has fewer partitions or replicas or keeps its records for a
    shorter time, or when the broker refuses what is asked; Unavailable when no broker answers.
    """
    client = admin(kafka)
    found = _found(client, kafka, topics)
    problems = [
        problem for topic in topics if topic.name in found for problem in contradictions(topic, found[topic.name])
    ]
    if problems:
        raise ConfigurationError("; ".join(problems))
    return _create(client, kafka, [topic for topic in topics if topic.name not in found])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done to topics, by their names; a topic that was as it should be stands nowhere."""

    created: tuple[str, ...] = ()
    grown: tuple[str, ...] = ()  # now have as many partitions as are wanted
    retained: tuple[str, ...] = ()  # now keep their records for as long as is wanted
    held: tuple[str, ...] = ()  # keep their records for longer than is wanted, as they did before


def reconcile(kafka: KafkaSettings, topics: Sequence[Topic], *, shorten: bool = False) -> Outcome:
    """Make topics as they are wanted: create them, add partitions, set how long records are kept; nothing else.

    More partitions or replicas than are wanted stay. A shorter retention costs records, so it is only set when whoever
    calls this has decided so: `shorten`. `retention_ms` None leaves what there is.

    Raises ConfigurationError, before anything is done, when a topic has fewer replicas than are wanted, and when the
    broker refuses what is asked; Unavailable when no broker answers, or when a topic is still being made.
    """
    client = admin(kafka)
    found = _found(client, kafka, topics)
    there = [(topic, found[topic.name]) for topic in topics if topic.name in found]
    _check_reconcilable(there)
    other = [(want, have) for want, have in there if want.retention_ms not in (None, have.retention_ms)]
    held = [want.name for want, have in other if not shorten and _shorter(want.retention_ms, have.retention_ms)]
    return Outcome(
        created=tuple(_create(client, kafka, [topic for topic in topics if topic.name not in found])),
        grown=tuple(_grow(client, kafka, [want for want, have in there if have.partitions < want.partitions])),
        retained=tuple(_retain(client, kafka, [want for want, _ in other if want.name not in held])),
        held=tuple(held),
    )


def delete(kafka: KafkaSettings, names: Sequence[str]) -> list[str]:
    """Delete topics and all their records; return the names of those that there were.

    Raises ConfigurationError when the brokers do not let topics be deleted, Unavailable when none answers.
    """
    if not names:
        return []
    client = admin(kafka)  # held until all have answered: with it goes what it was asked
    with answered(kafka):
        answers = client.delete_topics([*dict.fromkeys(names)], request_timeout=ANSWER_TIMEOUT_S)
        return _done(answers, KafkaError.UNKNOWN_TOPIC_OR_PART)


def _check_reconcilable(pairs: Sequence[tuple[Topic, Topic]]) -> None:
    """Refuse what cannot be reached from here; the pairs are a wanted topic and the one that was found."""
    for wanted, found in pairs:
        if not found.partitions:
            raise Unavailable(f"topic {wanted.name} is still being made: it has no partitions yet")
    problems = [
        f"topic {wanted.name} has {found.replicas} replicas, {wanted.replicas} are wanted: reassign its partitions "
        "with Kafka's own tools"
        for wanted, found in pairs
        if found.replicas < wanted.replicas
    ]
    if problems:
        raise ConfigurationError("; ".join(problems))


def _found(client: AdminClient, kafka: KafkaSettings, topics: Sequence[Topic]) -> dict[str, Topic]:
    """Return those of the topics that exist, as they are; the retention is only asked for where one is wanted."""
    with answered(kafka):
        known = client.list_topics(timeout=ANSWER_TIMEOUT_S).topics
        there = [topic for topic in topics if topic.name in known]
        retentions = _retentions_ms(client, [topic.name for topic in there if topic.retention_ms is not None])
    return {topic.name: existing(known[topic.name], retentions.get(topic.name)) for topic in there}


def existing(found: TopicMetadata, retention_ms: int | None) -> Topic:
    """Return what the broker's metadata say of a topic."""
    replicas = min((len(part.replicas) for part in found.partitions.values()), default=0)
    return Topic(str(found.topic), len(found.partitions), replicas, retention_ms)


def contradictions(wanted: Topic, found: Topic) -> list[str]:
    """Return why an existing topic cannot serve as the wanted one; more than is wanted is always fine."""
    problems = []
    if found.partitions < wanted.partitions:
        problems.append(f"topic {wanted.name} has {found.partitions} partitions, {wanted.partitions} are asked for")
    if found.replicas < wanted.replicas:
        problems.append(f"topic {wanted.name} has {found.replicas} replicas, {wanted.replicas} are asked for")
    if _shorter(found.retention_ms, wanted.retention_ms):
        problems.append(
            f"topic {wanted.name} keeps records for {render_duration(found.retention_ms)}, "
            f"{render_duration(wanted.retention_ms)} are asked for"
        )
    return problems


def _shorter(found_ms: int | None, wanted_ms: int | None) -> bool:
    if found_ms is None or wanted_ms is None or found_ms == _UNLIMITED_MS:
        return False
    return wanted_ms == _UNLIMITED_MS or found_ms < wanted_ms


def parse_duration_ms(text: str) -> int:
    """Read `7d`, `12h`, `30m`, `45s` or `unlimited` as milliseconds; raises ConfigurationError."""
    if text == "unlimited":
        return _UNLIMITED_MS
    try:
        return durations.parse_ms(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is not a duration: write 7d, 12h, 30m, 45s or unlimited") from None


def render_duration(milliseconds: int | None) -> str:
    """Write a retention; None is the broker's default."""
    if milliseconds is None:
        return "the broker's default"
    if milliseconds == _UNLIMITED_MS:
        return "unlimited"
    return durations.render(milliseconds)


def _create(client: AdminClient, kafka: KafkaSettings, topics: Sequence[Topic]) -> list[str]:
    """Create topics; one that somebody else created in the meantime is not a failure."""
    if not topics:
        return []
    with answered(kafka):
        answers = client.create_topics([_new_topic(topic) for topic in topics], request_timeout=ANSWER_TIMEOUT_S)
        return _done(answers, KafkaError.TOPIC_ALREADY_EXISTS)


def _grow(client: AdminClient, kafka: KafkaSettings, topics: Sequence[Topic]) -> list[str]:
    """Add partitions until there are as many as are wanted."""
    if not topics:
        return []
    wanted = [NewPartitions(topic.name, topic.partitions) for topic in topics]
    with answered(kafka):
        return _done(client.create_partitions(wanted, request_timeout=ANSWER_TIMEOUT_S))


def _retain(client: AdminClient, kafka: KafkaSettings, topics: Sequence[Topic]) -> list[str]:
    """Set how long records are kept, and no other part of a topic's configuration."""
    if not topics:
        return []
    wanted = [
        ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=[_retention(topic)]) for topic in topics
    ]
    with answered(kafka):
        answers = client.incremental_alter_configs(wanted, request_timeout=ANSWER_TIMEOUT_S)
        return _done({resource.name: future for resource, future in answers.items()})


def _retention(topic: Topic) -> ConfigEntry:
    return ConfigEntry("retention.ms", str(topic.retention_ms), incremental_operation=AlterConfigOpType.SET)


def _done(answers: Mapping[str, Future[Any]], already: int | None = None) -> list[str]:
    """Wait for each topic's answer; return the names of those for which something was done.

    already: the error that says that nothing was left to do. Raises ConfigurationError for what the broker refuses
    because of what was asked, KafkaException for anything else.
    """
    done = []
    for name, future in answers.items():
        try:
            future.result()
            done.append(name)
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            if error.code() in _WRONG_REQUEST:
                raise ConfigurationError(f"topic {name}: {error.str()}") from None
            if error.code() != already:
                raise
    return done


def _new_topic(topic: Topic) -> NewTopic:
    config = {} if topic.retention_ms is None else {"retention.ms": str(topic.retention_ms)}
    return NewTopic(topic.name, topic.partitions, topic.replicas, config=config)


def _retentions_ms(client: AdminClient, names: Sequence[str]) -> dict[str, int]:
    """Ask for how long each topic keeps its records, in ms."""
    if not names:
        return {}
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers = client.describe_configs(asked, request_timeout=ANSWER_TIMEOUT_S)
    return {resource.name: int(future.result()["retention.ms"].value) for resource, future in answers.items()}


@click.group()
@click.option("--bootstrap-servers", help="host:port of the brokers [default: $KAFKA_BOOTSTRAP_SERVERS]")
@click.pass_context
def command(context: click.Context, bootstrap_servers: str | None) -> None:
    """List and create Kafka topics. Security settings come from the KAFKA_* variables.

    \b
    Examples:
      marketfeed topics --bootstrap-servers 127.0.0.1:9092 list
      marketfeed topics create binance.trades binance.book_ticker --partitions 3 --retention 7d
    """  # noqa: D301 - click's \b keeps the lines of a block
    context.obj = lambda: kafka_from_environment(bootstrap_servers)  # not asked for by `list --help`


def kafka_from_environment(bootstrap_servers: str | None) -> KafkaSettings:
    """Return the KAFKA_* variables' settings, with the command line's brokers where they are given."""
    given = {} if bootstrap_servers is None else {KafkaSettings.variable("bootstrap_servers"): bootstrap_servers}
    return KafkaSettings.from_env({**os.environ, **given}, lambda path: Path(path).read_text())


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.pass_obj
def list_command(settings: Callable[[], KafkaSettings], *, as_json: bool) -> None:
    """Print every topic with its partitions, replicas and retention."""
    kafka = settings()
    client = admin(kafka)
    with answered(kafka):
        known = client.list_topics(timeout=ANSWER_TIMEOUT_S).topics
        names = sorted(name for name in known if not name.startswith("__"))  # Kafka's own
        retentions = _retentions_ms(client, names)
    topics = [existing(known[name], retentions[name]) for name in names]
    click.echo(json.dumps([dataclasses.asdict(topic) for topic in topics]) if as_json else _as_table(topics))


def _as_table(topics: Sequence[Topic]) -> str:
    width = max((len(topic.name) for topic in topics), default=0)
    header = f"{'TOPIC':<{max(width, 5)}}  PARTITIONS  REPLICAS  RETENTION"
    rows = [
        f"{topic.name:<{max(width, 5)}}  {topic.partitions:>10}  {topic.replicas:>8}  "
        f"{render_duration(topic.retention_ms)}"
        for topic in topics
    ]
    return "\n".join([header, *rows])


@command.command("create", short_help="Create the topics that do not exist yet.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--partitions", type=click.IntRange(min=1), default=3, show_default=True, help="Of each topic.")
@click.option("--replicas", type=click.IntRange(min=1), default=1, show_default=True, help="Of each partition.")
@click.option(
    "--retention",
    default="7d",
    show_default=True,
    help="How long records are kept, as 7d, 12h, 30m, 45s or unlimited.",
)
@click.pass_obj
def create_command(
    settings: Callable[[], KafkaSettings], names: tuple[str, ...], partitions: int, replicas: int, retention: str
) -> None:
    """Create the topics that do not exist yet; running it again changes nothing.

    Exits 2 when a topic exists with fewer partitions or replicas or a shorter retention: nothing is changed then.
    """
    retention_ms = parse_duration_ms(retention)
    created = ensure(settings(), [Topic(name, partitions, replicas, retention_ms) for name in dict.fromkeys(names)])
    for name in dict.fromkeys(names):
        click.echo(f"{name}: {'created' if name in created else 'exists'}")
