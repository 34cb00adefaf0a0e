"""Asks services for their `/stats`. A service that does not answer, or answers nonsense, has said nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

ANSWER_TIMEOUT_S = 1.0


async def fetch(base_url: str) -> Mapping[str, Any]:
    """Return what the service at `base_url` says of itself; empty when it does not answer within a second."""
    return await asyncio.to_thread(_fetch, f"{base_url}/stats")


def _fetch(url: str) -> Mapping[str, Any]:
    try:
        with urlopen(url, timeout=ANSWER_TIMEOUT_S) as answer:  # noqa: S310 - a service of ours on loopback
            stats = json.load(answer)
    except (URLError, HTTPException, OSError, ValueError):
        return {}
    return stats if isinstance(stats, dict) else {}
