"""What all objects of ours have in common: labels, the owner, and the frame around what each of them says."""

from __future__ import annotations

from typing import Any

from marketfeed_operator.objects import (
    COMPONENT,
    FEED_LABEL,
    INSTANCE,
    MANAGED_BY,
    MANAGER,
    MARKETFEED,
    NAME,
    UID_LABEL,
    Kind,
    Manifest,
)
from marketfeed_operator.render.context import Owner

COMPONENT_FEED = "feed"
"""Component of what belongs to the feed as a whole."""
COMPONENT_TOPIC = "topic"


def common_labels(component: str) -> dict[str, str]:
    """Return the labels that do not say whose the object is."""
    return {MANAGED_BY: MANAGER, NAME: "marketfeed", COMPONENT: component}


def labels(owner: Owner, component: str, **parts: str) -> dict[str, str]:
    """Return the labels of an object of one feed; `parts` are added as they are."""
    return {
        **common_labels(component),
        INSTANCE: owner.name,
        FEED_LABEL: owner.name,
        UID_LABEL: owner.uid,
        **parts,
    }


def child(kind: Kind, owner: Owner, name: str, labelled: dict[str, str], **content: Any) -> Manifest:
    """Return an object in the feed's namespace, which the API server's garbage collector removes with the feed."""
    metadata = {
        "name": name,
        "namespace": owner.namespace,
        "labels": labelled,
        "ownerReferences": [_reference(owner)],
    }
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **content}


def _reference(owner: Owner) -> dict[str, Any]:
    return {
        "apiVersion": MARKETFEED.api_version,
        "kind": MARKETFEED.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        # True would need leave to change the feed's finalizers, and only lets children hold up a foreground deletion.
        "blockOwnerDeletion": False,
    }
