"""Writes: exactly what is not as it should be, and nothing that belongs to somebody else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from marketfeed_operator.diff import Apply, Cause, Delete, refusals, stamp, writes
from marketfeed_operator.objects import APPLIED, FEED_LABEL, UID_LABEL, Manifest, key_of
from marketfeed_operator.observed import Observed

UID = "u-1"
OWNER = {"apiVersion": "marketfeed.dev/v1alpha1", "kind": "MarketFeed", "name": "spot", "uid": UID, "controller": True}
LABELS = {FEED_LABEL: "spot", UID_LABEL: UID}


def deployment(name: str = "spot-ingestor-0") -> dict[str, Any]:
    """Return a Deployment as we render it."""
    container = {
        "name": "ingestor",
        "image": "marketfeed/services:1",
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "ports": [{"name": "http", "containerPort": 8081}],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - a path in a pod
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {"containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}], "affinity": {}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "feeds", "labels": LABELS, "ownerReferences": [OWNER]},
        "spec": {"replicas": 1, "selector": {"matchLabels": {FEED_LABEL: "spot"}}, "template": {"spec": pod}},
    }


def stored(manifest: Manifest) -> dict[str, Any]:
    """Return the object as an API server gives it back: with fields and marks that are not ours."""
    live = copy.deepcopy(dict(stamp(manifest)))
    live["metadata"].update(uid="o-1", resourceVersion="7", generation=1, managedFields=[], creationTimestamp="now")
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    live["spec"].update(progressDeadlineSeconds=600)
    pod = live["spec"]["template"]["spec"]
    pod.pop("affinity")
    pod.update(dnsPolicy="ClusterFirst", securityContext={})
    pod["containers"][0].update(terminationMessagePath="/dev/termination-log")
    pod["containers"][0]["ports"][0]["protocol"] = "TCP"
    live["status"] = {"readyReplicas": 1}
    return live


def observed(*objects: Manifest) -> Observed:
    """Return what is there beside the feed."""
    feed = {"metadata": {"name": "spot", "namespace": "feeds", "uid": UID}}
    return Observed(feed, children={key_of(found): found for found in objects})


def at(live: Any, *path: Any) -> Any:
    """Return the part of an object at a path."""
    for part in path:
        live = live[part]
    return live


CONTAINER = ("spec", "template", "spec", "containers", 0)


def test_what_is_as_it_should_be_is_not_written() -> None:
    """Defaults of the API server, a status and marks of others are no reason to write."""
    assert writes([deployment()], observed(stored(deployment())), UID) == ()


def test_what_is_missing_is_applied_with_our_mark() -> None:
    """An absent object is applied by our field manager, which takes fields from others."""
    (write,) = writes([deployment()], observed(), UID)
    assert write == Apply(stamp(deployment()), "marketfeed-operator", force=True, why="is missing", cause=Cause.MISSING)


def test_writes_keep_the_order_of_what_is_desired_and_delete_last() -> None:
    """Objects are applied in the order in which they are rendered; what is no longer wanted goes afterwards."""
    gone = stored(deployment("spot-ingestor-9"))
    found = writes([deployment("b"), deployment("a")], observed(gone), UID)
    assert [write.manifest["metadata"]["name"] for write in found if isinstance(write, Apply)] == ["b", "a"]
    assert found[-1] == Delete(key_of(gone), "o-1")


def _others_additions(live: dict[str, Any]) -> None:
    at(live, *CONTAINER, "env").insert(0, {"name": "HTTP_PROXY", "value": "http://proxy"})
    at(live, *CONTAINER, "volumeMounts").append({"name": "token", "mountPath": "/token"})
    at(live, "spec", "template", "spec", "containers").insert(0, {"name": "istio-proxy", "image": "istio"})
    at(live, "spec", "template", "spec", "volumes").append({"name": "token", "emptyDir": {}})
    at(live, "metadata", "labels")["team"] = "data"


def _other_spellings(live: dict[str, Any]) -> None:
    at(live, *CONTAINER, "resources", "requests").update(cpu="1000m", memory="1024Mi")


@pytest.mark.parametrize("change", [_others_additions, _other_spellings])
def test_what_is_not_ours_is_left_alone(change: Callable[[dict[str, Any]], None]) -> None:
    """Containers, variables and labels that others add, and quantities in another spelling, cause no write."""
    live = stored(deployment())
    change(live)
    assert writes([deployment()], observed(live), UID) == ()


def test_items_that_no_field_tells_apart_are_compared_in_their_order() -> None:
    """Two items with the same key are compared by place; an object that has just these is as it should be."""
    wanted = deployment()
    constraints = [{"topologyKey": "zone", "maxSkew": skew, "whenUnsatisfiable": str(skew)} for skew in (1, 2)]
    wanted["spec"]["template"]["spec"]["topologySpreadConstraints"] = constraints
    assert writes([wanted], observed(stored(wanted)), UID) == ()


DRIFTS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "spec.replicas": (("spec", "replicas"), 5),
    "metadata.labels.marketfeed.dev/feed-uid": (("metadata", "labels"), {FEED_LABEL: "spot"}),
    f"metadata.ownerReferences.{UID}": (("metadata", "ownerReferences"), []),
    "spec.template.spec.containers.ingestor.image": ((*CONTAINER, "image"), "mine"),
    "spec.template.spec.containers.ingestor.env.B": ((*CONTAINER, "env"), [{"name": "A", "value": "1"}]),
    "spec.template.spec.containers.ingestor.env.A.value": ((*CONTAINER, "env", 0, "value"), "9"),
    "spec.template.spec.containers.ingestor.resources.limits.memory": ((*CONTAINER, "resources", "limits"), {}),
    "spec.template.spec.containers.ingestor.securityContext.readOnlyRootFilesystem": (
        (*CONTAINER, "securityContext", "readOnlyRootFilesystem"),
        1,
    ),
    "spec.template.spec.containers.ingestor.securityContext.capabilities.drop": (
        (*CONTAINER, "securityContext", "capabilities", "drop"),
        [],
    ),
    "spec.template.spec.volumes.tmp.emptyDir": (("spec", "template", "spec", "volumes"), [{"name": "tmp"}]),
}


@pytest.mark.parametrize(("path", "change"), DRIFTS.items(), ids=list(DRIFTS))
def test_drift_of_any_field_of_ours_is_mended_and_named(path: str, change: tuple[tuple[Any, ...], Any]) -> None:
    """A field of ours that somebody changed or took away is applied again, and the reason names its path."""
    (*outer, last), value = change
    live = stored(deployment())
    at(live, *outer)[last] = value
    (write,) = writes([deployment()], observed(live), UID)
    assert isinstance(write, Apply)
    assert (write.why, write.cause) == (f"{path} is not as it should be", Cause.DRIFTED)


def test_what_we_no_longer_want_is_taken_away() -> None:
    """A field that we applied once and render no more is a reason to write, though all that we render is there."""
    fewer = deployment()
    fewer["spec"]["template"]["spec"]["containers"][0]["env"].pop()
    (write,) = writes([fewer], observed(stored(deployment())), UID)
    assert isinstance(write, Apply)
    assert (write.why, write.cause) == ("has what is no longer wanted", Cause.CHANGED)
    assert (
        write.manifest["metadata"]["annotations"][APPLIED] != stored(deployment())["metadata"]["annotations"][APPLIED]
    )


def test_a_change_of_the_feed_is_told_apart_from_drift() -> None:
    """The reason says "changes" where the feed asks for something new."""
    more = deployment()
    more["spec"]["replicas"] = 2
    (write,) = writes([more], observed(stored(deployment())), UID)
    assert isinstance(write, Apply)
    assert (write.why, write.cause) == ("spec.replicas changes", Cause.CHANGED)


def test_reasons_hold_no_values() -> None:
    """A reason names a field and never what it holds."""
    live = stored(deployment())
    at(live, *CONTAINER, "env", 0)["value"] = "postgresql://user:secret@host"
    (write,) = writes([deployment()], observed(live), UID)
    assert isinstance(write, Apply)
    assert "secret" not in write.why


def test_what_is_on_its_way_out_is_neither_applied_nor_deleted() -> None:
    """An object with a deletionTimestamp is let go first; the event of its end brings it back."""
    live = stored(deployment())
    live["metadata"]["deletionTimestamp"] = "now"
    live["spec"]["replicas"] = 9
    assert writes([deployment()], observed(live), UID) == ()
    assert writes([], observed(live), UID) == ()


def test_only_our_own_objects_are_deleted() -> None:
    """Objects of other feeds, kinds that we never write and topics stay, whatever labels they carry."""
    other = stored(deployment("other"))
    other["metadata"]["labels"] = {UID_LABEL: "u-2"}
    slices = {**stored(deployment("slice")), "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}
    topic = {**stored(deployment("topic")), "apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaTopic"}
    assert writes([], observed(other, slices, topic), UID) == ()


def test_an_unowned_object_of_the_name_is_adopted() -> None:
    """What somebody made by hand under the right name gets our labels and owner."""
    live = stored(deployment())
    live["metadata"].update(labels={}, ownerReferences=[], annotations={})
    (write,) = writes([deployment()], observed(live), UID)
    assert isinstance(write, Apply)
    assert refusals([deployment()], observed(live), UID, "spot") == {}


def test_what_an_earlier_feed_of_the_name_left_is_adopted() -> None:
    """Objects of a feed that was deleted and made again are taken over, though their owner has another uid."""
    live = stored(deployment())
    live["metadata"]["labels"] = {**LABELS, UID_LABEL: "u-0"}
    live["metadata"]["ownerReferences"] = [{**OWNER, "uid": "u-0"}]
    assert len(writes([deployment()], observed(live), UID)) == 1
    assert refusals([deployment()], observed(live), UID, "spot") == {}


def test_what_another_owns_is_not_touched_and_told() -> None:
    """An object of the name with another controller is neither applied nor deleted; a sentence says whose it is."""
    live = stored(deployment())
    live["metadata"]["ownerReferences"] = [{**OWNER, "kind": "Rollout", "name": "canary", "uid": "x"}]
    live["metadata"]["labels"] = {}
    assert writes([deployment()], observed(live), UID) == ()
    assert refusals([deployment()], observed(live), UID, "spot") == {
        key_of(live): "Deployment feeds/spot-ingestor-0 belongs to Rollout canary: rename one of the two"
    }


def test_a_selector_that_cannot_be_changed_is_told() -> None:
    """A Deployment of the name with another selector is left alone, because the API server refuses the change."""
    live = stored(deployment())
    live["spec"]["selector"] = {"matchLabels": {"app": "mine"}}
    assert writes([deployment()], observed(live), UID) == ()
    assert "selects other pods" in refusals([deployment()], observed(live), UID, "spot")[key_of(live)]


def test_a_stamp_depends_on_nothing_but_the_object() -> None:
    """Stamping twice changes nothing, and neither does the order of keys."""
    manifest = deployment()
    backwards = dict(reversed(manifest.items()))
    assert stamp(stamp(manifest)) == stamp(manifest) == stamp(backwards)
    assert APPLIED not in manifest["metadata"].get("annotations", {})
