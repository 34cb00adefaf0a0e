"""Spark as it is provided on one machine: in this process, with the connector, and on a Java that lacks its module."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from marketfeed import topics
from marketfeed.local.components import cache_dir
from marketfeed.local.java import fetch_java
from marketfeed.local.spark import Spark, java_home, provide
from marketfeed.settings import KafkaSettings, Topic

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COUNT = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
heap = spark._jvm.java.lang.Runtime.getRuntime().maxMemory()
print(spark.range(1000).groupBy().count().collect()[0][0], heap // 1048576)
spark.stop()
"""


def test_spark_reads_a_topic(spark: SparkSession, kafka_settings: KafkaSettings, topic_name: str) -> None:
    """The connector is on the class path and fits: values come back as they were written, compressed ones too."""
    servers = kafka_settings.bootstrap_servers
    topics.ensure(kafka_settings, [Topic(topic_name, 1, 1, None)])
    _produce(servers, topic_name, [b"1.10", b"2.20"])
    frame = spark.read.format("kafka").options(**{"kafka.bootstrap.servers": servers, "subscribe": topic_name}).load()
    assert sorted(bytes(row.value) for row in frame.select("value").collect()) == [b"1.10", b"2.20"]


def _produce(servers: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": servers, "compression.type": "lz4"})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(10) == 0


def test_a_java_without_the_vector_module_serves() -> None:
    """A process with the environment that is given runs on the fetched Java, in a heap of the asked size."""
    found = provide()
    bare = Spark(found.python_path, found.jars, java_home(fetch_java(), cache_dir()))
    assert bare.java_home.name.startswith("spark-java-")
    answer = subprocess.run(
        [sys.executable, "-c", COUNT],
        env={**os.environ, **bare.environment(heap="512m")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    count, heap = map(int, answer.stdout.split())
    assert count == 1000
    assert 450 < heap <= 512
