"""The chart of what stands around a feed, as helm renders it: no cluster is asked."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from charting import (
    CHARTS,
    KUBERNETES,
    Manifest,
    golden_text,
    helm,
    hooks_of,
    lint,
    of_kind,
    one,
    pod_templates,
    refusal,
    render,
)
from restricted import loose_ends, violations

CHART = CHARTS / "marketfeed-platform"
GOLDEN = Path(__file__).parent / "golden" / "platform"
STRIMZI = ("kafka.strimzi.io/v1/Kafka", "kafka.strimzi.io/v1beta2/Kafka")

COMPONENTS = (
    "kafka",
    "postgresql",
    "cockroachdb",
    "redis",
    "prometheus",
    "grafana",
    "kafkaExporter",
    "kafkaUi",
    "simulator",
)
SMTP = {"enabled": True, "host": "mail.example:587", "from": "feeds@example.com", "to": ["desk@example.com"]}
EVERYTHING: dict[str, Any] = {
    "feedNamespaces": ["default", "trading"],
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "kafka": {"mode": "plain", "config": {"message.max.bytes": 2097152}},
    "postgresql": {"timescale": False, "settings": {"shared_buffers": "256MB"}},
    "cockroachdb": {"enabled": True},
    "redis": {"enabled": True},
    "prometheus": {"scrapeNamespaces": ["marketfeed"], "rules": {"configMaps": ["feeds", "desk"]}},
    "grafana": {
        "dashboards": {"configMaps": ["market-overview", "risk-monitor"]},
        "alerting": {"configMaps": ["alert-rules"]},
        "smtp": {**SMTP, "existingSecret": "smtp"},
    },
    "networkPolicies": {
        "uiPeers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]
    },
    "podDisruptionBudgets": {"enabled": True},
}
MINIMAL: dict[str, Any] = {
    **{name: {"enabled": name in ("kafka", "postgresql")} for name in COMPONENTS},
    "postgresql": {"enabled": True, "persistence": {"enabled": False}},
    "kafka": {"mode": "plain", "persistence": {"enabled": False}},
    "networkPolicies": {"enabled": False},
    "feedNamespaces": [],
}
CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "default": ({}, ()),
    "strimzi": (
        {
            "kafka": {
                "replicas": 3,
                "strimzi": {"tls": True, "version": "4.1.0"},
                "persistence": {"storageClass": "fast"},
            }
        },
        STRIMZI,
    ),
    "everything": (EVERYTHING, ()),
    "minimal": (MINIMAL, ()),
}


def rendered(values: Mapping[str, Any] | None = None, api_versions: tuple[str, ...] = ()) -> list[Manifest]:
    """Return the objects of a release `platform` in the namespace `kafka`."""
    return render(CHART, values or {}, name="platform", namespace="kafka", api_versions=api_versions)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> list[Manifest]:
    """Return the objects of each case in turn."""
    return rendered(*CASES[request.param])


def readable(objects: list[Manifest]) -> list[Manifest]:
    """Return the objects with their Secrets decoded and random passwords replaced by their length."""
    return [_readable(each) if each["kind"] == "Secret" else each for each in objects]


def _readable(secret: Manifest) -> Manifest:
    plain = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    shown = {key: re.sub(r"\b[A-Za-z0-9]{32}\b", "(32 letters and digits)", text) for key, text in plain.items()}
    return {**secret, "data": shown}


@pytest.mark.parametrize("name", CASES)
def test_the_rendered_objects_are_those_of_the_golden_file(
    name: str, check_golden: Callable[[Path, str], None]
) -> None:
    """What the chart makes of four sets of values changes only where somebody has judged the difference."""
    check_golden(GOLDEN / f"{name}.yaml", golden_text(readable(rendered(*CASES[name]))))


@pytest.mark.parametrize("values", [{}, EVERYTHING, MINIMAL])
def test_lint_finds_nothing(values: dict[str, Any]) -> None:
    """`helm lint --strict` has no error and no warning."""
    assert lint(CHART, values) == []


def test_each_pod_is_restricted_and_writes_to_volumes_only(case: list[Manifest]) -> None:
    """Every pod that the chart makes passes the restricted standard and has a root file system that is read-only."""
    templates = dict(pod_templates([each for each in case if not each["apiVersion"].startswith("kafka.strimzi.io")]))
    assert templates
    assert [(name, wrong) for name, pod in templates.items() for wrong in violations(pod) + loose_ends(pod)] == []


def test_strimzis_pods_are_told_to_be_restricted() -> None:
    """The templates of Strimzi's pods and containers say what the restricted standard asks for."""
    kafka = one(rendered(*CASES["strimzi"]), "Kafka")["spec"]
    for template, container in (
        (kafka["kafka"]["template"], "kafkaContainer"),
        (kafka["entityOperator"]["template"], "topicOperatorContainer"),
    ):
        pod = {
            "securityContext": template["pod"]["securityContext"],
            "containers": [{"name": container, **template[container]}],
        }
        assert violations({"spec": pod}) == []


