"""The operator's chart without a cluster: what helm renders from it, and what it refuses."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

import restricted
import rule_files
from charting import CHARTS, Manifest, golden_text, hooks_of, lint, of_kind, one, pod_templates, refusal, render
from marketfeed_operator import chart_settings, rbac
from marketfeed_operator.api.leader import LEASE_NAME
from marketfeed_operator.metrics import OperatorMetrics
from marketfeed_operator.settings import OperatorSettings
from operator_chart import CASES, CHART, EVERYTHING, MONITORING, NAMESPACED

HERE = Path(__file__).parent
ROOT = CHARTS.parent


@cache
def rendered(case: str) -> list[Manifest]:
    """Return the objects of one of the cases, which nobody may change."""
    values, api_versions = CASES[case]
    return render(CHART, values, api_versions=api_versions)


def variables(objects: list[Manifest]) -> dict[str, str]:
    """Return the operator's variables as its pods get them; those of the downward API are left out."""
    container = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


@pytest.mark.parametrize("values", [{}, NAMESPACED], ids=["default", "namespaced"])
def test_lint_finds_nothing(values: Mapping[str, Any]) -> None:
    """`helm lint --strict` has nothing to say."""
    assert lint(CHART, values) == []


@pytest.mark.parametrize("case", CASES)
def test_the_objects_are_as_expected(case: str, check_golden: Callable[[Path, str], None]) -> None:
    """The objects equal the committed ones; definition, dashboards and Grafana's alerts have files and are left out."""
    objects = [each for each in rendered(case) if not re.search("-(dashboard|alerting)", each["metadata"]["name"])]
    text = golden_text(objects, without=["CustomResourceDefinition"])
    check_golden(HERE / "golden" / "operator" / f"{case}.yaml", text)


def test_the_versions_follow_the_package() -> None:
    """Chart and application have the version of pyproject.toml, so that the images' default tag is that, too."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_the_known_settings_are_the_operators() -> None:
    """files/settings.yaml is what `make generate` writes, and holds every variable that the operator reads."""
    assert chart_settings.FILE.read_text() == chart_settings.text()
    assert set(yaml.safe_load(chart_settings.text())) == set(OperatorSettings.variables())


def test_the_definition_is_ours_and_is_kept() -> None:
    """The definition says what crds/ says, and that helm leaves it (and every feed) where it is at an uninstall."""
    found = one(rendered("default"), "CustomResourceDefinition")
    ours = yaml.safe_load(next((ROOT / "crds").glob("*.yaml")).read_text())
    assert found["spec"] == ours["spec"]
    assert found["metadata"]["name"] == ours["metadata"]["name"]
    assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert not of_kind(render(CHART, {"crds": {"install": False}}), "CustomResourceDefinition")


@pytest.mark.parametrize(
    ("namespaces", "topics"),
    [([], ["kafka"]), (["spot"], []), (["spot", "futures"], ["kafka", "spot"])],
    ids=["cluster", "one", "several"],
)
def test_the_permissions_are_the_operators_own(namespaces: list[str], topics: list[str]) -> None:
    """Roles, rules, bindings and the account are exactly those that `marketfeed_operator.rbac` makes, in each scope."""
    values = {"watchNamespaces": namespaces, "topicNamespaces": topics}
    objects = [each for each in render(CHART, values, namespace="feeds") if not hooks_of(each)]
    expected = rbac.manifests("marketfeed-operator", "feeds", namespaces, topics)
    assert _granted(objects) == _granted(expected)


def _granted(objects: Any) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    kinds = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): tuple(
            each.get(part) for part in ("rules", "roleRef", "subjects")
        )
        for each in objects
        if each["kind"] in kinds
    }


def test_the_operator_reads_what_the_chart_writes() -> None:
    """Every value arrives in the operator's settings as it was meant, numbers of many digits included."""
    objects = render(CHART, {**EVERYTHING, "watchNamespaces": ["spot", "futures"]}, api_versions=MONITORING)
    settings = OperatorSettings.from_env(variables(objects), lambda path: path)
    assert settings.namespaces == ("spot", "futures")
    assert settings.topic_namespaces == ("kafka",)
    assert (settings.resync_s, settings.sample_s, settings.workers) == (1_000_000, 0.5, 4)
    assert settings.services_image == "marketfeed/services:1.2.3"
    assert settings.analytics_image == "marketfeed/analytics:1.2.3"
    assert (settings.image_pull_policy, settings.image_pull_secrets) == ("Always", ("registry", "mirror"))
    assert settings.bootstrap_servers == "a.example.com:9092,b.example.com:9092"
    assert settings.log_level == "DEBUG"


