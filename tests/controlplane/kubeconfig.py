"""What a client needs to reach the API server, as text. Pure: files are written elsewhere."""

from __future__ import annotations

import base64
import json

_NAME = "marketfeed"


def render(url: str, ca: str, token: str, namespace: str = "default") -> str:
    """Return a kubeconfig with one context; JSON, which is YAML too.

    ca: the certificates to trust, in PEM; token: a bearer token, so keep the file to its owner.
    """
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": _NAME,
            "clusters": [{"name": _NAME, "cluster": {"server": url, "certificate-authority-data": _base64(ca)}}],
            "users": [{"name": _NAME, "user": {"token": token}}],
            "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": _NAME, "namespace": namespace}}],
        },
        indent=1,
    )


def authority(chain: str) -> str:
    """Return the last certificate of a PEM chain: the authority that signed the others."""
    begin = "-----BEGIN CERTIFICATE-----"
    before, found, last = chain.rpartition(begin)
    if not found:
        raise ValueError(f"no certificate in {before[:40]!r}")
    return found + last


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
