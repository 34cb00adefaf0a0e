# ruff: noqa: INP001 - a program of a pod, no part of a package
"""`helm test`: the definition is served, somebody holds the Lease, and the operator's Service answers that it is ready.

Runs in a pod under an account of its own. Standard library only; exits 1 with a sentence for what is not right in time.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LEASE = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/marketfeed-operator"
_GROUP = "/apis/marketfeed.dev/v1alpha1"
_FOR_S, _EVERY_S, _ANSWER_S = 90.0, 2.0, 5.0


class Not(Exception):
    """What is not right yet."""


def main() -> int:
    """Make all checks, one after the other; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", required=True, help="where the operator's Lease is")
    parser.add_argument("--service", required=True, help="URL of the operator's Service")
    asked = parser.parse_args()
    deadline = time.monotonic() + _FOR_S
    checks: tuple[Callable[[], str], ...] = (
        served,
        lambda: led(asked.namespace),
        lambda: ready(asked.service),
    )
    passed = [passes(check, deadline) for check in checks]  # one that fails does not hide the next
    return 0 if all(passed) else 1


def passes(check: Callable[[], str], deadline: float) -> bool:
    """Make one check again and again until it passes or it is too late; say which."""
    while True:
        try:
            print("ok:", check(), flush=True)  # noqa: T201 - helm shows it
        except (Not, OSError, ValueError) as problem:
            if time.monotonic() > deadline:
                print("failed:", problem, flush=True)  # noqa: T201
                return False
            time.sleep(_EVERY_S)
        else:
            return True


def served() -> str:
    """Check that the API server serves MarketFeeds, which it does once their definition is established."""
    kinds = [each["kind"] for each in _api(_GROUP, "the definition of MarketFeed is not there").get("resources", [])]
    if "MarketFeed" not in kinds:
        raise Not("the API server does not serve MarketFeed: its definition is not established")
    return "MarketFeed is served"


def led(namespace: str) -> str:
    """Check that a replica holds the Lease and has renewed it in time."""
    spec = _api(_LEASE.format(namespace=namespace), "there is no Lease: no replica has ever led")["spec"]
    holder = spec.get("holderIdentity")
    if not holder:
        raise Not("nobody holds the Lease")
    age_s = (datetime.now(UTC) - datetime.fromisoformat(spec["renewTime"])).total_seconds()
    if age_s > spec["leaseDurationSeconds"]:
        raise Not(f"{holder} has not renewed the Lease for {age_s:.0f} s")
    return f"{holder} leads"


def ready(service: str) -> str:
    """Check that the operator's Service answers that a replica is ready."""
    try:
        _get(f"{service}/readyz")
    except urllib.error.HTTPError as answer:
        raise Not(f"{service}/readyz answers {answer.code}: {answer.read().decode()}") from None
    except OSError as error:
        raise Not(f"{service}/readyz does not answer: {error}") from None
    return f"{service}/readyz answers"


def _api(path: str, missing: str) -> dict[str, Any]:
    """Ask the API server as the pod's account; `missing` is what a 404 means."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}{path}"
    try:
        answer: dict[str, Any] = json.loads(_get(url, (_ACCOUNT / "token").read_text().strip()))
    except urllib.error.HTTPError as error:
        raise Not(missing if error.code == 404 else f"the API server answers {error.code} for {path}") from None  # noqa: PLR2004
    return answer


def _get(url: str, token: str | None = None) -> bytes:
    """Return what `url` answers; no proxy of the environment stands between."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
    context = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt")) if token else None
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    with urllib.request.build_opener(*handlers).open(request, timeout=_ANSWER_S) as answer:
        found: bytes = answer.read()
    return found


if __name__ == "__main__":
    sys.exit(main())
