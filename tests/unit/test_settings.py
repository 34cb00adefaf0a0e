"""Settings: what travels through an environment, and what is said when it cannot."""

import re
from dataclasses import replace

import pytest

from marketfeed.errors import ConfigurationError
from marketfeed.settings import ConsumerSettings, HttpSettings, IngestorSettings, KafkaSettings, KeyStyle, Secret

INGESTOR = IngestorSettings(
    feed="spot",
    shard="spot-0",
    exchange="binance",
    websocket_url="ws://127.0.0.1:1",
    rest_urls=("http://127.0.0.1:2", "http://127.0.0.1:3"),
    streams_file="/streams.json",
    topics={"trade": "binance.trades", "bookTicker": "binance.book_ticker"},
    key=KeyStyle.EXCHANGE_SYMBOL,
    dead_letter_topic="binance.dlq",
    kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9092"),
)


def no_file(path: str) -> str:
    """Stand in for a file system without files."""
    raise FileNotFoundError(path)


def test_settings_survive_the_environment() -> None:
    """What to_env() writes, from_env() reads back unchanged: nested settings, mappings, lists and enums included."""
    assert IngestorSettings.from_env(INGESTOR.to_env(), no_file) == INGESTOR


def test_kafka_may_be_absent() -> None:
    """Without any Kafka variable, the optional Kafka settings stay None instead of asking for brokers."""
    settings = replace(INGESTOR, kafka=None, publisher="null")
    assert IngestorSettings.from_env(settings.to_env(), no_file) == settings


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("KAFKA_ACKS", "7", "KAFKA_ACKS: '7' is not one of all, -1, 1, 0"),
        ("KAFKA_LINGER_MS", "soon", "KAFKA_LINGER_MS: 'soon' is not a whole number"),
        ("KAFKA_LINGER_MS", "-1", "KAFKA_LINGER_MS: -1 is below 0"),
        ("MARKETFEED_BACKOFF_FIRST", "nan", "MARKETFEED_BACKOFF_FIRST: nan is below 0.01"),
        ("MARKETFEED_KEY", "price", "MARKETFEED_KEY: 'price' is not a valid KeyStyle"),
        ("MARKETFEED_TOPICS", "trades", "MARKETFEED_TOPICS: "),
        ("MARKETFEED_TOPICS", "[1]", "MARKETFEED_TOPICS: '[1]' is not a JSON object of texts"),
        ("MARKETFEED_FEED", "", "MARKETFEED_FEED is not set: name of the MarketFeed"),
    ],
)
def test_a_wrong_variable_is_named_with_what_would_be_right(variable: str, text: str, sentence: str) -> None:
    """A variable that cannot be used is named together with what would be right."""
    with pytest.raises(ConfigurationError, match=f"^{re.escape(sentence)}"):
        IngestorSettings.from_env({**INGESTOR.to_env(), variable: text}, no_file)


def test_every_problem_is_told_at_once() -> None:
    """Two missing variables and a wrong one are all in the one message, nested settings included."""
    env = {**INGESTOR.to_env(), "KAFKA_COMPRESSION": "rar"}
    del env["MARKETFEED_FEED"], env["MARKETFEED_SHARD"]
    with pytest.raises(ConfigurationError) as caught:
        IngestorSettings.from_env(env, no_file)
    for name in ("MARKETFEED_FEED is not set", "MARKETFEED_SHARD is not set", "KAFKA_COMPRESSION: 'rar'"):
        assert name in str(caught.value)


def consumer(dsn: str) -> ConsumerSettings:
    """Return a consumer's settings with this connection string."""
    return ConsumerSettings(
        feed="spot",
        sink="timescale",
        sink_type="timescaledb",
        topics=("binance.trades",),
        group="binance-buffer",
        dsn=Secret(dsn),
        dead_letter_topic="binance.dlq",
        kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9092"),
    )


def test_every_variable_is_described() -> None:
    """Each variable is described once, with its default or that it must be set; a service's port is its own."""
    described = dict(IngestorSettings.describe())
    assert tuple(described) == IngestorSettings.variables()
    assert described["MARKETFEED_FEED"] == "name of the MarketFeed  [required]"
    assert described["KAFKA_ACKS"] == "replicas that must confirm: all, -1, 1, 0  [default: all]"
    assert described["HTTP_PORT"].endswith("[default: 8081]")
    assert "_FILE" in dict(ConsumerSettings.describe())["MARKETFEED_DSN"]


def test_secrets_are_never_written_or_shown() -> None:
    """A secret is absent from to_env() and hidden in repr()."""
    settings = consumer("postgresql://u:hunter2@db/x")
    assert "hunter2" not in str(settings.to_env())
    assert "hunter2" not in repr(settings)


def test_a_secret_may_come_from_a_file() -> None:
    """NAME_FILE points to a secret's file and wins over NAME; a trailing newline is not part of the secret."""
    env = {**consumer("x").to_env(), "MARKETFEED_DSN": "wrong", "MARKETFEED_DSN_FILE": "/secret/dsn"}
    settings = ConsumerSettings.from_env(env, {"/secret/dsn": "postgresql://right\n"}.__getitem__)
    assert settings.dsn == "postgresql://right"


def test_an_unreadable_secret_file_is_named() -> None:
    """A secret's file that cannot be read is a configuration error that names variable and path."""
    env = {**consumer("x").to_env(), "MARKETFEED_DSN_FILE": "/secret/dsn"}
    with pytest.raises(ConfigurationError, match=r"MARKETFEED_DSN: .*/secret/dsn"):
        ConsumerSettings.from_env(env, no_file)


def test_the_default_ports_differ_by_service() -> None:
    """Ingestor, consumer and a bare server do not meet on one port by default."""
    assert (INGESTOR.http.port, consumer("x").http.port, HttpSettings().port) == (8081, 8082, 0)


@pytest.mark.parametrize("environment", [{}, {"HTTP_PORT": ""}, {"HTTP_HOST": "127.0.0.1"}])
def test_a_service_without_a_port_takes_its_own(environment: dict[str, str]) -> None:
    """A port that is not set is the service's default one, whatever else is set of the HTTP server."""
    env = {name: text for name, text in INGESTOR.to_env().items() if not name.startswith("HTTP_")}
    assert IngestorSettings.from_env(env | environment, no_file).http.port == 8081
