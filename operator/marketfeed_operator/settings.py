"""The operator's own settings, read from its environment as every service reads its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from marketfeed.settings import HttpSettings, Settings, setting
from marketfeed_operator.deletion import ANSWER_S
from marketfeed_operator.spark import PATIENCE_S


@dataclass(frozen=True, kw_only=True)
class OperatorSettings(Settings):
    """How this installation runs feeds, and how the operator itself behaves."""

    namespaces: tuple[str, ...] = setting(
        "OPERATOR_WATCH_NAMESPACES",
        "namespaces whose feeds are looked after, comma-separated; all when unset",
        default=(),
    )
    topic_namespaces: tuple[str, ...] = setting(
        "OPERATOR_TOPIC_NAMESPACES",
        "namespaces that KafkaTopics may be written to, beside the feeds' own; only read with the above",
        default=("kafka",),
    )
    namespace: str = setting("OPERATOR_NAMESPACE", "namespace of the operator's Lease", default="marketfeed")
    identity: str | None = setting("OPERATOR_IDENTITY", "name of this replica; the host's by default", default=None)
    services_image: str = setting(
        "OPERATOR_SERVICES_IMAGE", "image of ingestors and consumers", default="marketfeed/services:latest"
    )
    analytics_image: str = setting(
        "OPERATOR_ANALYTICS_IMAGE", "image of the streaming job", default="marketfeed/analytics:latest"
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = setting(
        "OPERATOR_IMAGE_PULL_POLICY", "when nodes fetch images", default="IfNotPresent"
    )
    image_pull_secrets: tuple[str, ...] = setting(
        "OPERATOR_IMAGE_PULL_SECRETS", "secrets with registry credentials, comma-separated", default=()
    )
    bootstrap_servers: str = setting(
        "OPERATOR_BOOTSTRAP_SERVERS",
        "brokers of feeds that name none",
        default="kafka-kafka-bootstrap.kafka:9092",
    )
    workers: int = setting("OPERATOR_WORKERS", "feeds that are worked on at once", default=8, minimum=1)
    # A new feed is about 19 writes, so 500 of them take three minutes. Their pods take longer: the controller manager
    # asks 20 times a second by default. A change that a person makes meanwhile overtakes them.
    writes_per_second: float = setting(
        "OPERATOR_WRITES_PER_SECOND", "API writes per second, on average", default=50.0, minimum=0.1
    )
    write_burst: int = setting("OPERATOR_WRITE_BURST", "API writes that may follow at once", default=100, minimum=1)
    resync_s: float = setting(
        "OPERATOR_RESYNC", "time between two full comparisons with the API server, s", default=300.0, minimum=1
    )
    sample_s: float = setting(
        "OPERATOR_SAMPLE", "time between two looks at a pod's figures, s", default=15.0, minimum=0.1
    )
    status_s: float = setting(
        "OPERATOR_STATUS_INTERVAL",
        "shortest time between two statuses that differ in figures alone, s",
        default=30.0,
        minimum=0,
    )
    analytics_patience_s: float = setting(
        "OPERATOR_ANALYTICS_PATIENCE",
        "how long a streaming job may have ended, or be an old one, before it is started again; others scale, s",
        default=PATIENCE_S,
        minimum=1,
    )
    topic_patience_s: float = setting(
        "OPERATOR_TOPIC_PATIENCE",
        "how long Strimzi may take to let go of a topic that is kept, before its KafkaTopic is left as it is, s",
        default=ANSWER_S,
        minimum=1,
    )
    lease_s: float = setting("OPERATOR_LEASE", "how long a lease lasts without renewal, s", default=10.0, minimum=1)
    request_timeout_s: float = setting(
        "OPERATOR_REQUEST_TIMEOUT", "longest wait for the API server's answer, s", default=15.0, minimum=0.1
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting(
        "OPERATOR_LOG_LEVEL", "the least of what is logged", default="INFO"
    )
    http: HttpSettings = field(default_factory=lambda: HttpSettings(port=8080))
