"""Values of the operator's chart that its tests share: what a user may write, from nothing to everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charting import CHARTS

CHART = CHARTS / "marketfeed-operator"
MONITORING = ("monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule")

NAMESPACED: dict[str, Any] = {
    "watchNamespaces": ["spot", "futures"],
    "topicNamespaces": ["kafka", "spot"],
    "networkPolicies": {"feedNamespaces": ["spot"]},
}
EVERYTHING: dict[str, Any] = {
    "replicas": 3,
    "image": {"repository": "registry.example.com/marketfeed/operator", "tag": "1.2.3", "pullPolicy": "Always"},
    "services": {"image": {"tag": "1.2.3", "pullPolicy": "Always"}},
    "analytics": {"image": {"tag": "1.2.3", "pullPolicy": "Always"}},
    "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}],
    "bootstrapServers": "a.example.com:9092,b.example.com:9092",
    "logLevel": "DEBUG",
    "settings": {"OPERATOR_RESYNC": 1000000, "OPERATOR_SAMPLE": 0.5, "OPERATOR_WORKERS": "4"},
    "serviceAccount": {"name": "feeds", "annotations": {"example.com/role": "feeds"}},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    ],
    "podAnnotations": {"example.com/scrape": "true"},
    "podLabels": {"team": "data"},
    "networkPolicies": {
        "feedNamespaces": ["spot", "futures"],
        "monitoringNamespaces": ["monitoring", "grafana"],
        "apiServer": {"to": [{"ipBlock": {"cidr": "10.77.0.1/32"}}], "ports": [6443]},
        "operator": {
            "extraIngress": [{"from": [{"namespaceSelector": {}}]}],
            "extraEgress": [{"ports": [{"port": 3128}]}],
        },
        "feeds": {
            "extraIngress": [{"from": [{"podSelector": {}}]}],
            "extraEgress": [{"ports": [{"port": 8765}, {"port": 8766}]}],
        },
    },
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s"},
    "rules": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "runbookBaseUrl": "https://runbooks.example.com/marketfeed/",
        "configMap": {"enabled": True, "namespace": "kafka"},
    },
    "dashboards": {"enabled": True, "annotations": {"grafana_folder": "marketfeed"}},
    "alerting": {"enabled": True, "annotations": {"grafana_folder": "marketfeed"}},
}
CASES: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "default": ({}, ()),
    "namespaced": (NAMESPACED, ()),
    "everything": (EVERYTHING, MONITORING),
}
