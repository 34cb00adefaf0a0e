"""A real Kafka for one machine: broker and controller (KRaft) in one process on 127.0.0.1.

What does not live here: topics (marketfeed.topics) and clients (marketfeed.kafka).
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from confluent_kafka import KafkaException

from marketfeed.kafka import admin
from marketfeed.local.components import build, cache_dir, fetch
from marketfeed.local.embedded import START_TIMEOUT_S, EmbeddedServer
from marketfeed.local.java import NO_TRACES, find_java
from marketfeed.local.ports import free_port
from marketfeed.local.process import ServerFailed, TiedProcess, plain_environment
from marketfeed.settings import KafkaSettings

# The serial collector starts faster and stays smaller than the default one; at 512 MiB its pauses are short.
_JVM_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", NO_TRACES)

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
    "group.coordinator.threads": "1",
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


class EmbeddedKafka(EmbeddedServer):
    """One broker; its configuration stands beside its data and its log."""

    name = "Kafka"
    stop_signals = (signal.SIGTERM,)

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.data = self.directory / "data"
        self.properties = self.directory / "server.properties"
        self._logging = self.directory / "log4j2.properties"
        self._port = free_port()
        self._controller_port = free_port()

    @property
    def bootstrap(self) -> str:
        """host:port for clients; the same over restarts."""
        return f"127.0.0.1:{self._port}"

    @property
    def settings(self) -> KafkaSettings:
        """How services reach this broker."""
        return KafkaSettings(bootstrap_servers=self.bootstrap)

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start and wait until the broker answers a metadata request; see EmbeddedServer."""
        self.start_with(_runtime(), timeout_s)

    def start_with(self, runtime: _Runtime, timeout_s: float, *options: str) -> None:
        """Start as `start()` does, with a runtime and options of the Java virtual machine that the caller chose."""
        self.write_configuration()
        if runtime.prepared:
            _format(runtime.prepared, self.data)
        options += (
            f"-Dlog4j2.configurationFile={self._logging}",
            f"-Djava.io.tmpdir={self.directory}",  # where compression libraries are unpacked, and left after kill -9
        )
        process = TiedProcess(
            [*runtime.command(*options), "kafka.Kafka", self.properties],
            log=self.log,
            directory=self.directory,
            environment=plain_environment(),
        )
        self._run(process, timeout_s)

    def answers(self) -> bool:
        """Ask for the cluster's metadata: whether this very broker is registered and open for clients."""
        try:
            socket.create_connection(("127.0.0.1", self._port)).close()  # spares librdkafka, which logs and backs off
            cluster = admin(self.settings).list_topics(timeout=3)
        except (OSError, KafkaException):
            return False
        identity = f"cluster.id={cluster.cluster_id}"
        return bool(cluster.brokers) and identity in (self.data / "meta.properties").read_text().splitlines()

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


def provide() -> None:
    """Find what runs the broker, or fetch and prepare it, so that a later `start()` does not have to.

    Raises ComponentMissing when something could not be fetched.
    """
    _runtime()


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
    _run_storage_tool(runtime, broker.properties)
    shutil.copyfile(broker.data / "bootstrap.checkpoint", folder / "bootstrap.checkpoint")
    broker.start_with(runtime, START_TIMEOUT_S, f"-XX:ArchiveClassesAtExit={folder / 'classes.jsa'}")
    broker.stop(START_TIMEOUT_S)
    shutil.rmtree(broker.directory)


def _run_storage_tool(runtime: _Runtime, properties: Path) -> None:
    """Format the storage folder that `properties` names as Kafka itself does it."""
    command: list[str | Path] = [
        *runtime.command(),
        "kafka.tools.StorageTool",
        "format",
        "-t",
        _random_id(),
        "-c",
        properties,
    ]
    answer = subprocess.run(command, env=plain_environment(), capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ServerFailed(f"Kafka's storage tool failed on {runtime.java}:\n{answer.stderr.strip()}")