def test_without_values_the_operator_has_its_own_defaults() -> None:
    """What the chart does not know better, it leaves to the operator: nothing is written twice."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    settings = OperatorSettings.from_env(variables(rendered("default")), lambda path: path)
    images = {name: f"marketfeed/{name}:{version}" for name in ("services", "analytics")}
    assert settings == OperatorSettings(services_image=images["services"], analytics_image=images["analytics"])


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_restricted(case: str) -> None:
    """Operator, hook and test pass the restricted profile, write to no root file system and have bounded memory."""
    templates = dict(pod_templates(rendered(case)))
    assert {name.partition("/")[0] for name in templates} == {"Deployment", "Job", "Pod"}
    for name, template in templates.items():
        assert restricted.violations(template) == [], name
        assert restricted.loose_ends(template) == [], name
        assert all(each["resources"]["limits"]["memory"] for each in template["spec"]["containers"]), name


def test_every_pod_is_under_the_policies() -> None:
    """The policy that denies all but its list selects the operator's pods, its hook's and its test's."""
    objects = rendered("default")
    policy = one(objects, "NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    chosen = policy["spec"]["podSelector"]["matchLabels"].items()
    assert all(chosen <= template["metadata"]["labels"].items() for _, template in pod_templates(objects))


def test_policies_of_feeds_select_what_the_operator_makes() -> None:
    """The labels and ports that policies rely on are those of the pods that the operator renders."""
    expected = yaml.safe_load_all((ROOT / "tests/golden/rendered/binance-production.yaml").read_text())
    workloads = [each for each in expected if each["kind"] in ("Deployment", "SparkApplication")]
    policies = [
        each for each in of_kind(rendered("namespaced"), "NetworkPolicy") if each["metadata"]["namespace"] == "spot"
    ]
    feeds, analytics = sorted(policies, key=lambda each: -len(each["spec"]["ingress"][0].get("ports", ())))
    open_ports = {each["port"] for each in feeds["spec"]["ingress"][0]["ports"]}
    for workload in workloads:
        labels, ports = _pods_of(workload)
        assert feeds["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        assert ports <= open_ports
        is_job = workload["kind"] == "SparkApplication"
        assert (analytics["spec"]["podSelector"]["matchLabels"].items() <= labels.items()) == is_job


def _pods_of(workload: Manifest) -> tuple[dict[str, str], set[int]]:
    """Return the labels of a workload's pods, and the ports that they answer on."""
    if workload["kind"] == "SparkApplication":
        driver = workload["spec"]["driver"]
        template = driver["template"]["spec"]
        return driver["labels"], {port["containerPort"] for each in template["containers"] for port in each["ports"]}
    template = workload["spec"]["template"]
    ports = {port["containerPort"] for each in template["spec"]["containers"] for port in each.get("ports", ())}
    return template["metadata"]["labels"], ports


def test_venues_are_the_internet_and_no_private_address() -> None:
    """By default a feed's pod reaches no address of the cluster's own or the cloud's metadata on the venues' ports."""
    feeds = one(rendered("namespaced"), "NetworkPolicy", "marketfeed-operator-feeds")
    rule = next(each for each in feeds["spec"]["egress"] if {"port": 9443, "protocol": "TCP"} in each["ports"])
    excepted = {block for peer in rule["to"] for block in peer["ipBlock"]["except"]}
    assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"} <= excepted


@pytest.mark.parametrize(("served", "expected"), [((), set()), (MONITORING, {"PodMonitor", "PrometheusRule"})])
def test_monitoring_is_there_where_it_is_served(served: tuple[str, ...], expected: set[str]) -> None:
    """`auto` makes what the cluster serves and nothing else, and dashboards with it."""
    objects = render(CHART, api_versions=served)
    assert {each["kind"] for each in objects} & {"PodMonitor", "PrometheusRule"} == expected
    assert any("dashboard" in each["metadata"]["name"] for each in objects) == bool(expected)
    assert any("alerting" in each["metadata"]["name"] for each in objects) == bool(expected)


def test_dashboards_go_where_grafana_mounts_them() -> None:
    """A Grafana that mounts ConfigMaps finds all in its namespace, by the names that the platform mounts by default."""
    there = {"enabled": True, "namespace": "grafana"}
    objects = of_kind(render(CHART, {"dashboards": there, "alerting": there}), "ConfigMap")
    published = {each["metadata"]["name"]: each for each in objects if each["metadata"]["namespace"] == "grafana"}
    mounted = yaml.safe_load((CHARTS / "marketfeed-platform" / "values.yaml").read_text())["grafana"]
    names = [*mounted["dashboards"]["configMaps"], *mounted["alerting"]["configMaps"]]
    assert sorted(names) == sorted(published)
    kept = {name: text.strip() for each in published.values() for name, text in each["data"].items()}
    boards = {path.name: path.read_text().strip() for path in CHART.glob("files/dashboards/*")}
    rules = {f"marketfeed-{path.name}": path.read_text().strip() for path in CHART.glob("files/alerting/*")}
    assert kept == boards | rules


def test_rules_know_the_operators_metrics() -> None:
    """Every series of the operator that an alert asks for is one that it has; panels are tests/unit's business."""
    rules = [rule_files.alert(file) for file in rule_files.FILES]
    named = {name for each in rules for name in re.findall(r"marketfeed_operator_\w+", each["expr"])}
    assert named
    assert named - _catalogue() == set()


def _catalogue() -> set[str]:
    """Return the names of all series that an operator can have."""
    metrics = OperatorMetrics(CollectorRegistry())
    text = generate_latest(metrics.registry).decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    histograms = {
        f"{name}_{part}" for name, kind in kinds.items() if kind == "histogram" for part in ("bucket", "sum", "count")
    }
    return histograms | {name for name, kind in kinds.items() if kind != "histogram"}


@pytest.mark.parametrize(("watched", "feeds"), [([], ".+"), (["spot", "futures"], "spot|futures")])
def test_the_rules_are_those_that_promtool_tests(watched: list[str], feeds: str) -> None:
    """Helm puts files together and replaces placeholders as the rules' own tests do, for each release its own."""
    objects = render(CHART, {"watchNamespaces": watched}, namespace="mf", api_versions=MONITORING)
    (group,) = one(objects, "PrometheusRule")["spec"]["groups"]
    alerts = [rule_files.alert(file, "mf", feeds) for file in rule_files.FILES]
    assert group["rules"] == rule_files.group(alerts, "mf", feeds)["groups"][0]["rules"]
    text = json.dumps(group)
    assert "RELEASE_NAMESPACE" not in text
    assert "FEED_NAMESPACES" not in text


def test_a_prometheus_without_its_operator_gets_the_same_rules() -> None:
    """The ConfigMap holds what the PrometheusRule holds, in the namespace of that Prometheus."""
    objects = rendered("everything")
    held = one(objects, "ConfigMap", "marketfeed-operator-rules")
    assert held["metadata"]["namespace"] == "kafka"
    assert yaml.safe_load(held["data"]["marketfeed.yaml"]) == {
        "groups": one(objects, "PrometheusRule")["spec"]["groups"]
    }
    assert not [
        each for each in of_kind(rendered("default"), "ConfigMap") if each["metadata"]["name"].endswith("rules")
    ]


def test_an_alert_names_its_runbook_where_somebody_keeps_it() -> None:
    """With a base, each alert has the address of its file; without one, no host is named."""
    (group,) = one(rendered("everything"), "PrometheusRule")["spec"]["groups"]
    for rule in group["rules"]:
        if "alert" in rule:
            name = rule["annotations"]["runbook"].removeprefix("runbooks/")
            assert rule["annotations"]["runbook_url"] == f"https://runbooks.example.com/marketfeed/{name}"
    assert "runbook_url" not in json.dumps(render(CHART, api_versions=MONITORING))


def test_the_test_may_read_the_lease_and_nothing_else() -> None:
    """The account of `helm test` sees one object, by the name that the operator gives it."""
    role = one(rendered("default"), "Role", "marketfeed-operator-test")
    assert role["rules"] == [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [LEASE_NAME],
            "verbs": ["get"],
        }
    ]


def test_an_uninstall_is_held_up_for_a_short_time_only() -> None:
    """The hook works for a bounded time, once, under the operator's account, and goes when it is done."""
    objects = rendered("default")
    job = one(objects, "Job")
    assert hooks_of(job) == {"pre-delete"}
    assert "hook-succeeded" in job["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 150)
    pod = job["spec"]["template"]["spec"]
    operator = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"] == ["marketfeed", "settle", "--timeout", "60s"]
    assert pod["serviceAccountName"] == operator["serviceAccountName"]
    assert pod["containers"][0]["env"] == operator["containers"][0]["env"]
    assert not of_kind(render(CHART, {"settle": {"enabled": False}}), "Job")


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("marketfeed", {}, "marketfeed-operator"),
        ("feeds-operator", {}, "feeds-operator"),
        ("marketfeed", {"fullnameOverride": "other"}, "other"),
        ("a" * 53, {}, "a" * 45),
    ],
)
def test_names_follow_the_release(name: str, values: Mapping[str, Any], expected: str) -> None:
    """Objects are called after the release, once, and short enough for every name that is made from it."""
    objects = render(CHART, values, name=name)
    assert one(objects, "Deployment")["metadata"]["name"] == expected
    names = [each["metadata"]["name"] for each in objects if each["kind"] != "CustomResourceDefinition"]
    assert all(each.startswith(expected) and len(each) <= 63 for each in names)