def test_each_container_has_probes_and_a_bound_on_memory(case: list[Manifest]) -> None:
    """A container that serves is probed in all three ways; all ask for CPU and memory; memory is bounded."""
    for name, template in pod_templates(
        [each for each in case if each["kind"] in ("Deployment", "StatefulSet", "Pod")]
    ):
        for container in template["spec"]["containers"] + template["spec"].get("initContainers", []):
            resources = container["resources"]
            assert set(resources["requests"]) == {"cpu", "memory"}, name
            assert "memory" in resources["limits"], name
            if container.get("ports"):
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name


def test_a_small_node_carries_the_platform() -> None:
    """Kafka, PostgreSQL, Redis, simulator and Prometheus ask for at most 600m of CPU and 1 GiB of memory together."""
    wanted = ("kafka", "postgresql", "redis", "simulator", "prometheus")
    values = {"redis": {"enabled": True}, **{name: {"enabled": False} for name in ("grafana", "kafkaUi")}}
    containers = {
        container["name"]: container["resources"]["requests"]
        for _, template in pod_templates(of_kind(rendered(values), "StatefulSet"))
        for container in template["spec"]["containers"]
    }
    assert set(containers) == set(wanted)
    assert sum(int(each["cpu"].removesuffix("m")) for each in containers.values()) <= 600
    assert sum(int(each["memory"].removesuffix("Mi")) for each in containers.values()) <= 1024


def test_images_are_pinned_and_name_no_registry(case: list[Manifest]) -> None:
    """An image is `name:tag` with a tag that is no moving one, and its name's first part is no host."""
    for _, template in pod_templates([each for each in case if each["kind"] in ("Deployment", "StatefulSet", "Pod")]):
        for container in template["spec"]["containers"] + template["spec"].get("initContainers", []):
            name, _, tag = container["image"].partition(":")
            assert tag not in ("", "latest")
            assert re.search(r"\d", tag), container["image"]
            assert "." not in name.split("/")[0], container["image"]


