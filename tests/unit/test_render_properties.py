"""Claims about the objects of every feed that can be planned."""

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from feeds import SYMBOLS, documents, feeds
from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import COMPONENT, FEED_LABEL, MANAGED_BY, UID_LABEL, claims_of, key_of, labels_of
from marketfeed_operator.plan import plan
from marketfeed_operator.spec import parse
from rendered_objects import of_kind, owner_of, planned_holdings, pod_templates, rendered
from restricted import loose_ends, violations

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LETTERED = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

without_deadline = settings(deadline=None)  # the claims are not about time


@without_deadline
@given(feeds())
def test_every_pod_is_restricted(feed: MarketFeed) -> None:
    """Without an overlay no pod asks for what the *restricted* standard forbids, nor writes to its root file system."""
    for place, template in pod_templates(rendered(feed)):
        assert (place, violations(template), loose_ends(template)) == (place, [], [])


@without_deadline
@given(feeds())
def test_no_object_is_rendered_twice_and_all_are_the_same_each_time(feed: MarketFeed) -> None:
    """Keys are unique; a second rendering is equal, and is JSON."""
    objects = rendered(feed)
    assert len({key_of(item) for item in objects}) == len(objects)
    assert json.loads(json.dumps(objects)) == json.loads(json.dumps(rendered(feed)))


@without_deadline
@given(feeds())
def test_every_object_says_whose_it_is(feed: MarketFeed) -> None:
    """A feed's own objects and their pods carry its name and uid, topics the claim of the feed and no name of it."""
    objects, owner = rendered(feed), owner_of(feed)
    for item in objects:
        labels = labels_of(item)
        assert labels[MANAGED_BY] == "marketfeed-operator"
        assert labels[COMPONENT]
        if item["kind"] == "KafkaTopic":
            assert set(claims_of(item)) == {owner.uid}
            assert FEED_LABEL not in labels
        else:
            assert (labels[FEED_LABEL], labels[UID_LABEL]) == (owner.name, owner.uid)
            assert item["metadata"]["namespace"] == owner.namespace


@without_deadline
@given(feeds())
def test_every_name_and_label_is_legal(feed: MarketFeed) -> None:
    """Names fit what their kinds allow, label values 63 characters."""
    for item in rendered(feed):
        name = item["metadata"]["name"]
        longest = 253 if item["kind"] == "KafkaTopic" else 63
        assert len(name) <= longest
        assert SUBDOMAIN.fullmatch(name)
        if item["kind"] in ("Service", "SparkApplication"):
            assert LETTERED.fullmatch(name)
        assert all(LABEL_VALUE.fullmatch(value) for value in labels_of(item).values())


@without_deadline
@given(feeds())
def test_selectors_find_the_pods_of_their_deployment_and_no_others(feed: MarketFeed) -> None:
    """Every pod template is matched by its own Deployment's selector alone."""
    deployments = of_kind(rendered(feed), "Deployment")
    for item in deployments:
        labels = item["spec"]["template"]["metadata"]["labels"].items()
        matching = [other for other in deployments if other["spec"]["selector"]["matchLabels"].items() <= labels]
        assert matching == [item]


@without_deadline
@given(feeds(), st.data())
def test_config_maps_hold_exactly_the_holdings(feed: MarketFeed, data: st.DataObject) -> None:
    """Whatever the hand-over says every shard holds, leaving ones included, stands in the ConfigMaps, and no more."""
    streams = st.frozensets(SYMBOLS.map("{}@trade".format), max_size=5)
    leaving = data.draw(st.dictionaries(st.integers(50, 60).map("leaving-ingestor-{}".format), streams))
    holdings = {**planned_holdings(plan(feed)), **leaving}
    objects = rendered(feed, holdings=holdings)
    held = {
        item["metadata"]["name"]: frozenset(json.loads(item["data"]["streams.json"])["streams"])
        for item in of_kind(objects, "ConfigMap")
        if "streams.json" in item["data"]
    }
    assert held == holdings
    assert set(holdings) <= {item["metadata"]["name"] for item in of_kind(objects, "Deployment")}


@without_deadline
@given(documents(), st.lists(SYMBOLS, min_size=1, max_size=7, unique=True))
def test_other_symbols_change_config_maps_alone(document: dict[str, Any], symbols: list[str]) -> None:
    """Shards that both feeds have differ in their ConfigMap at most, and all other objects do not differ."""
    other = {**document, "spec": {**document["spec"], "symbols": symbols}}
    before, after = ({key_of(item): item for item in rendered(parse(one))} for one in (document, other))
    for key in before.keys() & after.keys():
        assert key.kind == "ConfigMap" or before[key] == after[key]
    assert {key.kind for key in before.keys() ^ after.keys()} <= {"ConfigMap", "Deployment"}


@without_deadline
@given(feeds())
def test_no_secret_value_is_anywhere(feed: MarketFeed) -> None:
    """Variables that hold secrets come from them by name; no object has room for a value."""
    text = json.dumps(rendered(feed))
    assert '"kind": "Secret"' not in text
    for _, template in pod_templates(rendered(feed)):
        spec = template["spec"]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            for variable in container.get("env", []):
                secret = variable["name"].endswith(("_DSN", "_PASSWORD", "_USERNAME"))
                assert secret == ("valueFrom" in variable)


@without_deadline
@given(feeds(suspend=True))
def test_a_suspended_feed_runs_no_pod(feed: MarketFeed) -> None:
    """Every Deployment has 0 replicas, and every streaming job is suspended."""
    objects = rendered(feed)
    assert {item["spec"]["replicas"] for item in of_kind(objects, "Deployment")} == {0}
    assert all(item["spec"]["suspend"] for item in of_kind(objects, "SparkApplication"))