def test_an_account_that_is_there_is_taken() -> None:
    """With serviceAccount.create false none is made, and pods and bindings have the named one."""
    objects = render(CHART, {"serviceAccount": {"create": False, "name": "mine"}})
    assert [each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")] == ["marketfeed-operator-test"]
    assert one(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "mine"
    assert one(objects, "ClusterRoleBinding")["subjects"][0]["name"] == "mine"


SENTENCES: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 0}, "replicas is 0: nobody would look after feeds. Write 1 or more"),
    ({"podLabels": {"app.kubernetes.io/name": "x"}}, "podLabels.app.kubernetes.io/name is the chart's own"),
    ({"watchNamespaces": ["a", "b", "a"]}, "watchNamespaces names a namespace twice: a, b, a"),
    ({"topicNamespaces": ["a", "a"]}, "topicNamespaces names a namespace twice"),
    ({"networkPolicies": {"feedNamespaces": ["a", "a"]}}, "networkPolicies.feedNamespaces names a namespace twice"),
    (
        {"watchNamespaces": ["a"], "networkPolicies": {"feedNamespaces": ["b"]}},
        'networkPolicies.feedNamespaces names "b", whose feeds are not looked after: add it to watchNamespaces',
    ),
    ({"serviceAccount": {"create": False}}, "serviceAccount.name is empty: name the account that is there"),
    ({"analytics": {"image": {"pullPolicy": "Never"}}}, "the operator has one for both"),
    (
        {"podMonitor": {"enabled": True}},
        "this cluster does not serve PodMonitor: install the Prometheus operator first",
    ),
    ({"rules": {"enabled": "true"}}, "does not serve PrometheusRule"),
    ({"settle": {"timeoutSeconds": 100, "deadlineSeconds": 120}}, "needs 30 s more than its work"),
    ({"settings": {"OPERATOR_RESYNK": 1}}, "Is OPERATOR_RESYNC meant (time between two full comparisons"),
    ({"settings": {"OPERATOR_WORKRES": 1}}, "Is OPERATOR_WORKERS meant"),
    ({"settings": {"OPERATER_LEASE": 1}}, "Is OPERATOR_LEASE meant"),
    ({"settings": {"REQUEST_TIMEOUT": 1}}, "Is OPERATOR_REQUEST_TIMEOUT meant"),
    ({"settings": {"OPERATOR_LEASE": 0.5}}, "settings.OPERATOR_LEASE is 0.5: write 1 or more"),
    ({"settings": {"OPERATOR_WORKERS": "two"}}, 'settings.OPERATOR_WORKERS is "two": write a whole number, as 8'),
    ({"settings": {"OPERATOR_WORKERS": 1.5}}, 'settings.OPERATOR_WORKERS is "1.5": write a whole number'),
    ({"settings": {"OPERATOR_WATCH_NAMESPACES": "a"}}, "write it as the value watchNamespaces"),
    ({"settings": {"HTTP_PORT": 80}}, "settings.HTTP_PORT is the chart's own"),
]