def test_every_pod_is_denied_what_no_policy_allows() -> None:
    """The default policy selects each pod of the chart and allows nothing in and nothing out but names."""
    objects = rendered(EVERYTHING)
    default = one(objects, "NetworkPolicy", "platform-default")["spec"]
    assert default["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in default
    assert {port["port"] for rule in default["egress"] for port in rule["ports"]} == {53}
    for name, template in pod_templates(objects):
        assert default["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items(), name


def test_feeds_reach_brokers_databases_and_the_simulator_and_nothing_else() -> None:
    """The namespaces of feeds stand in the ingress rules of exactly these components, and the operator's in Kafka's."""
    policies = of_kind(rendered(EVERYTHING), "NetworkPolicy")
    allowed = {policy["metadata"]["name"]: set(_namespaces(policy)) for policy in policies}
    feeds = {"default", "trading"}
    assert {name: found for name, found in allowed.items() if found} == {
        "kafka": feeds | {"marketfeed"},
        "postgresql": feeds,
        "cockroachdb": feeds,
        "redis": feeds,
        "simulator": feeds,
    }


def _namespaces(policy: Manifest) -> Iterator[str]:
    for rule in policy["spec"].get("ingress", []):
        for peer in rule.get("from", []):
            for expression in peer.get("namespaceSelector", {}).get("matchExpressions", []):
                yield from expression["values"]


def test_the_uis_are_open_to_nobody_by_default() -> None:
    """Kafka UI, which has no login, and Grafana take connections from the chart's own pods alone."""
    for name in ("kafka-ui", "grafana"):
        rules = one(rendered(), "NetworkPolicy", name)["spec"]["ingress"]
        assert all("namespaceSelector" not in peer for rule in rules for peer in rule["from"])
        assert all(rule["from"] for rule in rules)


def test_without_feeds_nothing_is_open_to_everybody() -> None:
    """No feed namespaces: an empty list would be refused in a selector, and means everywhere to Prometheus."""
    objects = rendered(
        {**EVERYTHING, "feedNamespaces": [], "networkPolicies": {"operatorNamespaces": []}, "prometheus": {}}
    )
    text = json.dumps(of_kind(objects, "NetworkPolicy"))
    assert '"values": []' not in text
    assert '"from": []' not in text
    assert "kubernetes_sd_configs" not in json.dumps(of_kind(objects, "ConfigMap"))


def test_prometheus_may_list_pods_of_feeds_and_nothing_else() -> None:
    """Its permissions are a Role in each namespace that it scrapes; no other pod has a token at all."""
    objects = rendered(EVERYTHING)
    roles = of_kind(objects, "Role")
    assert {role["metadata"]["namespace"] for role in roles} == {"default", "trading", "marketfeed"}
    assert all(
        role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
        for role in roles
    )
    assert not of_kind(objects, "ClusterRole")
    tokens = {name for name, pod in pod_templates(objects) if pod["spec"]["automountServiceAccountToken"]}
    assert tokens == {"StatefulSet/prometheus"}


def test_prometheus_scrapes_feeds_by_the_operators_labels() -> None:
    """It keeps the containers' port `http` of pods with the label that the operator gives to what belongs to a feed."""
    configuration = yaml.safe_load(one(rendered(), "ConfigMap", "prometheus")["data"]["prometheus.yaml"])
    feeds = next(job for job in configuration["scrape_configs"] if job["job_name"] == "feeds")
    discovery = feeds["kubernetes_sd_configs"][0]
    assert discovery["namespaces"] == {"names": ["default"]}
    assert discovery["selectors"] == [{"role": "pod", "label": "marketfeed.dev/feed"}]
    assert feeds["relabel_configs"][0]["regex"] == "marketfeed;http;Running"


def test_passwords_stand_in_secrets_only(case: list[Manifest]) -> None:
    """No generated password is in any object but a Secret."""
    secrets_ = of_kind(case, "Secret")
    passwords = {
        base64.b64decode(value).decode()
        for secret in secrets_
        if secret["metadata"]["name"].endswith("-auth")
        for key, value in secret["data"].items()
        if "password" in key
    }
    others = json.dumps([each for each in case if each["kind"] != "Secret"])
    assert passwords
    assert all(len(password) == 32 and password.isalnum() for password in passwords)
    assert not any(password in others for password in passwords)


def test_a_feeds_dsn_holds_the_generated_password() -> None:
    """The Secrets of feeds give the address, the user and the same password that the servers get."""
    objects = rendered(EVERYTHING)
    auth = {name: _password(objects, f"{name}-auth") for name in ("postgresql", "redis", "cockroachdb")}
    for namespace in ("default", "trading"):
        mine = [each for each in of_kind(objects, "Secret") if each["metadata"]["namespace"] == namespace]
        found = {each["metadata"]["name"]: _readable_data(each) for each in mine}
        assert found == {
            "timescale": {"dsn": f"postgresql://marketfeed:{auth['postgresql']}@postgresql.kafka:5432/marketfeed"},
            "redis": {"url": f"redis://:{auth['redis']}@redis.kafka:6379/0"},
            "cockroachdb": {
                "dsn": f"postgresql://marketfeed:{auth['cockroachdb']}@cockroachdb.kafka:26257/marketfeed?sslmode=require"
            },
        }


def _readable_data(secret: Manifest) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def _password(objects: list[Manifest], name: str) -> str:
    return _readable_data(one(objects, "Secret", name))["password"]


def test_a_secret_of_ones_own_replaces_the_generated_one() -> None:
    """With existingSecret no password is generated, and the servers read the named Secret."""
    values = {
        name: {"enabled": True, "existingSecret": "mine"} for name in ("postgresql", "redis", "cockroachdb", "grafana")
    }
    objects = rendered(values)
    assert of_kind(objects, "Secret") == []
    assert set(re.findall(r'"secretName": "([^"]*)"', json.dumps(objects))) == {"mine"}
    assert set(re.findall(r'"secretKeyRef": {"name": "([^"]*)"', json.dumps(objects))) == {"mine"}


def test_volume_claims_hold_nothing_that_changes() -> None:
    """A StatefulSet's claims cannot be changed, so that they carry neither the chart's nor the product's version."""
    for each in of_kind(rendered(EVERYTHING), "StatefulSet"):
        text = json.dumps(each["spec"]["volumeClaimTemplates"])
        assert "version" not in text
        assert "helm.sh" not in text
        assert "storageClassName" not in text


def test_without_strimzi_the_broker_answers_by_strimzis_name() -> None:
    """The address is the operator's default in both modes: here a Service of the name that Strimzi gives."""
    assert one(rendered(), "Service", "kafka-kafka-bootstrap")["spec"]["ports"][0]["port"] == 9092
    strimzi = rendered(*CASES["strimzi"])
    assert one(strimzi, "Kafka")["metadata"]["name"] == "kafka"
    assert not any(each["metadata"]["name"] == "kafka-kafka-bootstrap" for each in of_kind(strimzi, "Service"))


@pytest.mark.parametrize(
    ("served", "expected"),
    [(STRIMZI, "kafka.strimzi.io/v1"), (STRIMZI[1:], "kafka.strimzi.io/v1beta2"), ((), None)],
)
def test_auto_takes_the_newest_version_of_strimzi_that_is_served(served: tuple[str, ...], expected: str | None) -> None:
    """V1 before v1beta2; a plain broker where neither is there."""
    objects = rendered({}, served)
    found = [each["apiVersion"] for each in objects if each["kind"] in ("Kafka", "KafkaNodePool")]
    assert found == ([expected] * 2 if expected else [])
    assert any(each["metadata"]["name"] == "kafka" for each in of_kind(objects, "StatefulSet")) is (expected is None)


@pytest.mark.parametrize(("replicas", "copies", "in_sync"), [(1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 3, 2)])
def test_copies_follow_the_number_of_brokers(replicas: int, copies: int, in_sync: int) -> None:
    """As many copies as brokers, at most three, and one of them may be away."""
    config = one(rendered({"kafka": {"replicas": replicas}}, STRIMZI), "Kafka")["spec"]["kafka"]["config"]
    assert config["default.replication.factor"] == config["offsets.topic.replication.factor"] == copies
    assert config["min.insync.replicas"] == config["transaction.state.log.min.isr"] == in_sync
    assert config["auto.create.topics.enable"] is False


def test_numbers_reach_the_servers_as_they_were_written() -> None:
    """Kafka, PostgreSQL and the simulator get a large number in digits, never as 1e+06, and a fraction as it is."""
    values = {
        "kafka": {"mode": "plain", "config": {"message.max.bytes": 2097152, "log.cleaner.min.cleanable.ratio": 0.25}},
        "postgresql": {"settings": {"work_mem": 1048576, "random_page_cost": 1.5, "jit": False}},
        "simulator": {"rate": 1000000},
    }
    objects = rendered(values)
    broker = one(objects, "ConfigMap", "kafka-broker")["data"]["server.properties"].splitlines()
    assert {"message.max.bytes=2097152", "log.cleaner.min.cleanable.ratio=0.25"} <= set(broker)
    database = one(objects, "StatefulSet", "postgresql")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"work_mem=1048576", "random_page_cost=1.5", "jit=false"} <= set(database)
    simulator = one(objects, "StatefulSet", "simulator")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert "--rate=1000000" in simulator


def test_strimzis_brokers_take_the_same_clients_as_a_plain_one() -> None:
    """Each listener names the peers of the plain broker's policy; without policies there are none."""
    plain = one(rendered({"kafka": {"mode": "plain"}}), "NetworkPolicy", "kafka")["spec"]["ingress"][0]["from"]
    listeners = one(rendered(*CASES["strimzi"]), "Kafka")["spec"]["kafka"]["listeners"]
    assert [listener["networkPolicyPeers"] for listener in listeners] == [plain, plain]
    open_ = one(rendered({"networkPolicies": {"enabled": False}}, STRIMZI), "Kafka")["spec"]["kafka"]["listeners"]
    assert "networkPolicyPeers" not in open_[0]


def test_strimzis_pods_run_where_all_others_do() -> None:
    """nodeSelector, which Strimzi's pods do not have, is an affinity of brokers and Topic Operator; brokers spread."""
    values = {"nodeSelector": {"disk": "fast"}, "kafka": {"replicas": 3}}
    kafka = one(rendered(values, STRIMZI), "Kafka")["spec"]
    for part in (kafka["kafka"], kafka["entityOperator"]):
        wanted = part["template"]["pod"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        expression = {"key": "disk", "operator": "In", "values": ["fast"]}
        assert wanted == {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    spread = kafka["kafka"]["template"]["pod"]["topologySpreadConstraints"][0]
    assert spread["labelSelector"]["matchLabels"]["strimzi.io/name"] == "kafka-kafka"


def test_a_setting_of_strimzis_broker_replaces_the_charts() -> None:
    """What kafka.config says wins, and stands once: a key that stands twice is refused by strict readers of YAML."""
    values = {"kafka": {"config": {"min.insync.replicas": 2}}}
    assert one(rendered(values, STRIMZI), "Kafka")["spec"]["kafka"]["config"]["min.insync.replicas"] == 2
    place = ("--kube-version", KUBERNETES, "--api-versions", STRIMZI[0], "--show-only", "templates/kafka/strimzi.yaml")
    assert helm("template", "platform", CHART, *place, values=values).stdout.count("min.insync.replicas: ") == 1


def test_brokers_elsewhere_are_reached_by_all_that_ask_them() -> None:
    """With kafka.enabled: false, `helm test` too may go to the ports of the brokers that are named."""
    objects = rendered({"kafka": {"enabled": False, "bootstrapServers": "a.example:9093,b.example:9094"}})
    for name in ("kafka-exporter", "kafka-ui", "platform-test"):
        rules = one(objects, "NetworkPolicy", name)["spec"]["egress"]
        assert {port["port"] for rule in rules if "to" not in rule for port in rule["ports"]} == {9093, 9094}, name


def test_ports_of_names_and_of_the_api_server_are_the_clusters() -> None:
    """Where name servers or the API server listen elsewhere, the policies follow."""
    ports = {"dnsPorts": [53, 5353], "apiServerPorts": [16443]}
    objects = rendered({"networkPolicies": ports})
    names = one(objects, "NetworkPolicy", "platform-default")["spec"]["egress"][0]["ports"]
    assert {port["port"] for port in names} == {53, 5353}
    api = one(objects, "NetworkPolicy", "prometheus")["spec"]["egress"][0]
    assert api == {"ports": [{"protocol": "TCP", "port": 16443}]}


def test_no_e_mail_is_sent_unless_somebody_asks_for_it() -> None:
    """By default SMTP is off and there is no contact point; switched on, the address and the policy are provisioned."""
    text = json.dumps(rendered())
    assert '{"name": "GF_SMTP_ENABLED", "value": "false"}' in text
    assert "GF_SMTP_HOST" not in text
    assert "contactPoints" not in text
    mail = yaml.safe_load(one(rendered(EVERYTHING), "ConfigMap", "grafana-provisioning")["data"]["email.yaml"])
    assert mail["contactPoints"][0]["receivers"][0]["settings"]["addresses"] == "desk@example.com"
    (policy,) = mail["policies"]
    assert (policy["receiver"], policy["routes"][0]["receiver"]) == ("email", "email")
    assert mail["contactPoints"][0]["name"] == "email"


def test_grafanas_datasource_is_called_timescaledb() -> None:
    """Dashboards and rules refer to the uid; it reads with a role of its own, and its password is no text of ours."""
    data = one(rendered(), "ConfigMap", "grafana-provisioning")["data"]
    source = yaml.safe_load(data["datasources.yaml"])["datasources"][0]
    assert (source["uid"], source["user"], source["isDefault"]) == ("timescaledb", "grafana", True)
    assert source["secureJsonData"] == {"password": "$READER_PASSWORD"}


def test_the_helm_test_asks_each_component_that_is_there() -> None:
    """One variable for every component that is switched on, in a pod that is no part of the release."""
    pod = one(rendered(EVERYTHING), "Pod")
    assert hooks_of(pod) == {"test"}
    asked = {each["name"] for each in pod["spec"]["containers"][0]["env"] if each["name"].startswith("ASK_")}
    expected = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() for name in COMPONENTS}
    assert {name.removeprefix("ASK_") for name in asked} == expected


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kafka": {"mode": "zookeeper"}}, "kafka/mode': value must be one of 'auto', 'strimzi', 'plain'"),
    ({"kafka": {"mode": "strimzi"}}, "install Strimzi first, or set kafka.mode to plain"),
    ({"kafka": {"mode": "plain", "replicas": 3}}, "kafka.replicas is 3, but a plain broker is always one"),
    ({"kafka": {"replicationFactor": 2}}, "kafka.replicationFactor is 2, but there are 1 brokers"),
    ({"kafka": {"enabled": False}}, "set kafka.bootstrapServers to host:port"),
    ({"kafka": {"heap": {"max": "much"}}}, "kafka/heap/max"),
    ({"kafka": {"user": 0}}, "kafka/user"),
    ({"kafak": {"enabled": False}}, "additional properties 'kafak' not allowed"),
    ({"redis": {"port": 1}}, "additional properties 'port' not allowed"),
    ({"redis": {"maxMemory": "128"}}, "redis/maxMemory"),
    ({"postgresql": {"username": "market-feed"}}, "postgresql/username"),
    ({"postgresql": {"image": {"repository": "mine"}}}, "set postgresql.image.tag too"),
    ({"postgresql": {"persistence": {"size": "ten"}}}, "postgresql/persistence/size"),
    ({"prometheus": {"retention": "forever"}}, "prometheus/retention"),
    ({"simulator": {"rate": 0}}, "simulator/rate"),
    ({"simulator": {"symbols": ["btcusdt"]}}, "simulator/symbols"),
    ({"feedNamespaces": ["Default"]}, "feedNamespaces"),
    ({"grafana": {"smtp": {"enabled": True}}}, "grafana.smtp is enabled without grafana.smtp.host"),
    ({"grafana": {"smtp": {**SMTP, "to": []}}}, "grafana.smtp is enabled without grafana.smtp.to"),
    ({"grafana": {"smtp": {**SMTP, "host": "mail.example"}}}, "grafana/smtp/host"),
    ({"networkPolicies": {"dnsPorts": []}}, "networkPolicies/dnsPorts"),
]


@pytest.mark.parametrize(("values", "sentence"), REFUSED, ids=lambda each: each if isinstance(each, str) else "")
def test_wrong_values_are_refused_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    """What cannot work is refused before anything is installed, by words that name the value."""
    assert sentence in refusal(CHART, values)


def test_the_schema_is_strict_and_knows_every_value() -> None:
    """Every section of values.yaml is an object of the schema without other keys, unless those are the user's own."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert list(_loose(schema, schema, values, "")) == []
    free = {"", "nodeSelector", "kafka.config", "postgresql.settings"}
    assert free >= {path for path in _free(schema, schema, values, "") if "resources." not in path}


def _resolved(root: Any, schema: Any) -> Any:
    return root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _loose(root: Any, schema: Any, values: Any, path: str) -> Iterator[str]:
    """Yield values that the schema does not describe."""
    schema = _resolved(root, schema)
    if not isinstance(values, dict) or "properties" not in schema:
        return
    if schema.get("additionalProperties") is not False:
        yield path
    for key, value in values.items():
        if key not in schema["properties"]:
            yield f"{path}.{key}"
        else:
            yield from _loose(root, schema["properties"][key], value, f"{path}.{key}")


def _free(root: Any, schema: Any, values: Any, path: str) -> Iterator[str]:
    """Yield objects whose keys the schema leaves open."""
    schema = _resolved(root, schema)
    if not isinstance(values, dict):
        return
    if "properties" not in schema:
        yield path
    for key, value in values.items():
        yield from _free(root, schema.get("properties", {}).get(key, {}), value, f"{path}.{key}".lstrip("."))


def test_the_scripts_pass_shellcheck() -> None:
    """The scripts that the pods run are clean."""
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    scripts = sorted(CHART.glob("files/**/*.sh"))
    assert len(scripts) == 5
    subprocess.run([program, *scripts], check=True)


def test_prometheus_takes_rules_up_from_config_maps() -> None:
    """Those of the operator's chart by name, where they are, and again when they change; none where none is named."""
    held, bare = rendered(), rendered({"prometheus": {"rules": {"configMaps": []}}})
    pod = one(held, "StatefulSet", "prometheus")["spec"]["template"]["spec"]
    (rules,) = (each for each in pod["volumes"] if each["name"] == "rules")
    assert rules["projected"]["sources"] == [{"configMap": {"name": "marketfeed-operator-rules", "optional": True}}]
    (container,) = pod["containers"]
    (folder,) = (each["mountPath"] for each in container["volumeMounts"] if each["name"] == "rules")
    assert _prometheus(held)["rule_files"] == [f"{folder}/*.yaml"]
    assert "--enable-feature=auto-reload-config" in container["args"]
    assert "rule_files" not in _prometheus(bare)
    assert "rules" not in json.dumps(one(bare, "StatefulSet", "prometheus"))


def test_prometheus_gives_series_the_labels_that_rules_count_by() -> None:
    """Feeds' series carry namespace, pod, feed, component, shard and sink, as with the Prometheus operator."""
    (job,) = (each for each in _prometheus(rendered())["scrape_configs"] if each["job_name"] == "feeds")
    made = {each["target_label"] for each in job["relabel_configs"] if "target_label" in each}
    assert made == {"namespace", "pod", "feed", "component", "shard", "sink"}
    assert job["honor_labels"] is True


def _prometheus(objects: list[Manifest]) -> dict[str, Any]:
    """Return Prometheus's configuration."""
    configuration: dict[str, Any] = yaml.safe_load(one(objects, "ConfigMap", "prometheus")["data"]["prometheus.yaml"])
    return configuration
