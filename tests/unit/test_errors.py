"""What an API server's refusals mean."""

from __future__ import annotations

import json

import pytest

from marketfeed.errors import MarketfeedError, Unavailable
from marketfeed_operator.api.errors import (
    LONGEST_MESSAGE,
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    NotServed,
    Terminating,
    Throttled,
    Unanswered,
    classify,
    presentable,
)


def _status(code: int, reason: str, message: str = "what the server said", **details: object) -> ApiError:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return classify(code, json.dumps(body | ({"details": details} if details else {})).encode(), {})


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (400, "BadRequest", Invalid),
        (401, "Unauthorized", Forbidden),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (405, "MethodNotAllowed", ApiError),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (410, "Expired", Gone),
        (422, "Invalid", Invalid),
        (429, "TooManyRequests", Throttled),
        (500, "InternalError", Unanswered),
        (503, "ServiceUnavailable", Unanswered),
        (504, "Timeout", Unanswered),
    ],
)
def test_each_status_is_an_error_of_its_own(code: int, reason: str, expected: type[ApiError]) -> None:
    """The class, status, reason and the server's own sentence are kept; all are errors of marketfeed."""
    error = _status(code, reason)
    assert type(error) is expected
    assert isinstance(error, MarketfeedError)
    assert (error.status, error.reason, str(error)) == (code, reason, "what the server said")


def test_an_unanswered_call_is_something_unavailable() -> None:
    """Callers that wait for brokers and databases wait for the API server by the same class."""
    assert isinstance(_status(503, "ServiceUnavailable"), Unavailable)


def test_an_unknown_field_is_invalid_though_the_status_is_500() -> None:
    """A field that a built-in kind does not have is refused with status 500 by server-side apply: never retried."""
    error = _status(
        500, "", "failed to create typed patch object (ns/a; /v1, Kind=ConfigMap): .dota: field not declared"
    )
    assert isinstance(error, Invalid)


def test_a_dying_namespace_is_told_from_a_missing_role() -> None:
    """A 403 for a namespace that is being deleted has a class of its own."""
    error = _status(403, "Forbidden", causes=[{"reason": "NamespaceTerminating", "field": "metadata.namespace"}])
    assert isinstance(error, Terminating)


@pytest.mark.parametrize(
    "body",
    [
        b"404 page not found\n",
        b'{"kind":"Status","reason":"NotFound","message":"the server could not find the requested resource"}',
    ],
)
def test_an_unknown_kind_is_told_from_a_missing_object(body: bytes) -> None:
    """A path that the API server does not know means that an API is not installed, and says so."""
    error = classify(404, body, {})
    assert isinstance(error, NotServed)
    assert "not installed" in str(error)


@pytest.mark.parametrize(
    ("headers", "details", "expected"),
    [
        ({"Retry-After": "7"}, {}, 7.0),
        ({"retry-after": "7"}, {"retryAfterSeconds": 3}, 7.0),
        ({}, {"retryAfterSeconds": 3}, 3.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, {}, 1.0),
        ({}, {}, None),
    ],
)
def test_the_asked_wait_is_read(headers: dict[str, str], details: dict[str, int], expected: float | None) -> None:
    """The header counts before the body; a date is taken for a second; without both there is none."""
    body = json.dumps({"kind": "Status", "details": details}).encode()
    assert classify(429, body, headers).retry_after_s == expected


@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b"[1]", b'{"kind":"Pod"}', b"\xff"])
def test_an_answer_that_is_no_status_is_worded_by_its_code(body: bytes) -> None:
    """A proxy's page or a broken body never reaches a message."""
    assert str(classify(502, body, {})) == "the API server answered 502 Bad Gateway"


def test_messages_are_one_bounded_line_without_credentials() -> None:
    """Tokens are blotted out, line ends and endless sentences too."""
    text = presentable("no\n entry: Bearer abc.def-ghi, eyJhbGciOi.eyJzdWIiOi.c2lnbmF0 " + "x" * 1000)
    assert text.startswith("no entry: ***, *** xxx")
    assert len(text) == LONGEST_MESSAGE