@pytest.mark.parametrize(("values", "sentence"), SENTENCES, ids=lambda value: json.dumps(value)[:60])
def test_what_cannot_work_is_refused_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    """The refusal says which value is wrong and what would be right."""
    assert sentence in refusal(CHART, values)


def test_all_problems_are_said_at_once() -> None:
    """Nobody has to install twice to learn of the second mistake."""
    said = refusal(CHART, {"replicas": 0, "settings": {"OPERATOR_LEASE": 0}, "serviceAccount": {"create": False}})
    assert all(part in said for part in ("replicas is 0", "OPERATOR_LEASE is 0", "serviceAccount.name"))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"replica": 2}, "replica"),
    ({"replicas": "two"}, "replicas"),
    ({"replicas": 1.5}, "replicas"),
    ({"image": "marketfeed/operator:1"}, "image"),
    ({"image": {"repository": ""}}, "repository"),
    ({"image": {"tag": "a b"}}, "tag"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"imagePullSecrets": ["registry"]}, "imagePullSecrets"),
    ({"watchNamespaces": "default"}, "watchNamespaces"),
    ({"watchNamespaces": ["Default"]}, "watchNamespaces"),
    ({"bootstrapServers": "kafka"}, "bootstrapServers"),
    ({"logLevel": "TRACE"}, "logLevel"),
    ({"settings": {"resync": 1}}, "resync"),
    ({"settings": {"OPERATOR_RESYNC": [1]}}, "OPERATOR_RESYNC"),
    ({"crds": {"install": "yes"}}, "install"),
    ({"crds": {"keep": True}}, "keep"),
    ({"rbac": {"make": True}}, "make"),
    ({"terminationGracePeriodSeconds": 0}, "terminationGracePeriodSeconds"),
    ({"networkPolicies": {"kafka": {"ports": [99999]}}}, "ports"),
    ({"networkPolicies": {"kafka": {"ports": []}}}, "ports"),
    ({"networkPolicies": {"extraEgress": []}}, "extraEgress"),
    ({"podMonitor": {"enabled": "maybe"}}, "enabled"),
    ({"podMonitor": {"interval": "half a minute"}}, "interval"),
    ({"settle": {"timeoutSeconds": 3600}}, "timeoutSeconds"),
    ({"fullnameOverride": "Not A Name"}, "fullnameOverride"),
]


