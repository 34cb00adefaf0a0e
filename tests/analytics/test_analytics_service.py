"""The streaming job as a process on a real broker and a real database, fed with records made by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from analytics_jobs import SETTLED_S, Job, alerts, print_of, quote_of, ready
from helpers import wait_until
from marketfeed.events import BookTicker, Record
from marketfeed.settings import KafkaSettings, Secret
from pipeline import RECOVERY_S, query
from records import agg_trade

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(900)]

_SECOND_US = 1_000_000
_MINUTE_US = 60_000_000
_MALFORMED = (
    b"no json at all",
    b'{"channel":"trade"}',
    b'{"channel":"trade","exchange":"binance","symbol":"BTCUSDT","trade_id":"x","price":"1","quantity":"1"}',
    b"",
)


@pytest.fixture
def job(tmp_path: Path, kafka_settings: KafkaSettings, database: Secret, topic_name: str) -> Iterator[Job]:
    """Return a job whose topics and tables exist."""
    with Job(tmp_path, kafka_settings, database, topic_name) as made:
        made.prepare()
        yield made


def _market(minutes: int, every_us: int = 500_000) -> list[Record]:
    """Return prints and quotes of two symbols over so many minutes."""
    return [
        make(number, number * every_us, symbol=symbol)
        for number in range(1, minutes * _MINUTE_US // every_us)
        for symbol in ("BTCUSDT", "ETHUSDT")
        for make in (print_of, quote_of)
    ]


def test_windows_equal_the_stored_rows_whatever_comes_in_between(job: Job) -> None:
    """Late, repeated, disordered, malformed and foreign records leave no window other than the stored rows make it."""
    market = _market(3)
    late = [record for record in market if _id(record) % 7 == 0]
    in_time = [record for record in market if _id(record) % 7]
    aggregates = [agg_trade(number, after_us=number * _SECOND_US) for number in range(1, 60)]
    foreign = [msgspec.structs.replace(print_of(number, _SECOND_US), exchange="kraken") for number in range(5)]
    service = job.start()
    job.store(in_time)
    job.produce(_shuffled(in_time))
    job.produce([*in_time[-40:], *aggregates, *foreign])  # once more, and what trade_metrics must not count
    job.produce_bytes(job.trade_topic, _MALFORMED)
    ready(service)
    job.wait_until_processed(service)
    job.feed([print_of(10**6, 6 * _MINUTE_US, symbol=symbol) for symbol in ("BTCUSDT", "ETHUSDT")])
    job.feed([quote_of(10**6, 6 * _MINUTE_US, symbol=symbol) for symbol in ("BTCUSDT", "ETHUSDT")])
    job.wait_until_processed(service)
    job.feed(late)  # far behind the watermark by now
    job.wait_until_processed(service)
    job.wait_until_right(service)
    queries = service.stats()["queries"]
    assert queries["trade_metrics"]["malformed"] == len(_MALFORMED)
    assert queries["spread_metrics"]["malformed"] == 0
    assert service.metric("marketfeed_analytics_malformed_records_total", query="trade_metrics") == len(_MALFORMED)
    assert service.metric("marketfeed_analytics_windows_corrected_total") > 0
    assert service.terminate() == 0
    assert job.differences() == []
    assert str(job.dsn) not in service.log


def test_says_how_far_it_is_also_after_a_restart_without_news(job: Job) -> None:
    """A job that goes on from its checkpoint and finds nothing new is ready, at lag 0, and knows what is processed."""
    job.feed(_market(1))
    first = job.start()
    job.wait_until_processed(first)
    assert first.terminate() == 0
    again = job.start()
    ready(again)
    job.wait_until_processed(again)
    figures = again.stats()["queries"]
    assert {name: figure["lag_records"] for name, figure in figures.items()} == {
        "trade_metrics": 0,
        "spread_metrics": 0,
    }
    assert [figure["input_records"] for figure in figures.values()] == [0, 0]
    assert again.terminate() == 0


def test_aggregates_count_the_prints_that_they_sum_up(job: Job) -> None:
    """A job of aggTrade takes no other trades, counts prints by their ids, and starts no query without a topic."""
    aggregates = [agg_trade(number, after_us=number * _SECOND_US) for number in range(1, 60)]
    job.feed([*aggregates, *(print_of(number, number * _SECOND_US) for number in range(1, 30))])
    service = job.start(trade_channel="aggTrade", quote_topic=None)
    wait_until(lambda: service.stats()["windows_written"].get("trade_metrics"), SETTLED_S, "windows")
    job.wait_until_right(service, "aggTrade")
    assert query(job.dsn, "SELECT sum(record_count), sum(trade_count) FROM trade_metrics") == [(59, 118)]
    assert set(service.stats()["queries"]) == {"trade_metrics"}
    assert service.terminate() == 0


def test_thresholds_change_while_it_runs(job: Job) -> None:
    """New thresholds hold for the next windows; text that cannot be read keeps those from before and is named."""
    job.thresholds.write_text('{"volatility": 0.5, "volumeSpike": 3.0, "spread": 100000}')
    service = job.start(thresholds_file=str(job.thresholds))
    calm = [print_of(number, number * _SECOND_US, price="100.0", quantity="1") for number in range(1, 30)]
    job.feed(calm)
    job.wait_until_processed(service)
    assert alerts(job.dsn) == {}
    job.thresholds.write_text('{"volatility": 0.001, "volumeSpike": 3.0}')
    start = 40 * _SECOND_US
    job.feed([print_of(100 + number, start + number, price=f"{100 + number}") for number in range(4)])
    wait_until(lambda: ("volatility", "BTCUSDT") in alerts(job.dsn), SETTLED_S, "the alert")
    job.thresholds.write_text('{"volatility": -1}')
    job.feed([print_of(200 + number, 2 * start + number, price=f"{100 + number}") for number in range(4)])
    wait_until(lambda: alerts(job.dsn).get(("volatility", "BTCUSDT")) == 2, RECOVERY_S, "the second alert")
    assert "volatility is -1" in service.stats()["thresholds_problem"]
    assert service.reason() is None
    assert len(service.entries("thresholds_kept")) == 1
    windows = "SELECT DISTINCT volatility_threshold::text FROM trade_metrics WHERE volatility_alert"
    assert query(job.dsn, windows) == [("0.001",)]
    assert service.terminate() == 0


def test_tells_which_settings_are_wrong(job: Job) -> None:
    """Without a topic, or with thresholds that cannot be read, it ends with 2 and names the variable."""
    job.thresholds.write_text("{")
    silent = job.start(trade_topic=None, quote_topic=None)
    wrong = job.start(thresholds_file=str(job.thresholds))
    assert (silent.exit_code(), wrong.exit_code()) == (2, 2)
    assert "MARKETFEED_TRADE_TOPIC and MARKETFEED_QUOTE_TOPIC are both unset" in silent.log
    assert "MARKETFEED_THRESHOLDS_FILE: thresholds refused" in wrong.log


def test_without_spark_it_says_what_to_install(job: Job) -> None:
    """Where pyspark cannot be imported, one line says what to install, and the exit code is 2."""
    env = {"PATH": "/usr/bin:/bin", **job.settings.to_env(), job.settings.variable("dsn"): str(job.dsn)}
    done = subprocess.run(
        [sys.executable, "-m", "marketfeed", "analytics"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("marketfeed: `marketfeed analytics` needs Spark")
    assert "marketfeed[analytics]" in done.stderr


def _shuffled(records: list[Record]) -> list[Record]:
    """Return the records in another order, none further than a dozen places from its own."""
    return [record for at in range(0, len(records), 12) for record in reversed(records[at : at + 12])]


def _id(record: Record) -> int:
    return record.update_id if isinstance(record, BookTicker) else record.trade_id
