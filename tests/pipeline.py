"""The whole pipeline as real processes, each of which a test can kill, stop and start again.

simulator → ingestor → Kafka → consumer → PostgreSQL. Broker and database are the fixtures'; what is compared in the end
is in `truth`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import psycopg2
from confluent_kafka import Consumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from helpers import wait_until
from marketfeed import topics
from marketfeed.errors import Unavailable
from marketfeed.kafka import consumer_config, group_lag
from marketfeed.local.ports import free_port
from marketfeed.local.process import TiedProcess
from marketfeed.settings import ConsumerSettings, HttpSettings, IngestorSettings, KafkaSettings, Secret, Topic

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
CHANNELS = ("trade", "aggTrade", "bookTicker")
RATE = 2_000
"""Payloads a second of all streams together."""

START_S = 30.0
RECOVERY_S = 45.0
"""How long anything may take after a fault on a busy machine: a broker's restart, a group's session that runs out."""

_HTTP = HttpSettings(host="127.0.0.1", port=0)
_ANSWER_S = 5.0
_LOOK_S = 0.05

# Standard output goes to a file of its own: with the publisher `stdout` it is data.
_SPLIT = 'exec "$@" >"$0"'


class Service:
    """One `marketfeed` process with its log in `folder`; it never outlives this process, nor its `with` block."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.stdout = folder / f"{name}.out"
        self._log = folder / f"{name}.log"
        self._tied = TiedProcess(
            ["/bin/sh", "-c", _SPLIT, self.stdout, sys.executable, "-m", "marketfeed", *arguments],
            log=self._log,
            directory=folder,
            environment={**os.environ, **environment},
        )
        self._process = psutil.Process(self._tied.pid)
        self._told_to_end = False

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._tied.pid

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    @property
    def url(self) -> str:
        """Where it answers."""
        return str(self.listening()["url"])

    def entries(self, action: str) -> list[dict[str, Any]]:
        """Return the records of its log with this action."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["action"] == action]

    def listening(self) -> dict[str, Any]:
        """Wait for the record that says where it listens."""

        def announced() -> list[dict[str, Any]]:
            self.assert_alive()
            return self.entries("listening")

        return wait_until(announced, START_S, f"{self.name} to listen")[0]

    def assert_alive(self) -> None:
        """Fail, with its last words, if it ended without having been told to."""
        assert self._told_to_end or self._tied.running(), f"{self.name} ended by itself: {self._tied.log_tail()}"

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON body of an answer."""
        status, body = ask(self.url + path)
        return status, json.loads(body)

    def stats(self) -> dict[str, Any]:
        """Return `/stats`."""
        return self.get("/stats")[1]

    def reason(self) -> str | None:
        """Return why it is not ready; None when it is."""
        status, body = self.get("/readyz")
        return None if status == HTTPStatus.OK else str(body["reason"])

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(ask(f"{self.url}/metrics")[1].decode())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.assert_alive()
        self._told_to_end = True
        self._tied.kill()

    def terminate(self) -> int:
        """Ask it to end with SIGTERM; return its exit code."""
        self.assert_alive()
        self._told_to_end = True
        self._process.terminate()
        wait_until(lambda: not self._tied.running(), RECOVERY_S, f"{self.name} to end after SIGTERM")
        return int(self._tied._process.returncode)

    def exit_code(self, timeout_s: float = START_S) -> int:
        """Wait until it has ended by itself; return its exit code."""
        wait_until(lambda: not self._tied.running(), timeout_s, f"{self.name} to end by itself")
        self._told_to_end = True
        return int(self._tied._process.returncode)

    def suspend(self) -> None:
        """Freeze it with SIGSTOP."""
        self._process.suspend()

    def resume(self) -> None:
        """Let it go on with SIGCONT."""
        self._process.resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tied.kill()


class Pulse:
    """What a service said of itself while it was watched."""

    def __init__(self) -> None:
        self.looks = 0
        self.not_live: list[str] = []
        self.not_ready: list[str] = []

    def assert_live(self) -> None:
        """Fail unless it was asked, and was live each time."""
        assert self.looks
        assert self.not_live == []


