"""Under which accounts a feed's pods run, and what these may ask of the API server.

Ingestors and consumers may ask nothing and hold no token. Only the streaming job's driver starts pods.
"""

from __future__ import annotations

from typing import Any

from marketfeed_operator import names
from marketfeed_operator.objects import (
    COMPONENT_ANALYTICS,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Manifest,
)
from marketfeed_operator.render.context import Context, Owner
from marketfeed_operator.render.metadata import COMPONENT_FEED, child, labels

ANALYTICS_RULES: tuple[dict[str, Any], ...] = (
    {
        "apiGroups": [""],
        "resources": ["pods"],
        "verbs": ["create", "delete", "deletecollection", "get", "list", "watch"],
    },
    {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "verbs": ["create", "deletecollection"],
    },
)
"""What Spark's driver does itself: its executors, and the ConfigMap with their configuration.

The right to delete services and volume claims, which Spark's documentation gives too, goes with two settings of the
job: analytics.SPARK_SETTINGS.
"""


def accounts(context: Context, *, analytics: bool) -> tuple[Manifest, ...]:
    """Return the service accounts; no token is mounted where a pod does not ask for one."""
    named = {COMPONENT_FEED: names.service_account(context.owner.name)}
    if analytics:
        named[COMPONENT_ANALYTICS] = names.analytics(context.owner.name)
    return tuple(
        child(
            SERVICE_ACCOUNT, context.owner, name, labels(context.owner, component), automountServiceAccountToken=False
        )
        for component, name in named.items()
    )


def driver_role(owner: Owner) -> tuple[Manifest, ...]:
    """Return the role of the streaming job's driver, and its binding."""
    name, labelled = names.analytics(owner.name), labels(owner, COMPONENT_ANALYTICS)
    reference = {"apiGroup": ROLE.group, "kind": ROLE.kind, "name": name}
    subject = {"kind": SERVICE_ACCOUNT.kind, "name": name, "namespace": owner.namespace}
    return (
        child(ROLE, owner, name, labelled, rules=list(ANALYTICS_RULES)),
        child(ROLE_BINDING, owner, name, labelled, roleRef=reference, subjects=[subject]),
    )
