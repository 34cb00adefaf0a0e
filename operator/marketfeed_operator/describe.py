"""Plans and comparisons for people (aligned text) and for programs (JSON). Neither shows a secret: they hold none.

What does not live here: making plans (plan) and comparisons (comparison), and printing them (commands).
"""

from __future__ import annotations

import json
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from marketfeed.events import Stream
from marketfeed_operator.changes import ChangeClass, Difference, worst
from marketfeed_operator.comparison import Comparison
from marketfeed_operator.fields import Duration
from marketfeed_operator.plan import AnalyticsJob, Consumer, Plan, Shard
from marketfeed_operator.wording import approve_command, count

_SYMBOLS_WIDTH = 50  # characters; the other columns come before it


def describe(plan: Plan) -> str:
    """Return the plan as text, one block a kind of thing, ending with a line break."""
    blocks = [_heading(plan), _topics(plan), _shards(plan), _consumers(plan)]
    if plan.analytics is not None:
        blocks.append(_analytics(plan.analytics))
    blocks.append(_needs(plan))
    if plan.warnings:
        blocks.append([f"Warning: {warning}" for warning in plan.warnings])
    return "\n".join("\n".join(block) + "\n" for block in blocks if block)


def as_json(plan: Plan) -> str:
    """Return the plan as JSON; what a process is told stands as the variables of its environment."""
    content = {
        "feed": plan.feed,
        "exchange": plan.exchange,
        "suspended": plan.suspended,
        "topics": [asdict(topic) for topic in plan.topics],
        "shards": [_shard_content(shard) for shard in plan.shards],
        "consumers": [_consumer_content(consumer) for consumer in plan.consumers],
        "analytics": None if plan.analytics is None else _analytics_content(plan.analytics),
        "connections": asdict(plan.connections),
        "warnings": plan.warnings,
    }
    return json.dumps(content, indent=2) + "\n"


def describe_comparison(comparison: Comparison) -> str:
    """Return the changes as text, the costliest last, with what they need at the venue, ending with a line break."""
    blocks = [_summary(comparison), _changes(comparison), _venue(comparison)]
    if comparison.approval is not None:
        blocks.append(_approval(comparison))
    blocks.append([f"Warning: {note}" for note in comparison.notes])
    return "\n".join("\n".join(block) + "\n" for block in blocks if block)


def comparison_as_json(comparison: Comparison) -> str:
    """Return the changes as JSON."""
    content = {
        "feed": comparison.feed,
        "namespace": comparison.namespace,
        "class": str(worst(comparison.differences)),
        "changes": [
            {"class": str(found.change), **found.key._asdict(), "change": found.sentence}
            for found in comparison.differences
        ],
        "connections": {**asdict(comparison.connections), "now": comparison.shards_now},
        "approval": {
            "hash": comparison.approval,
            "approved": comparison.approved,
            "command": _approve_command(comparison),
        },
        "warnings": comparison.notes,
    }
    return json.dumps(content, indent=2) + "\n"


def _summary(comparison: Comparison) -> list[str]:
    place = f"{comparison.feed} in namespace {comparison.namespace}"
    changes = [found for found in comparison.differences if found.change is not ChangeClass.NONE]
    if not changes:
        return [f"{place}: nothing changes"]
    return [f"{place}: {count(len(changes), 'change')}, at most {worst(changes)}: {_MEANING[worst(changes)]}"]


_MEANING = {
    ChangeClass.LIVE: "running processes take it over",
    ChangeClass.SCALE: "processes are added or removed, the others go on",
    ChangeClass.ROLL: "processes are replaced one by one",
    ChangeClass.RESHARD: "streams or keys move",
    ChangeClass.DESTRUCTIVE: "stored records go, and nothing brings them back",
}


def _changes(comparison: Comparison) -> list[str]:
    order = list(ChangeClass)
    found = sorted(comparison.differences, key=lambda difference: order.index(difference.change))
    rows = [(str(each.change), _object(each, comparison.namespace), each.sentence) for each in found]
    return _table(("CLASS", "OBJECT", "CHANGE"), rows)


def _object(difference: Difference, namespace: str) -> str:
    key = difference.key
    return f"{key.kind} {key.name}" if key.namespace == namespace else str(key)


def _venue(comparison: Comparison) -> list[str]:
    held = comparison.connections
    allowed = f"{held.attempts} new ones per {Duration.of(round(held.window_s * 1000))} and address"
    row = ("venue connections", str(comparison.shards_now), str(comparison.shards_between), str(held.needed), allowed)
    return _table(("NEEDS", "NOW", "MEANWHILE", "THEN", "LIMIT"), [row])


def _approval(comparison: Comparison) -> list[str]:
    if comparison.approved:
        return ["What is destructive is approved: applying the feed does it."]
    return [
        "What is destructive waits until a person approves it, after the feed was applied:",
        f"  {_approve_command(comparison)}",
    ]


def _approve_command(comparison: Comparison) -> str | None:
    approval = comparison.approval
    return None if approval is None else approve_command(comparison.feed, comparison.namespace, approval)


