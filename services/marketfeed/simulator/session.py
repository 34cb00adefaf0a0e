"""The websocket protocol of one Binance connection: what a client asks, what it is told, what it is subscribed to.

Sans-I/O: text goes in, a reply and the changes of its subscriptions come out. Source: binance-spot-api-docs,
web-socket-streams.md, "Live Subscribing/Unsubscribing to streams" and its list of error messages.

Where the documentation and the venue differ, the venue is followed, as its users have published what it sent them: an
error comes as `{"error": {"code": 2, "msg": ...}, "id": 1}`, of a message only the first 4,096 bytes are read, a name
that cannot be a stream's is refused while one that merely does not exist is accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

from marketfeed.simulator.payloads import MICROSECOND, Form

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

MOST_READ_BYTES = 4096  # of one message; not documented, but several clients ran into it and measured it

_ID = re.compile(r"[A-Za-z0-9_-]{1,36}", re.ASCII).fullmatch  # the venue's own clients send UUIDs, hyphens included
_STREAM = re.compile(r"!?[\w.-]+(@[\w.:+-]+)*").fullmatch
_INT64 = 1 << 63


class Endpoint(NamedTuple):
    """What a URL asks for: the streams that it names and the form of their frames."""

    form: Form
    streams: tuple[str, ...]


def endpoint(target: str) -> Endpoint | None:
    """Read a request target: `/ws/a/b`, `/ws`, `/stream?streams=a/b`, `/stream`; None for any other."""
    path, _, query = target.partition("?")
    path, values = unquote(path).rstrip("/"), parse_qs(query)
    microseconds = values.get("timeUnit", [""])[0] in MICROSECOND
    if path == "/stream":
        named = values.get("streams", [""])[0]
        return Endpoint(Form(combined=True, microseconds=microseconds), _distinct(named.split("/")))
    if path == "/ws" or path.startswith("/ws/"):
        return Endpoint(Form(combined=False, microseconds=microseconds), _distinct(path[3:].split("/")))
    return None


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, names)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a message leads to: the reply, then the changes; `form` is set when the form of all frames changes.

    `fatal`: the connection ends after the reply.
    """

    reply: bytes
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    form: Form | None = None
    fatal: bool = False


class _Refused(Exception):
    """A request that the venue answers with an error."""

    def __init__(self, code: int, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.error = {"code": code, "msg": message}
        self.fatal = fatal


@dataclass(slots=True)
class Session:
    """The state of one connection. `streams` keeps the order of subscription."""

    form: Form
    most_streams: int
    streams: dict[str, None] = field(default_factory=dict)

    def receive(self, text: bytes) -> Outcome:
        """Answer one text message of the client."""
        told: dict[str, Any] = {}  # an error names the request only when its id could be read
        try:
            request = _request(text[:MOST_READ_BYTES])
            request_id = _request_id(request)
            told = {} if request_id is None else {"id": request_id}
            _check_method(request, len(text))
            return self._answer(request["method"], request.get("params", []), request_id)
        except _Refused as refused:
            return Outcome(_json({"error": refused.error} | told), fatal=refused.fatal)

    def _answer(self, method: str, params: Any, request_id: Any) -> Outcome:
        match method:
            case "SUBSCRIBE":
                return self._subscribe(_names(params), request_id)
            case "UNSUBSCRIBE":
                removed = tuple(name for name in _names(params) if name in self.streams)
                for name in removed:
                    del self.streams[name]
                return Outcome(_result(None, request_id), removed=removed)
            case "LIST_SUBSCRIPTIONS":
                return Outcome(_result(list(self.streams), request_id))
            case "SET_PROPERTY":
                return self._set_property(params, request_id)
            case _:
                _property(params, 1)
                return Outcome(_result(self.form.combined, request_id))

    def _subscribe(self, names: tuple[str, ...], request_id: Any) -> Outcome:
        added = tuple(name for name in names if name not in self.streams)
        if len(self.streams) + len(added) > self.most_streams:
            raise _Refused(4, "Too many subscriptions", fatal=True)
        self.streams.update(dict.fromkeys(added))
        return Outcome(_result(None, request_id), added=added)

    def _set_property(self, params: Any, request_id: Any) -> Outcome:
        _property(params, 2)
        value = params[1] if len(params) > 1 else None
        if not isinstance(value, bool):
            raise _Refused(1, "Invalid value type: expected Boolean")
        changed = None if value == self.form.combined else self.form._replace(combined=value)
        self.form = changed or self.form
        return Outcome(_result(None, request_id), form=changed)


def _request(text: bytes) -> dict[str, Any]:
    """Parse a message; raises _Refused."""
    try:
        request = json.loads(text.decode())
    except json.JSONDecodeError as error:
        raise _Refused(3, f"Invalid JSON: {_json_problem(error)}") from None
    except (UnicodeDecodeError, RecursionError):
        raise _Refused(3, "Invalid JSON: expected value at line 1 column 1") from None
    if not isinstance(request, dict):
        raise _Refused(2, "Invalid request: invalid type, expected a map at line 1 column 0")
    return request


def _json_problem(error: json.JSONDecodeError) -> str:
    """Return the venue's words, which are those of Rust's serde_json: a message that ends too early, or another one."""
    text = error.doc
    in_string = error.msg.startswith("Unterminated string")
    if in_string or error.pos >= len(text.rstrip()):
        what, line, column = "string" if in_string else "value", text.count("\n") + 1, len(text.rpartition("\n")[2])
        return f"EOF while parsing a {what} at line {line} column {column}"
    return f"expected value at line {error.lineno} column {error.colno}"


def _request_id(request: dict[str, Any]) -> int | str | None:
    """Return a request's id; raises _Refused."""
    match request.get("id"):
        case str(text) if _ID(text):
            return text
        case int(number) if not isinstance(number, bool) and -_INT64 <= number < _INT64:
            return number
        case None:
            return None
        case _:
            raise _Refused(2, "Invalid request: request ID must be an unsigned integer")


def _check_method(request: dict[str, Any], size: int) -> None:
    """Check that the request names a method; raises _Refused."""
    end = f"at line 1 column {size}"
    if "method" not in request:
        raise _Refused(2, f"Invalid request: missing field `method` {end}")
    if request["method"] not in METHODS:
        variants = ", ".join(f"`{method}`" for method in METHODS)
        raise _Refused(2, f"Invalid request: unknown variant `{request['method']}`, expected one of {variants} {end}")


def _names(params: Any) -> tuple[str, ...]:
    if not isinstance(params, list) or not all(isinstance(name, str) and _STREAM(name) for name in params):
        raise _Refused(2, "Invalid request: invalid stream", fatal=True)
    return _distinct(params)


def _property(params: Any, most: int) -> None:
    """Check that the parameters name the one property there is."""
    if not isinstance(params, list) or not params or not isinstance(params[0], str):
        raise _Refused(2, "Invalid request: property name must be a string")
    if len(params) > most:
        raise _Refused(2, "Invalid request: too many parameters")
    if params[0] != "combined":
        raise _Refused(0, "Unknown property")


def _result(result: Any, request_id: Any) -> bytes:
    return _json({"result": result, "id": request_id})


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