@pytest.mark.parametrize(("values", "word"), BAD, ids=lambda value: json.dumps(value)[:60])
def test_the_schema_refuses(values: dict[str, Any], word: str) -> None:
    """What has the wrong type, name or form is refused, and the refusal names it."""
    said = refusal(CHART, values)
    assert "schema" in said
    assert word in said


def test_every_value_is_documented_and_in_the_schema() -> None:
    """A line of values.yaml that sets something has a comment before it, and the schema has a description of it."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert sorted(schema["properties"]) == sorted([*values, "global"])
    assert list(_undescribed(values, schema, "")) == []
    assert list(_uncommented((CHART / "values.yaml").read_text())) == []


def _undescribed(values: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in values.items():
        found = schema.get("properties", {}).get(name)
        if found is None or "description" not in found:
            yield f"{path}{name}"
        elif isinstance(value, dict) and "properties" in found and name != "resources":
            yield from _undescribed(value, found, f"{path}{name}.")


def _uncommented(text: str) -> Iterator[str]:
    """Yield lines that set a value and follow no comment; a section's own line sets none."""
    lines = text.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        sets = re.match(r" *[a-zA-Z]+: .", line)
        inside = "resources" in before or re.match(r" +(requests|limits):", line)
        if sets and not before.strip().startswith("#") and not inside:
            yield line
