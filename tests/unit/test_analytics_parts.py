"""The streaming job's smaller parts: patience with a database, a file of thresholds, Spark's settings."""

from __future__ import annotations

import socket
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from threading import Event

import pytest

from marketfeed.analytics import session_options
from marketfeed.analytics.patience import Patience, Stopping
from marketfeed.analytics.thresholds import Thresholds
from marketfeed.analytics.thresholds_file import ThresholdsFile
from marketfeed.analytics.upkeep import unreachable
from marketfeed.errors import ConfigurationError, MarketfeedError, Unavailable
from marketfeed.settings import AnalyticsSettings, KafkaSettings, Secret


class _NoWait(Event):
    """Remembers the waits that it was asked for, and is set at the last of them."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._last = waits

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return len(self.waits) >= self._last


def _failing(times: int, error: MarketfeedError) -> Callable[[], str]:
    left = [error] * times

    def work() -> str:
        if left:
            raise left.pop()
        return "done"

    return work


def test_waits_until_the_database_is_back() -> None:
    """Each failure is counted, waits grow to 5 s at most, and in the end the work is done and nothing is wrong."""
    failures: list[None] = []
    stop = _NoWait(100)
    patience = Patience(stop, lambda: failures.append(None))
    assert patience.until_done(_failing(12, Unavailable("away"))) == "done"
    assert (len(failures), len(stop.waits), patience.problem) == (12, 12, None)
    assert min(stop.waits) >= 0.02
    assert 0.5 <= stop.waits[-1] <= 5.0


def test_stopping_ends_the_wait() -> None:
    """What it waits for is still named then."""
    patience = Patience(_NoWait(2), lambda: None)
    with pytest.raises(Stopping):
        patience.until_done(_failing(9, Unavailable("away")))
    assert patience.problem == "away"


def test_what_is_ready_is_written_though_the_service_stops() -> None:
    """The first try is made in any case."""
    stop = Event()
    stop.set()
    assert Patience(stop, lambda: None).until_done(lambda: "written") == "written"


def test_other_errors_are_not_waited_out() -> None:
    """A password that is wrong stays wrong."""
    with pytest.raises(ConfigurationError):
        Patience(Event(), lambda: None).until_done(_failing(1, ConfigurationError("wrong")))


def test_thresholds_without_a_file_are_the_defaults() -> None:
    """And nothing is wrong with that."""
    held = ThresholdsFile(None)
    assert (held.current(), held.problem) == (Thresholds(), None)


def test_thresholds_follow_their_file(tmp_path: Path) -> None:
    """New text holds at once; bad text, and none, keep what held before, and are named until they are mended."""
    path = tmp_path / "thresholds.json"
    path.write_text('{"spread": 4}')
    held = ThresholdsFile(str(path))
    assert held.current().spread == 4
    path.write_text('{"spread": 5.5}')
    assert held.current().spread == Decimal("5.5")
    path.write_text('{"spred": 6}')
    assert held.current().spread == Decimal("5.5")
    assert "spred" in (held.problem or "")
    path.unlink()
    assert held.current().spread == Decimal("5.5")
    assert "cannot be read: No such file" in (held.problem or "")
    path.write_text('{"spread": 5.5}')
    held.current()
    assert held.problem is None


def test_first_thresholds_must_be_right(tmp_path: Path) -> None:
    """There are none to keep: the sentence begins with the variable."""
    with pytest.raises(ConfigurationError, match=r"^MARKETFEED_THRESHOLDS_FILE: .*missing\.json cannot be read"):
        ThresholdsFile(str(tmp_path / "missing.json"))


def _settings() -> AnalyticsSettings:
    return AnalyticsSettings(
        feed="spot",
        exchange="binance",
        sink="timescale",
        dsn=Secret("host=db password=s3cret"),
        checkpoint="/checkpoint",
        trigger_ms=10_000,
        shuffle_partitions=3,
        kafka=KafkaSettings(bootstrap_servers="kafka:9092"),
    )


def test_a_session_of_our_own_is_local_and_knows_the_connector() -> None:
    """Archives are separated as in PATH; $MASTER may name another master."""
    options = session_options.defaults(_settings(), {"MARKETFEED_SPARK_JARS": "/a.jar:/b.jar"})
    assert (options["spark.master"], options["spark.jars"]) == ("local[2]", "/a.jar,/b.jar")
    assert session_options.defaults(_settings(), {"MASTER": "local[1]"})["spark.master"] == "local[1]"
    assert "spark.jars" not in session_options.defaults(_settings(), {})


@pytest.mark.parametrize("variable", ["PYSPARK_GATEWAY_PORT", "PYSPARK_SUBMIT_ARGS"])
def test_a_submitted_session_keeps_what_it_was_submitted_with(variable: str) -> None:
    """Master, addresses and archives are the submission's business, whichever of Spark and Python starts the other."""
    options = session_options.defaults(_settings(), {variable: "1", "MARKETFEED_SPARK_JARS": "/a.jar"})
    assert not {"spark.master", "spark.jars", "spark.driver.host"} & options.keys()
    assert options["spark.ui.enabled"] == "false"


def test_no_secret_is_among_spark_s_settings() -> None:
    """Spark shows its settings to whoever asks."""
    settings = _settings()
    assert "s3cret" not in str({**session_options.defaults(settings, {}), **session_options.required(settings)})


def test_state_has_as_many_parts_as_set() -> None:
    """Spark's own default would make each batch several times slower; times are UTC."""
    required = session_options.required(_settings())
    assert required["spark.sql.shuffle.partitions"] == "3"
    assert required["spark.sql.session.timeZone"] == "UTC"


@pytest.mark.parametrize("base", ["s3a://bucket/feed", "s3a://bucket/feed/"])
def test_each_shape_of_state_has_its_own_checkpoint(base: str) -> None:
    """Other windows, another channel or topic begin anew; a URL stays one."""
    made = session_options.checkpoint(base, "trade_metrics", "binance.trades", "trade", 60_000)
    assert made == "s3a://bucket/feed/v1/trade_metrics-binance.trades-trade-60000ms"


def test_a_broker_that_listens_is_enough() -> None:
    """One address of several that answers will do; when none does, the sentence names them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert unreachable(f"127.0.0.1:1,127.0.0.1:{port}") is None
    assert unreachable(f"127.0.0.1:{port}") == f"no Kafka broker answers at 127.0.0.1:{port} within 3 s"
