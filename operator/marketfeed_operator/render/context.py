"""What every part of the rendering looks at: the feed, its plan, whose objects they are, and what this cluster has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from marketfeed_operator.models import MarketFeed
from marketfeed_operator.objects import Served
from marketfeed_operator.plan import Plan


@dataclass(frozen=True, slots=True)
class Owner:
    """The MarketFeed that the objects belong to, as the API server knows it."""

    name: str
    namespace: str
    uid: str


@dataclass(frozen=True, slots=True)
class Installation:
    """What an installation decides for all feeds: which images run, and how nodes get them."""

    services_image: str = "marketfeed/services:latest"
    analytics_image: str = "marketfeed/analytics:latest"
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """All of it."""

    plan: Plan
    feed: MarketFeed
    owner: Owner
    installation: Installation
    served: Served
    secrets: Mapping[str, str | None]
