"""The MarketFeed resource on a real API server: what it takes, what it refuses and in which words, what it keeps."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from controlplane import ControlPlane
from controlplane.install import install, own
from documents import ABSENT, changed
from feed_files import EXAMPLES, VARIANTS, title
from feeds import documents
from marketfeed_operator import crd
from marketfeed_operator.cel import CHECKS
from marketfeed_operator.spec import parse
from refusals import FIELDS, TAKEN, TOGETHER, Refusal

NAME = "marketfeeds.marketfeed.dev"
COLUMNS = ["NAME", "EXCHANGE", "SYMBOLS", "SHARDS", "RATE", "LAG", "COMPLETE", "READY"]
TIME = "2026-01-02T03:04:05Z"
CONDITION = {
    "type": "Ready",
    "status": "False",
    "reason": "TopicConflict",
    "message": "topic binance.trades is claimed by another feed",
    "lastTransitionTime": TIME,
    "observedGeneration": 1,
}
STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "conditions": [CONDITION, {**CONDITION, "type": "Complete", "status": "Unknown", "reason": "Starting"}],
    "symbols": 3,
    "shards": {
        "desired": 3,
        "ready": 2,
        "streams": 9,
        "summary": "2/3",
        "selector": "marketfeed.dev/feed=spot,app.kubernetes.io/component=ingestor",
    },
    "topics": [
        {"name": "binance.trades", "ready": False, "reason": "TopicConflict", "message": "claimed by another feed"},
        {"name": "binance.dlq", "ready": True},
    ],
    "sinks": [{"name": "timescale", "type": "timescaledb", "desired": 2, "ready": 1}],
    "sinksSummary": "0/1",
    "analytics": "Off",
    "sampled": {"at": TIME, "messagesPerSecond": 4120, "lagSeconds": 0.8, "openGaps": 0},
    "handOver": {"since": TIME, "moving": 1, "moves": ["BTCUSDT@trade: a -> b"]},
    "lastHandOver": {"at": TIME, "seconds": 2.5, "moved": 4, "broken": 0},
    "approval": {"hash": "0123456789abcdef", "changes": ["delete topic binance.trades"]},
    "warnings": ["spec.sinks is empty: records are kept in Kafka alone"],
}
"""Every field that a status can have."""


class Feeds:
    """kubectl in one namespace."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = f"--namespace={namespace}"

    def run(self, *arguments: str, document: Any = None) -> str:
        """Run kubectl, on a document where one is given, and return what it says; raises KubectlFailed."""
        content = None if document is None else json.dumps(document)
        return self.plane.kubectl(*arguments, self.namespace, input=content).stdout

    def apply(self, document: Any) -> None:
        """Apply a document that must be taken."""
        self.run("apply", "--filename=-", document=document)

    def refusal(self, document: Any) -> str:
        """Apply a document that must be refused, and return what kubectl says of it."""
        answer = self.plane.kubectl("apply", "--filename=-", self.namespace, input=json.dumps(document), check=False)
        assert answer.returncode != 0, f"taken: {document}"
        return answer.stderr

    def get(self, name: str) -> dict[str, Any]:
        """Return a feed as the API server keeps it."""
        found: dict[str, Any] = json.loads(self.run("get", "marketfeed", name, "--output=json"))
        return found

    def set_status(self, name: str, status: dict[str, Any]) -> None:
        """Write a status as the operator does, by server-side apply."""
        document = {
            "apiVersion": "marketfeed.dev/v1alpha1",
            "kind": "MarketFeed",
            "metadata": {"name": name},
            "status": status,
        }
        arguments = ("apply", "--server-side", "--subresource=status", "--field-manager=marketfeed-operator")
        self.run(*arguments, "--filename=-", document=document)


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """Start a control plane without an operator: nothing but these tests writes a status."""
    with tempfile.TemporaryDirectory(prefix="marketfeed-test-") as folder, ControlPlane(Path(folder)) as plane:
        install(plane, own())
        yield plane


@pytest.fixture
def feeds(control_plane: ControlPlane, namespace: str) -> Feeds:
    """Return kubectl in a namespace of this test."""
    return Feeds(control_plane, namespace)


@pytest.fixture
def nothing_kept(control_plane: ControlPlane) -> Feeds:
    """Return kubectl in a namespace that all tests share, for what is refused or only tried."""
    return Feeds(control_plane, "default")


