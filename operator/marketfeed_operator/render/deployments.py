"""The frame of our Deployments: how many pods, whose they are, and how they are replaced."""

from __future__ import annotations

from typing import Any

from marketfeed_operator.objects import DEPLOYMENT, FEED_LABEL, Manifest
from marketfeed_operator.render.context import Context
from marketfeed_operator.render.metadata import child


def deployment(
    context: Context, name: str, labels: dict[str, str], *, part: str, replicas: int, template: dict[str, Any]
) -> Manifest:
    """Return a Deployment whose pods are those of the feed with the label `part`; a suspended feed runs none.

    The feed's uid is not in the selector, which can never change: a feed that is made anew takes its pods over.
    A new pod is up before an old one goes: records that both of them bring are stored once.
    """
    spec = {
        "replicas": 0 if context.plan.suspended else replicas,
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": {label: labels[label] for label in (FEED_LABEL, part)}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": template,
    }
    return child(DEPLOYMENT, context.owner, name, labels, spec=spec)
