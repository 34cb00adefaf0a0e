"""A plan in the runner's words, the options of `marketfeed up`, and the watch on the feed's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from documents import changed
from marketfeed.errors import ConfigurationError
from marketfeed.local.workload import Addresses, Workload, consumer_settings, shard_settings, single_broker
from marketfeed.settings import Secret, Topic
from marketfeed_operator.plan import plan
from marketfeed_operator.spec import parse
from marketfeed_operator.up import WatchedFeed, command, workload

HERE = Addresses(
    kafka="127.0.0.1:19092",
    dsn=Secret("postgresql://marketfeed:hunter2@127.0.0.1:1/marketfeed"),
    websocket="ws://127.0.0.1:2",
    rest="http://127.0.0.1:3",
)


def _workload(changes: dict[str, Any]) -> Workload:
    return workload(plan(parse(changed(changes))))


def test_every_stream_of_the_plan_is_run() -> None:
    """Shards together hold each symbol on each channel once."""
    made = _workload({"spec.symbols": ["BTCUSDT", "ETHUSDT"], "spec.ingest": {"streamsPerShard": 1}})
    assert sorted(stream for shard in made.shards for stream in shard.streams) == ["BTCUSDT@trade", "ETHUSDT@trade"]
    assert made.symbols == ["BTCUSDT", "ETHUSDT"]


def test_replicas_are_one_group() -> None:
    """A sink's replicas become consumers of their own names that share a group."""
    made = _workload({"spec.sinks.0.replicas": 2})
    assert [consumer.name for consumer in made.consumers] == ["spot-consumer-timescale-0", "spot-consumer-timescale-1"]
    assert len({consumer.settings.group for consumer in made.consumers}) == 1


def test_a_suspended_feed_has_topics_and_no_services() -> None:
    """Suspending stops shards and consumers and leaves the topics."""
    made = _workload({"spec.suspend": True})
    assert made.topics
    assert (made.shards, made.consumers) == ((), ())


def test_services_get_this_machine_s_addresses() -> None:
    """Venue, broker and database are the run's own, ports are free ones, and a new group reads from the start."""
    made = _workload({"spec.sinks.0.autoOffsetReset": "latest"})
    shard = shard_settings(made.shards[0], HERE, Path("/run/streams.json"))
    assert (shard.websocket_url, shard.rest_urls, shard.http.port) == (HERE.websocket, (HERE.rest,), 0)
    assert shard.kafka is not None
    assert shard.kafka.bootstrap_servers == HERE.kafka
    consumer = consumer_settings(made.consumers[0], HERE)
    assert (consumer.dsn, consumer.auto_offset_reset) == (HERE.dsn, "earliest")
    assert "hunter2" not in str(consumer.to_env())


def test_the_real_venue_stays_as_planned() -> None:
    """Without a simulated venue, a shard keeps the URLs of its plan."""
    planned = _workload({}).shards[0]
    settings = shard_settings(planned, Addresses(kafka="127.0.0.1:1"), Path("/run/streams.json"))
    assert settings.websocket_url == planned.settings.websocket_url
    assert settings.rest_urls == planned.settings.rest_urls


def test_one_broker_holds_one_copy() -> None:
    """A topic that is to have three copies has one here, and keeps everything else."""
    assert single_broker(Topic("trades", 3, 3, 1000)) == Topic("trades", 3, 1, 1000)


def test_an_edit_is_seen_once(tmp_path: Path) -> None:
    """A changed file gives one workload, an unchanged one or one that is being replaced gives none."""
    path = tmp_path / "feed.yaml"
    path.write_text(yaml.safe_dump(changed({})))
    feed = WatchedFeed(path)
    feed.plan()
    assert feed.changed() is None
    path.write_text(yaml.safe_dump(changed({"spec.symbols": ["ETHUSDT"]})))
    edited = feed.changed()
    assert edited is not None
    assert edited.symbols == ["ETHUSDT"]
    assert feed.changed() is None
    path.unlink()
    assert feed.changed() is None


def test_a_bad_edit_is_told_once(tmp_path: Path) -> None:
    """A text that cannot be used raises its sentence, and is left alone until it changes."""
    path = tmp_path / "feed.yaml"
    path.write_text(yaml.safe_dump(changed({})))
    feed = WatchedFeed(path)
    feed.plan()
    path.write_text("spec: [")
    with pytest.raises(ConfigurationError, match="not YAML"):
        feed.changed()
    assert feed.changed() is None


@pytest.mark.parametrize("option", [("--for", "soon"), ("--for", "0s"), ("--speed", "0"), ("--speed", "fast")])
def test_an_option_that_cannot_be_meant_is_refused(option: tuple[str, str], tmp_path: Path) -> None:
    """Durations and speeds are checked before anything starts, and the message shows what was written."""
    (tmp_path / "feed.yaml").write_text(yaml.safe_dump(changed({})))
    result = CliRunner().invoke(command, [str(tmp_path / "feed.yaml"), *option])
    assert result.exit_code == 2
    assert option[1] in result.output


@pytest.mark.parametrize(
    "options", [["--live", "--seed", "1"], ["--live", "--speed", "2"], ["--replay", ".", "--rate", "5"]]
)
def test_options_that_exclude_each_other_are_refused(options: list[str], tmp_path: Path) -> None:
    """What steers the simulated venue has no place beside --live, nor what draws a market beside --replay."""
    (tmp_path / "feed.yaml").write_text(yaml.safe_dump(changed({})))
    result = CliRunner().invoke(command, [str(tmp_path / "feed.yaml"), *options])
    assert isinstance(result.exception, ConfigurationError)
