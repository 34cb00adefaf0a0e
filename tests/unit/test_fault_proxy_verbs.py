"""Which verb the faulty proxy takes a request for: rules and records go by it."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from standins.proxy import verb_of

ONE = "/api/v1/namespaces/spot/pods/a"
ALL = "/apis/marketfeed.dev/v1alpha1/namespaces/spot/marketfeeds"


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [
        ("GET", ONE, "get"),
        ("GET", ALL, "list"),
        ("GET", f"{ONE}/status", "get"),
        ("GET", f"{ALL}?watch=true&resourceVersion=1", "watch"),
        ("GET", f"{ALL}?watch=1", "watch"),
        ("GET", "/api/v1/namespaces", "list"),
        ("GET", "/api/v1/namespaces/spot", "get"),
        ("GET", "/apis/marketfeed.dev/v1alpha1/marketfeeds", "list"),
        ("GET", "/api/v1/nodes/one", "get"),
        ("GET", "/version", "get"),
        ("POST", ALL, "create"),
        ("PUT", f"{ALL}/a", "update"),
        ("PATCH", f"{ALL}/a", "patch"),
        ("DELETE", ONE, "delete"),
    ],
)
def test_a_request_is_what_the_api_server_takes_it_for(method: str, path: str, verb: str) -> None:
    """Method, path and query decide, in both forms of `watch`, with and without a namespace."""
    assert verb_of(make_mocked_request(method, path)) == verb


def test_a_server_side_apply_is_known_by_its_content_type() -> None:
    """A PATCH with an apply patch is `apply`, whatever its encoding."""
    headers = {"Content-Type": "application/apply-patch+yaml"}
    assert verb_of(make_mocked_request("PATCH", f"{ALL}/a", headers=headers)) == "apply"
