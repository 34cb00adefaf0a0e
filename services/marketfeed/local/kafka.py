"""A real Kafka for one machine: broker and controller (KRaft) in one process on 127.0.0.1.

What does not live here: topics (marketfeed.topics) and clients (marketfeed.kafka).
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from marketfeed.local.components import build, cache_dir, fetch
from marketfeed.local.java import find_java
from marketfeed.local.ports import free_port
from marketfeed.local.process import ServerFailed, TiedProcess, plain_environment
from marketfeed.settings import KafkaSettings

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 15.0
_ASK_EVERY_S = 0.02

# The serial collector starts faster and stays smaller than the default one; at 512 MiB its pauses are short.
_JVM_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC")

_BROKER = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "CLIENTS",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "4194304",  # by default 128 MiB of the heap
    # After kill -9 the controller keeps the old registration for one session: so long a restart waits.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}

_LOGGING = """\
appender.stderr.type=Console
appender.stderr.name=stderr
appender.stderr.target=SYSTEM_ERR
appender.stderr.layout.type=PatternLayout
appender.stderr.layout.pattern=%d{yyyy-MM-dd'T'HH:mm:ss.SSS} %p %c{1}: %m%n
rootLogger.level=info
rootLogger.appenderRef.stderr.ref=stderr
logger.settings.name=org.apache.kafka.common.config.AbstractConfig
logger.settings.level=warn
"""


@dataclass(frozen=True, slots=True)
class _Runtime:
    """What starts the broker's classes: a Java, the jars, and what was prepared from both."""

    java: Path
    jars: tuple[Path, ...]
    prepared: Path | None = None

    def command(self, *options: str) -> list[str]:
        """Return the start of a command line; the class to run and its arguments come after."""
        shared = self.prepared / "classes.jsa" if self.prepared else None
        options = (*options, f"-XX:SharedArchiveFile={shared}") if shared and shared.exists() else options
        return [str(self.java), *_JVM_OPTIONS, *options, "-cp", os.pathsep.join(map(str, self.jars))]


class EmbeddedKafka:
    """One broker whose data, configuration and log live in `directory`; it ends with this process at the latest.

    Use it as a context manager, or call `start()` and `stop()`. Nothing happens before `start()`. A directory that
    holds data of an earlier run is taken up again.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "kafka.log"
        self.data = directory / "data"
        self.properties = directory / "server.properties"
        self._logging = directory / "log4j2.properties"
        self._port = free_port()
        self._controller_port = free_port()
        self._process: TiedProcess | None = None

    @property
    def bootstrap(self) -> str:
        """host:port for clients; the same over restarts."""
        return f"127.0.0.1:{self._port}"

    @property
    def settings(self) -> KafkaSettings:
        """How services reach this broker."""
        return KafkaSettings(bootstrap_servers=self.bootstrap)

    @property
    def pid(self) -> int | None:
        """The process id while the broker runs."""
        return self._process.pid if self._process is not None and self._process.running() else None

    def start(self, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Start and wait until the broker answers a metadata request; fetches what is missing first.

        Raises ServerFailed with the end of the log when the broker dies or does not answer in `timeout_s`, and
        ComponentMissing when something could not be fetched.
        """
        self.start_with(_runtime(), timeout_s)

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """Shut down in order (SIGTERM), after `timeout_s` by force; does nothing when the broker is not running."""
        if self._process is not None:
            self._process.stop([signal.SIGTERM], timeout_s)
            self._process = None

    def kill(self) -> None:
        """End the broker with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """Stop, if it runs, and start again on the same port with the same data."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start_with(self, runtime: _Runtime, timeout_s: float, *options: str) -> None:
        """Start as `start()` does, with a runtime and options of the Java virtual machine that the caller chose."""
        deadline = time.monotonic() + timeout_s
        self.write_configuration()
        if runtime.prepared:
            _format(runtime.prepared, self.data)
        self._process = TiedProcess(
            [*runtime.command(*options, f"-Dlog4j2.configurationFile={self._logging}"), "kafka.Kafka", self.properties],
            log=self.log,
            directory=self.directory,
            environment=plain_environment(),
        )
        try:
            self._wait(self._process, deadline)
        except BaseException:
            self.kill()
            raise

    def write_configuration(self) -> None:
        """Write the broker's properties and the configuration of its log."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.properties.write_text(_properties(self._configuration()))
        self._logging.write_text(_LOGGING)

    def _configuration(self) -> dict[str, str]:
        listener, controller = f"CLIENTS://{self.bootstrap}", f"127.0.0.1:{self._controller_port}"
        return {
            **_BROKER,
            "listeners": f"{listener},CONTROLLER://{controller}",
            "advertised.listeners": listener,
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self.data),
        }

    def _wait(self, process: TiedProcess, deadline: float) -> None:
        admin = AdminClient(
            {
                "bootstrap.servers": self.bootstrap,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 100,
                "log_level": 0,  # a refused connection is what we wait through
            }
        )
        while not _answers(admin):
            if not process.running():
                raise ServerFailed(f"Kafka ended while starting; the end of {self.log}:\n{process.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"Kafka did not answer in time; the end of {self.log}:\n{process.log_tail()}")


def _answers(admin: AdminClient) -> bool:
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except KafkaException:
        time.sleep(_ASK_EVERY_S)
        return False


def _properties(values: Mapping[str, str]) -> str:
    """Return a Java properties file; a backslash is the one character in our values that it would take amiss."""
    return "".join(f"{name}={value}\n" for name, value in values.items()).replace("\\", "\\\\")


def _format(prepared: Path, data: Path) -> None:
    """Make `data` a formatted storage folder, as `kafka-storage format` does but without its second of Java."""
    if (data / "meta.properties").exists():
        return
    data.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(prepared / "bootstrap.checkpoint", data / "bootstrap.checkpoint")
    identity = {"version": "1", "cluster.id": _random_id(), "node.id": "1", "directory.id": _random_id()}
    (data / "meta.properties").write_text(_properties(identity))


def _random_id() -> str:
    """Return a random id as Kafka writes them: 16 bytes in URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _runtime() -> _Runtime:
    """Return what runs the broker, fetched and prepared where this is the first time on this machine."""
    java = find_java()
    bare = _Runtime(java.program, tuple(fetch("kafka", "the real broker that runs on this machine")))
    identity = "\n".join([java.description, *_JVM_OPTIONS, *map(str, bare.jars)])
    folder = cache_dir() / f"kafka-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    return replace(bare, prepared=build(folder, lambda temporary: _prepare(bare, temporary)))


def _prepare(runtime: _Runtime, folder: Path) -> None:
    """Run the broker once and keep in `folder` what makes later starts fast (2.4 s become 1.3 s).

    bootstrap.checkpoint: the feature levels that a freshly formatted storage folder starts with, from Kafka's own tool.
    classes.jsa: the classes in the form that the JVM maps into memory; absent where this JVM cannot write it.
    """
    sys.stderr.write("Preparing Kafka: one start and stop, so that later starts take half the time\n")
    broker = EmbeddedKafka(folder / "scratch")
    broker.write_configuration()
    subprocess.run(
        [*runtime.command(), "kafka.tools.StorageTool", "format", "-t", _random_id(), "-c", broker.properties],
        env=plain_environment(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    shutil.copyfile(broker.data / "bootstrap.checkpoint", folder / "bootstrap.checkpoint")
    broker.start_with(runtime, _START_TIMEOUT_S, f"-XX:ArchiveClassesAtExit={folder / 'classes.jsa'}")
    broker.stop(_START_TIMEOUT_S)
    shutil.rmtree(broker.directory)