def local(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without what only an API server writes, and without its namespace."""
    return {**document, "metadata": {"name": document["metadata"]["name"]}}


def test_the_definition_is_taken_without_a_warning(control_plane: ControlPlane) -> None:
    """It is established, its schema is structural, and kubectl has nothing to say about it."""
    answer = control_plane.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", input=crd.text())
    assert answer.stderr == ""
    found = json.loads(control_plane.kubectl("get", "crd", NAME, "--output=json").stdout)
    conditions = {condition["type"]: condition["status"] for condition in found["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


@pytest.mark.parametrize("example", [*EXAMPLES, *VARIANTS], ids=title)
def test_the_examples_are_taken(feeds: Feeds, example: Path) -> None:
    """Each example is applied as it is, and what is kept of it is the feed that the example means."""
    feeds.run("apply", f"--filename={example}")
    document = yaml.safe_load(example.read_text(encoding="utf-8"))
    assert parse(feeds.get(document["metadata"]["name"])).spec == parse(document).spec


@pytest.mark.parametrize("refusal", [*FIELDS, *TOGETHER])
def test_a_bad_feed_is_refused_with_a_sentence(nothing_kept: Feeds, refusal: Refusal) -> None:
    """Kubectl says of each bad feed what is wrong, in the models' words where the API server's language allows.

    Where a rule is broken, the field that its check names is named.
    """
    answer = nothing_kept.refusal(changed(refusal.changes))
    assert (refusal.server or refusal.words) in answer
    paths = [check.path.replace("[]", "[0]") for check in CHECKS if refusal.rule and check.expresses == refusal.rule]
    assert not paths or any(f"{path}: Invalid value" in answer for path in paths)


def test_what_keeps_to_the_rules_is_taken(nothing_kept: Feeds) -> None:
    """The last value within each rule's limit is no problem for the API server either."""
    items = [changed(changes) for changes in TAKEN]
    taken = {"apiVersion": "v1", "kind": "List", "items": items}
    answer = nothing_kept.run("create", "--dry-run=server", "--filename=-", "--output=name", document=taken)
    assert len(answer.splitlines()) == len(TAKEN)


def test_the_answer_names_the_field_and_nothing_else(nothing_kept: Feeds) -> None:
    """One mistake gives one line: the feed, the field, the sentence."""
    assert nothing_kept.refusal(changed({"spec.symbols": ["BTCUSDT", "ethusdt"]})).splitlines() == [
        (
            'The MarketFeed "spot" is invalid: spec.symbols[1]: Invalid value: "ethusdt": '
            "must be a symbol: the venue's own name in upper case, as in BTCUSDT"
        )
    ]
    assert nothing_kept.refusal(changed({"spec.ingest.streamsPerShard": 2000})).splitlines() == [
        (
            'The MarketFeed "spot" is invalid: spec.ingest.streamsPerShard: Invalid value: '
            "must be at most 1024, which is what binance allows one connection, not 2000"
        )
    ]


def test_several_mistakes_are_told_at_once(nothing_kept: Feeds) -> None:
    """A wrong field does not hide the rules that other fields break."""
    answer = nothing_kept.refusal(
        changed(
            {
                "spec.symbols": ["ethusdt"],
                "spec.ingest": {"rotateAfter": "1 day", "shards": 21},
                "spec.sinks.0.secretRef": ABSENT,
            }
        )
    )
    lines = sorted(line.split(": ")[0] for line in answer.splitlines()[1:])
    assert lines == [
        "* spec.ingest.rotateAfter",
        "* spec.ingest.shards",
        "* spec.sinks[0].secretRef",
        "* spec.symbols[0]",
    ]


def test_the_exchange_of_a_feed_never_changes(feeds: Feeds) -> None:
    """Another venue is another feed: ids, topics and tables of the old one would make no sense."""
    feeds.apply(changed({}))
    sentence = "the exchange of a feed never changes, and is binance here: make another feed for binance_us"
    assert sentence in feeds.refusal(changed({"spec.exchange": "binance_us"}))
    assert feeds.get("spot")["spec"]["exchange"] == "binance"


def test_partitions_only_grow(feeds: Feeds) -> None:
    """More are taken and fewer refused, also where fewer follow from a line that was taken out."""
    feeds.apply(changed({"spec.kafka": {"topics": {"partitions": 6}}}))
    feeds.apply(changed({"spec.kafka": {"topics": {"partitions": 7}}}))
    fewer = changed({"spec.kafka": {"topics": {"partitions": 6}}})
    assert "partitions only grow: must be at least 7, not 6" in feeds.refusal(fewer)
    assert "partitions only grow: must be at least 7, not 3" in feeds.refusal(changed({}))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents())
def test_what_is_kept_is_the_feed_that_the_models_read(nothing_kept: Feeds, document: dict[str, Any]) -> None:
    """Feeds of every shape are taken, and with the API server's defaults they mean what they meant without."""
    kept = nothing_kept.run("create", "--dry-run=server", "--filename=-", "--output=json", document=local(document))
    assert parse(json.loads(kept)).spec == parse(document).spec


