"""Reads the API server's audit log: who asked for what, and what came of it. Pure: takes lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

# What the API server is told to log: every request once, when its answer is complete, without its contents; a watch,
# whose answer completes only when it ends, when it starts.
POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ["/readyz*", "/livez*", "/healthz*"]
- level: Metadata
"""

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})

_BAD_REQUEST = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to the API server. at: when it arrived, in UTC; code: the HTTP status of the answer."""

    at: datetime
    user: str
    agent: str
    verb: str
    uri: str
    resource: str  # plural, in lower case, without its group; with its subresource: "deployments/status"
    namespace: str
    name: str
    code: int

    @property
    def is_write(self) -> bool:
        """Whether it changed something, or could have: it was accepted, and not a dry run."""
        return self.verb in WRITES and self.code < _BAD_REQUEST and "dryRun=" not in self.uri

    @classmethod
    def parse(cls, event: dict[str, Any]) -> Self:
        """Read one event of the audit log."""
        target = event.get("objectRef", {})
        parts = [target.get("resource", ""), target.get("subresource", "")]
        return cls(
            at=datetime.fromisoformat(event["requestReceivedTimestamp"]).astimezone(UTC),
            user=event.get("user", {}).get("username", ""),
            agent=event.get("userAgent", ""),
            verb=event["verb"],
            uri=event["requestURI"],
            resource="/".join(part for part in parts if part),
            namespace=target.get("namespace", ""),
            name=target.get("name", ""),
            code=event.get("responseStatus", {}).get("code", 0),
        )


def requests(lines: Iterable[str]) -> Iterator[Request]:
    """Yield what the log's lines tell, a watch once; a last line that is not yet written to its end is left out."""
    for line in lines:
        if not line.endswith("\n"):
            return
        event = json.loads(line)
        if not (event["verb"] == "watch" and event["stage"] == "ResponseComplete"):
            yield Request.parse(event)