@contextmanager
def watched(service: Service) -> Iterator[Pulse]:
    """Ask for `/livez` and `/readyz` again and again for the time of the block; no answer counts as dead."""
    pulse, over = Pulse(), Event()
    url = service.url

    def watch() -> None:
        while not over.wait(_LOOK_S):
            pulse.looks += 1
            for path, reasons in (("/livez", pulse.not_live), ("/readyz", pulse.not_ready)):
                try:
                    status, body = ask(url + path)
                except OSError as error:
                    pulse.not_live.append(f"no answer: {error}")
                else:
                    reasons.extend([] if status == HTTPStatus.OK else [json.loads(body)["reason"]])

    thread = Thread(target=watch, name=f"watch-{service.name}")
    thread.start()
    try:
        yield pulse
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Proof:
    """What `marketfeed verify --json` said."""

    exit_code: int
    said: dict[str, Any]

    @property
    def gaps(self) -> dict[str, list[int]]:
        """The ids that it lists as missing, by stream."""
        gaps: dict[str, list[int]] = {}
        for gap in self.said["gaps"]:
            ids = range(gap["first_id"], gap["last_id"] + 1)
            gaps.setdefault(f"{gap['symbol']}@{gap['channel']}", []).extend(ids)
        return gaps


class Pipeline:
    """One feed. The topics, the group and the shard begin with `name`; leaving the block kills what still runs."""

    def __init__(self, folder: Path, kafka: KafkaSettings, dsn: Secret, name: str) -> None:
        self.truth = folder / "truth"
        self.kafka, self.dsn = kafka, dsn
        self.topics = {"trade": f"{name}.trades", "aggTrade": f"{name}.trades", "bookTicker": f"{name}.book_ticker"}
        self.dead_letter_topic = f"{name}.dlq"
        self.group = name
        self._folder = folder
        self._services: list[Service] = []
        self._websocket_port, self._rest_port = free_port(), free_port()
        self._streams_file = folder / "streams.json"
        self._streams_file.write_text(
            json.dumps({"streams": [f"{symbol}@{channel}" for symbol in SYMBOLS for channel in CHANNELS]})
        )

    @property
    def record_topics(self) -> list[str]:
        """The topics that the consumer reads."""
        return sorted(set(self.topics.values()))

    @property
    def ingestor_settings(self) -> IngestorSettings:
        """How the ingestor is set: everything as it is by default, but for shorter waits."""
        return IngestorSettings(
            feed="test",
            shard="test-0",
            exchange="binance",
            websocket_url=f"ws://127.0.0.1:{self._websocket_port}",
            rest_urls=(f"http://127.0.0.1:{self._rest_port}",),
            streams_file=str(self._streams_file),
            topics=self.topics,
            dead_letter_topic=self.dead_letter_topic,
            backoff_first_s=0.1,
            backoff_max_s=1.0,
            kafka=self.kafka,
            http=_HTTP,
        )

    @property
    def consumer_settings(self) -> ConsumerSettings:
        """How the consumer is set: a short delay of batches, so that tests see rows soon."""
        return ConsumerSettings(
            feed="test",
            sink="postgres",
            sink_type="postgresql",
            topics=tuple(self.record_topics),
            group=self.group,
            dsn=self.dsn,
            dead_letter_topic=self.dead_letter_topic,
            batch_max_delay_ms=200,
            kafka=self.kafka,
            http=_HTTP,
        )

    def create_topics(self) -> None:
        """Create the feed's topics, three partitions each."""
        names = [*self.record_topics, self.dead_letter_topic]
        topics.ensure(self.kafka, [Topic(name, partitions=3, replicas=1, retention_ms=None) for name in names])

    def simulate(self, *options: str, wait_for_streams: int = len(SYMBOLS) * len(CHANNELS)) -> Service:
        """Start the venue; its market begins when every stream is subscribed, and goes on where its truth ends."""
        arguments = {
            "--symbols": ",".join(SYMBOLS),
            "--rate": RATE,
            "--truth": self.truth,
            "--wait-for-streams": wait_for_streams,
            "--websocket-port": self._websocket_port,
            "--rest-port": self._rest_port,
        }
        pairs = [str(part) for pair in arguments.items() for part in pair]
        self._simulator = self._start("simulate", {}, *pairs, *options)
        return self._simulator

    def ingest(self, **changes: Any) -> Service:
        """Start an ingestor; `changes` are fields of its settings."""
        return self._start("ingest", replace(self.ingestor_settings, **changes).to_env())

    def consume(self, **changes: Any) -> Service:
        """Start a consumer; `changes` are fields of its settings."""
        settings = replace(self.consumer_settings, **changes)
        return self._start("consume", {**settings.to_env(), settings.variable("dsn"): settings.dsn})

    def market(self) -> dict[str, Any]:
        """Return what the venue says of its market."""
        rest = self._simulator.listening()["rest"]
        state: dict[str, Any] = json.loads(ask(f"{rest}/simulator/state")[1])
        return state

    def rows(self) -> int:
        """Return how many rows the ledger counts; 0 before there is one."""
        try:
            return int(query(self.dsn, "SELECT coalesce(sum(stored), 0) FROM ledger")[0][0])
        except psycopg2.errors.UndefinedTable:
            return 0

    def wait_for_rows(self, more: int) -> None:
        """Wait until so many more rows are stored than now."""
        target = self.rows() + more

        def stored() -> bool:
            for service in self._services:
                service.assert_alive()
            return self.rows() >= target

        wait_until(stored, RECOVERY_S, f"{more} more rows, {target} in all")

    def end_market(self, simulator: Service, ingestor: Service) -> None:
        """End the venue; the ingestor has read the connection to its end then."""
        assert simulator.terminate() == 0
        wait_until(lambda: ingestor.stats()["active_connections"] == 0, RECOVERY_S, "the end of the connection")

    def finish(self, simulator: Service, ingestor: Service, consumer: Service) -> None:
        """End the market, let everything that was received through to the table, and end the services in order."""
        self.end_market(simulator, ingestor)
        assert ingestor.terminate() == 0
        self.drain(consumer)

    def drain(self, consumer: Service) -> None:
        """Wait until every record of the topics is stored and its offset committed, and end the consumer in order."""
        wait_until(self.consumed, RECOVERY_S, "the consumer to commit the topics' ends")
        assert consumer.terminate() == 0

    def consumed(self) -> bool:
        """Tell whether the group has committed the ends of its topics."""
        try:
            return group_lag(self.kafka, self.group, self.record_topics) == 0
        except Unavailable:  # a group that is just forming has no coordinator yet
            return False

    def committed(self) -> int:
        """Return how many records lie before the group's committed offsets; every topic begins at offset 0."""
        config = consumer_config(self.kafka, self.group, "earliest")
        with closing(Consumer(config)) as asking:
            known = asking.list_topics(timeout=_ANSWER_S).topics
            parts = [TopicPartition(name, number) for name in self.record_topics for number in known[name].partitions]
            return sum(max(0, part.offset) for part in asking.committed(parts, timeout=_ANSWER_S))

    def verify(self) -> Proof:
        """Run `marketfeed verify --json` on the database."""
        done = subprocess.run(
            [sys.executable, "-m", "marketfeed", "verify", "--json"],
            env={**os.environ, ConsumerSettings.variable("dsn"): self.dsn},
            capture_output=True,
            timeout=START_S,
            check=False,
        )
        assert done.returncode in (0, 1), done.stderr.decode()
        return Proof(done.returncode, json.loads(done.stdout))

    def _start(self, command: str, environment: Mapping[str, str], *arguments: str) -> Service:
        name = f"{command}-{len(self._services)}"
        service = Service(name, [command, *arguments], environment, self._folder)
        self._services.append(service)
        return service

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for service in self._services:
            service.__exit__(kind, error, traceback)


def ask(url: str) -> tuple[int, bytes]:
    """Return the status and the body of an answer, whatever the status; raises OSError when there is none."""
    try:
        with urlopen(url, timeout=_ANSWER_S) as answer:  # noqa: S310 - an address of our own processes
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def query(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()