def test_an_empty_field_counts_as_left_out(feeds: Feeds) -> None:
    """Nulls are dropped by the API server and by `parse` alike, and the defaults come in their place."""
    document = changed(
        {
            "spec.discovery": None,
            "spec.ingest": {"shards": None, "streamsPerShard": None, "podTemplate": {"spec": None}},
            "spec.kafka": {"topics": None, "producer": {"headers": None}},
            "spec.sinks.0.batch": None,
        }
    )
    feeds.run("create", "--filename=-", document=document)
    assert parse(feeds.get("spot")).spec == parse(document).spec


def test_kubectl_explains_the_fields(control_plane: ControlPlane) -> None:
    """`kubectl explain` shows a sentence for a section and for each of its fields."""
    said = " ".join(control_plane.kubectl("explain", "marketfeed.spec.ingest").stdout.split())
    assert "DESCRIPTION: How streams are spread over shards." in said
    assert "streamsPerShard <integer> Most streams that one shard holds;" in said
    assert "rotateAfter <string> Age at which a connection is replaced by a new one" in said


def test_a_new_feed_was_seen_by_nobody(feeds: Feeds) -> None:
    """Until the operator writes a status, the observed generation is one that no spec has."""
    feeds.apply(changed({}))
    assert feeds.get("spot")["status"] == {"observedGeneration": -1}


def test_a_status_is_kept_whole(feeds: Feeds) -> None:
    """Every field of the status comes back as it was sent, and a feed that has one can be read."""
    feeds.apply(changed({}))
    feeds.set_status("spot", STATUS)
    kept = feeds.get("spot")
    assert kept["status"] == STATUS
    assert parse(kept).spec == parse(changed({})).spec
    assert parse(kept).metadata.uid == kept["metadata"]["uid"]


def test_a_status_that_is_written_anew_loses_what_it_no_longer_says(feeds: Feeds) -> None:
    """The hand-over that is over and the warning that is mended are gone with the next apply."""
    feeds.apply(changed({}))
    feeds.set_status("spot", STATUS)
    later = {name: value for name, value in STATUS.items() if name not in ("handOver", "approval", "warnings")}
    feeds.set_status("spot", later)
    assert feeds.get("spot")["status"] == later


def test_kubectl_get_shows_how_a_feed_is(feeds: Feeds) -> None:
    """The columns are filled from spec and status, under the short name and in `kubectl get all`."""
    feeds.apply(changed({}))
    feeds.set_status("spot", STATUS)
    header, row = feeds.run("get", "mf", "--output=wide").splitlines()
    assert header.split() == [*COLUMNS, "SINKS", "ANALYTICS", "REASON", "AGE"]
    assert " ".join(row.split()[:-1]) == "spot binance 3 2/3 4120 0.8 Unknown False 0/1 Off TopicConflict"
    plain = feeds.run("get", "mf").splitlines()[0]
    assert plain.split() == [*COLUMNS, "AGE"]
    assert "marketfeed.marketfeed.dev/spot" in feeds.run("get", "all", "--output=name").split()


def test_kubectl_scale_sets_the_number_of_shards(feeds: Feeds) -> None:
    """A feed is scaled whether it names a number of shards or not, and not above its own limit."""
    feeds.apply(changed({}))
    feeds.run("scale", "mf/spot", "--replicas=4")
    assert feeds.get("spot")["spec"]["ingest"]["shards"] == 4
    feeds.run("scale", "mf/spot", "--replicas=5")
    assert feeds.get("spot")["spec"]["ingest"]["shards"] == 5
    too_many = feeds.plane.kubectl("scale", "mf/spot", "--replicas=21", feeds.namespace, check=False)
    assert "must be at most 20, which is spec.ingest.maxShards, not 21" in too_many.stderr


def test_an_autoscaler_sees_the_shards_that_exist(feeds: Feeds) -> None:
    """The scale tells how many shards are wanted and are there, and which pods they are."""
    feeds.apply(changed({"spec.ingest": {"shards": 4}}))
    feeds.set_status("spot", STATUS)
    namespace = feeds.namespace.removeprefix("--namespace=")
    path = f"/apis/marketfeed.dev/v1alpha1/namespaces/{namespace}/marketfeeds/spot/scale"
    scale = json.loads(feeds.plane.kubectl("get", f"--raw={path}").stdout)
    assert scale["spec"] == {"replicas": 4}
    assert scale["status"] == {"replicas": 3, "selector": STATUS["shards"]["selector"]}
