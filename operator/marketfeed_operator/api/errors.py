"""What an API server's refusal means: a pure reading of its answer into one class of error each.

What does not live here: whether a call is tried again (retry) and sending it (transport, cluster).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from marketfeed.errors import MarketfeedError, Unavailable
from marketfeed_operator.wording import shortened

LONGEST_MESSAGE = 500
_SECRET = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]*")
_SERVER_ERROR = 500
_UNKNOWN_FIELD = "failed to create typed"
"""How a server-side apply with a field that a built-in kind does not have is refused: with status 500, for good."""


class ApiError(MarketfeedError):
    """The API server refused a request.

    `status` is HTTP's (0 when no answer came), `reason` the API's own word, as AlreadyExists; `retry_after_s` is how
    long the server asks to be left alone, None when it does not say.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class NotFound(ApiError):
    """There is no such object, or no such namespace."""


class NotServed(NotFound):
    """The API server does not know this kind: its API is not installed."""


class Conflict(ApiError):
    """The object is not as the request supposes: another version, another uid, or a field that somebody else owns."""


class AlreadyExists(Conflict):
    """An object of this name is there already."""


class Gone(ApiError):
    """What the request goes on from is too old: a list must be started again."""


class Invalid(ApiError):
    """The object breaks its schema or a rule; sending it again will not help."""


class Forbidden(ApiError):
    """The operator may not do this: a role or a token is missing."""


class Terminating(Forbidden):
    """The namespace is being deleted and takes no new objects."""


class Throttled(ApiError):
    """The API server asks for fewer requests."""


class Unanswered(ApiError, Unavailable):
    """The API server could not answer: an error of its own, a timeout or no connection."""


class NotLeader(MarketfeedError):
    """This replica does not hold the lease, so it may not write."""


class LostLeadership(MarketfeedError):
    """The lease could not be renewed in time; another replica may hold it by now."""


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct, rename={"retry_after_s": "retryAfterSeconds"}):
    causes: list[_Cause] = []
    retry_after_s: float | None = None


class _Status(msgspec.Struct):
    """The parts of a `Status` object that we read (meta/v1)."""

    kind: str
    message: str = ""
    reason: str = ""
    details: _Details | None = None


def classify(status: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """Return the error that an answer of `status` (400 or above) stands for.

    The message is the API server's own sentence where it sent one, bounded and without credentials.
    """
    told = _read(body)
    reason = told.reason or _phrase(status).replace(" ", "")
    found = _class_of(status, told, body)
    if found is NotServed:
        message = "the API server does not know this kind of object: its API is not installed"
    else:
        message = presentable(told.message or f"the API server answered {status} {_phrase(status)}")
    return found(status, reason, message, _retry_after_s(told, headers))


def presentable(text: str) -> str:
    """Return `text` in one line of at most 500 characters, credentials blotted out."""
    return shortened(_SECRET.sub("***", " ".join(text.split())), LONGEST_MESSAGE)


def _read(body: bytes) -> _Status:
    """Return the answer's Status; an empty one where the body is something else, as a proxy's page."""
    try:
        told = msgspec.json.decode(body, type=_Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Status("")
    return told if told.kind == "Status" else _Status("")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


_CLASSES: Mapping[int, type[ApiError]] = {
    400: Invalid, 401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone, 422: Invalid, 429: Throttled
}  # fmt: skip


def _class_of(status: int, told: _Status, body: bytes) -> type[ApiError]:
    if status == HTTPStatus.FORBIDDEN and "NamespaceTerminating" in _causes(told):
        return Terminating
    if status == HTTPStatus.NOT_FOUND and _unknown_path(told, body):
        return NotServed
    if told.reason == "AlreadyExists":
        return AlreadyExists
    if told.message.startswith(_UNKNOWN_FIELD):
        return Invalid
    return Unanswered if status >= _SERVER_ERROR else _CLASSES.get(status, ApiError)


def _unknown_path(told: _Status, body: bytes) -> bool:
    """Tell whether the server does not know the kind: it says so in plain text, or without naming an object."""
    return body.startswith(b"404 page not found") or told.message == "the server could not find the requested resource"


def _causes(told: _Status) -> set[str]:
    return {cause.reason for cause in told.details.causes} if told.details else set()


def _retry_after_s(told: _Status, headers: Mapping[str, str]) -> float | None:
    """Return the header's seconds, else the body's. A date is taken for 1 s: there is no clock in here."""
    named = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    if named is not None:
        return float(named) if named.strip().isdecimal() else 1.0
    return told.details.retry_after_s if told.details else None