def _shard_content(shard: Shard) -> dict[str, Any]:
    return {
        "name": shard.name,
        "streams": [str(stream) for stream in shard.streams],
        "environment": shard.settings.to_env(),
        "secrets": [asdict(secret) for secret in shard.secrets],
    }


def _consumer_content(consumer: Consumer) -> dict[str, Any]:
    return {
        "name": consumer.name,
        "sink": consumer.sink,
        "type": consumer.type,
        "replicas": consumer.replicas,
        "environment": consumer.settings.to_env(),
        "secrets": [asdict(secret) for secret in consumer.secrets],
    }


def _analytics_content(job: AnalyticsJob) -> dict[str, Any]:
    return {
        "name": job.name,
        "sink": job.settings.sink,
        "executors": job.executors,
        "thresholds": {"volatility": job.volatility, "volumeSpike": job.volume_spike, "spread": job.spread},
        "environment": job.settings.to_env(),
        "secrets": [asdict(secret) for secret in job.secrets],
    }


def _heading(plan: Plan) -> list[str]:
    state = ", suspended: nothing of it runs" if plan.suspended else ""
    source = ", ".join(sorted({shard.settings.websocket_url for shard in plan.shards}))
    return [f"{plan.feed}: {count(plan.connections.streams, 'stream')} of {plan.exchange} from {source}{state}"]


def _topics(plan: Plan) -> list[str]:
    rows = [
        (topic.name, str(topic.partitions), str(topic.replicas), _length(topic.retention_ms)) for topic in plan.topics
    ]
    return _table(("TOPIC", "PARTITIONS", "REPLICAS", "KEPT"), rows)


def _shards(plan: Plan) -> list[str]:
    rows = [row for shard in plan.shards for row in _shard_rows(shard)]
    return _table(("SHARD", "STREAMS", "CHANNELS", "SYMBOLS"), rows)


def _shard_rows(shard: Shard) -> Iterator[tuple[str, ...]]:
    """Yield a shard's lines: its name on the first, each group's channels on the group's first."""
    shard_cells = (shard.name, str(len(shard.streams)))
    for group_channels, symbols in _grouped(shard.streams):
        channels = group_channels
        for line in textwrap.wrap(" ".join(symbols), _SYMBOLS_WIDTH):
            yield (*shard_cells, channels, line)
            shard_cells, channels = ("", ""), ""


def _grouped(streams: Sequence[Stream]) -> Iterator[tuple[str, list[str]]]:
    """Yield (channels, symbols that are held on just these channels), the largest group first."""
    channels: dict[str, list[str]] = defaultdict(list)
    for symbol, channel in streams:
        channels[symbol].append(channel)
    symbols: dict[str, list[str]] = defaultdict(list)
    for symbol, held in channels.items():
        symbols[" ".join(held)].append(symbol)
    yield from sorted(symbols.items(), key=lambda group: (-len(group[1]), group[0]))


def _consumers(plan: Plan) -> list[str]:
    rows = [
        (
            consumer.name,
            consumer.type,
            str(consumer.replicas),
            consumer.settings.group,
            f"{consumer.settings.batch_rows} rows or {Duration.of(consumer.settings.batch_max_delay_ms)}",
        )
        for consumer in plan.consumers
    ]
    return _table(("CONSUMER", "TYPE", "REPLICAS", "GROUP", "COMMITS AT"), rows)


def _analytics(job: AnalyticsJob) -> list[str]:
    told = job.settings
    rows = [
        (
            job.name,
            told.sink,
            f"{Duration.of(told.trade_window_ms)} trades, {Duration.of(told.spread_window_ms)} spreads",
            f"every {Duration.of(told.trigger_ms)}, {Duration.of(told.watermark_ms)} late",
            f"volatility {job.volatility:g}, volume {job.volume_spike:g}x, spread {job.spread:g}x",
        )
    ]
    return _table(("ANALYTICS", "SINK", "WINDOWS", "BATCHES", "FLAGS ABOVE"), rows)


def _needs(plan: Plan) -> list[str]:
    held = plan.connections
    partitions = sum(topic.partitions for topic in plan.topics)
    copies = sum(topic.partitions * topic.replicas for topic in plan.topics)
    fullest = max((len(shard.streams) for shard in plan.shards), default=0)
    writers = sum(consumer.replicas * consumer.settings.writers for consumer in plan.consumers)
    return _table(
        ("NEEDS", "", "LIMIT"),
        [
            (
                "venue connections",
                f"{held.needed}, or {2 * held.needed} while all are replaced",
                f"{held.attempts} new ones per {Duration.of(round(held.window_s * 1000))} and address",
            ),
            (
                "streams on one connection",
                f"{fullest} on the fullest",
                f"{held.streams_per_connection}",
            ),
            ("Kafka partitions", f"{partitions}, {copies} with their copies", ""),
            ("database connections", str(writers), ""),
        ],
    )


def _length(milliseconds: int | None) -> str:
    return "as the broker says" if milliseconds is None else Duration.of(milliseconds)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return aligned lines, the header first; nothing where there is no row."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
