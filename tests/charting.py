"""Charts as helm renders them: objects, refusals and lint, without a cluster and without the user's own helm settings.

What does not live here: what a chart should hold (the tests in tests/charts say it).
"""

from __future__ import annotations

import functools
import json
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from controlplane import ControlPlane, binaries
from controlplane.client import helm_environment
from marketfeed.errors import MarketfeedError

CHARTS = Path(__file__).parents[1] / "charts"
Manifest = dict[str, Any]
Values = Mapping[str, Any]

KUBERNETES = binaries.KUBERNETES_VERSION
HOOK = "helm.sh/hook"
_TIMEOUT_S = 120


class HelmFailed(MarketfeedError):
    """helm answered with an error; the message is what it said."""


class _Dumper(yaml.SafeDumper):
    """Writes what stands in two places twice, as everybody reads it, and text of several lines as a block."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def helm(
    *arguments: str | Path,
    check: bool = True,
    kubeconfig: Path | None = None,
    values: Values | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Run helm with none of the user's repositories, plug-ins and clusters; raises HelmFailed unless `check` is False.

    values: given to it as a file. kubeconfig: the cluster it may talk to; none by default.
    """
    with tempfile.TemporaryDirectory(prefix="marketfeed-helm-") as folder:
        given = _values_file(Path(folder), values)
        answer = subprocess.run(
            [_program(), *arguments, *given],
            capture_output=True,
            text=True,
            env=helm_environment(Path(folder), kubeconfig or Path(folder, "none")),
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    if check and answer.returncode:
        raise HelmFailed(f"helm {' '.join(map(str, arguments))}: {answer.stderr.strip()}")
    return answer


def render(
    chart: Path,
    values: Values | None = None,
    *,
    name: str = "marketfeed",
    namespace: str = "marketfeed",
    api_versions: Sequence[str] = (),
    is_upgrade: bool = False,
) -> list[Manifest]:
    """Return every object of a release in helm's order, hooks and tests last; raises HelmFailed for refused values.

    api_versions: what the cluster serves beside Kubernetes' own, as monitoring.coreos.com/v1/PodMonitor.
    """
    answer = _template(chart, values, name, namespace, api_versions, is_upgrade=is_upgrade)
    return [each for each in yaml.safe_load_all(answer.stdout) if each]


def refusal(chart: Path, values: Values, *, api_versions: Sequence[str] = (), namespace: str = "marketfeed") -> str:
    """Return what helm says to values that it refuses, in one line; fails the test where it takes them."""
    answer = _template(chart, values, "marketfeed", namespace, api_versions, check=False)
    assert answer.returncode, f"helm took {json.dumps(dict(values))}"
    return " ".join(answer.stderr.split())


def lint(chart: Path, values: Values | None = None) -> list[str]:
    """Return what `helm lint --strict` finds wrong or doubtful; nothing for a clean chart."""
    answer = helm("lint", "--strict", chart, check=False, values=values)
    found = [line for line in answer.stdout.splitlines() if line.startswith(("[WARNING]", "[ERROR]"))]
    return found if answer.returncode == 0 or found else [answer.stdout + answer.stderr]


def of_kind(objects: Sequence[Manifest], kind: str) -> list[Manifest]:
    """Return those of one kind."""
    return [each for each in objects if each["kind"] == kind]


def one(objects: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the only object of a kind (and name)."""
    found = [each for each in of_kind(objects, kind) if name in (None, each["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name or ''}: {[each['metadata']['name'] for each in found]}"
    return found[0]


def hooks_of(manifest: Manifest) -> set[str]:
    """Return the moments at which helm makes this object, as pre-delete or test; none for a part of the release."""
    text = (manifest["metadata"].get("annotations") or {}).get(HOOK, "")
    return {part.strip() for part in text.split(",") if part.strip()}


def without_hooks(objects: Sequence[Manifest]) -> list[Manifest]:
    """Return the objects that a release consists of."""
    return [each for each in objects if not hooks_of(each)]


def pod_templates(objects: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield (kind/name, pod template) of everything that makes pods, and the pods themselves."""
    for each in objects:
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] == "Pod":
            yield name, each
        elif each["kind"] == "CronJob":
            yield name, each["spec"]["jobTemplate"]["spec"]["template"]
        elif isinstance(each.get("spec"), dict) and isinstance(each["spec"].get("template"), dict):
            yield name, each["spec"]["template"]


def golden_text(objects: Sequence[Manifest], *, without: Sequence[str] = ()) -> str:
    """Return the objects as one YAML text for a golden file; kinds in `without`, generated elsewhere, are left out."""
    kept = [each for each in objects if each["kind"] not in without]
    return yaml.dump_all(kept, Dumper=_Dumper, sort_keys=False, width=120, explicit_start=True, allow_unicode=True)


@contextmanager
def restricted_namespace(plane: ControlPlane, prefix: str, **labels: str) -> Iterator[str]:
    """Make a namespace that enforces the restricted pod security standard; its end is asked for, and not waited for."""
    name = f"{prefix}-{secrets.token_hex(4)}"
    modes = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": modes | labels}}
    plane.kubectl("create", "-f", "-", input=json.dumps(space))
    try:
        yield name
    finally:
        plane.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@functools.cache  # a machine's own helm is asked for its version each time
def _program() -> Path:
    return binaries.helm()


def _template(
    chart: Path,
    values: Values | None,
    name: str,
    namespace: str,
    api_versions: Sequence[str],
    *,
    is_upgrade: bool = False,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    options = [f"--namespace={namespace}", f"--kube-version={KUBERNETES}"]
    options += [f"--api-versions={each}" for each in api_versions]
    options += ["--is-upgrade"] if is_upgrade else []
    return helm("template", name, chart, *options, values=values, check=check)


def _values_file(folder: Path, values: Values | None) -> list[str]:
    if values is None:
        return []
    path = folder / "values.json"
    path.write_text(json.dumps(values))
    return [f"--values={path}"]
