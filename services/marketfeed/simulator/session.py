"""The websocket protocol of one Binance connection: what a client asks, what it is told, what it is subscribed to.

Sans-I/O: text goes in, a reply and the changes of its subscriptions come out. Source: binance-spot-api-docs,
web-socket-streams.md, "Live Subscribing/Unsubscribing to streams" and its list of error messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

_ID = re.compile(r"[A-Za-z0-9]{1,36}", re.ASCII).fullmatch
_INT64 = 1 << 63


class Endpoint(NamedTuple):
    """What a URL asks for: the streams that it names and the form of their frames."""

    combined: bool
    streams: tuple[str, ...]


def endpoint(target: str) -> Endpoint | None:
    """Read a request target: `/ws/a/b`, `/ws`, `/stream?streams=a/b`, `/stream`; None for any other."""
    path, _, query = target.partition("?")
    path = unquote(path).rstrip("/")
    if path == "/stream":
        named = parse_qs(query).get("streams", [""])[0]
        return Endpoint(combined=True, streams=_distinct(named.split("/")))
    if path == "/ws" or path.startswith("/ws/"):
        return Endpoint(combined=False, streams=_distinct(path[3:].split("/")))
    return None


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, names)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a message leads to: the reply, then the changes; `combined` is set when the form of all frames changes."""

    reply: bytes
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    combined: bool | None = None


class _Refused(Exception):
    """A request that the venue answers with an error."""

    def __init__(self, code: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.body = {"code": code, "msg": message, **more}


@dataclass(slots=True)
class Session:
    """The state of one connection. `streams` keeps the order of subscription."""

    combined: bool
    most_streams: int
    streams: dict[str, None] = field(default_factory=dict)

    def receive(self, text: bytes) -> Outcome:
        """Answer one text message of the client."""
        try:
            request, request_id = _request(text)
            return self._answer(request["method"], request.get("params", []), request_id)
        except _Refused as refused:
            return Outcome(_json(refused.body))

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
                _property(params, 1, request_id)
                return Outcome(_result(self.combined, request_id))

    def _subscribe(self, names: tuple[str, ...], request_id: Any) -> Outcome:
        added = tuple(name for name in names if name not in self.streams)
        if len(self.streams) + len(added) > self.most_streams:
            raise _Refused(4, "Too many subscriptions", id=request_id)
        self.streams.update(dict.fromkeys(added))
        return Outcome(_result(None, request_id), added=added)

    def _set_property(self, params: Any, request_id: Any) -> Outcome:
        _property(params, 2, request_id)
        value = params[1] if len(params) > 1 else None
        if not isinstance(value, bool):
            raise _Refused(1, "Invalid value type: expected Boolean")
        changed = None if value == self.combined else value
        self.combined = value
        return Outcome(_result(None, request_id), combined=changed)


def _request(text: bytes) -> tuple[dict[str, Any], Any]:
    """Parse and check a request's outer form; raises _Refused."""
    try:
        request = json.loads(text)
    except json.JSONDecodeError as error:
        raise _Refused(3, f"Invalid JSON: expected value at line {error.lineno} column {max(1, error.colno)}") from None
    except (UnicodeDecodeError, RecursionError):
        raise _Refused(3, "Invalid JSON: expected value at line 1 column 1") from None
    if not isinstance(request, dict):
        raise _Refused(2, "Invalid request: invalid type, expected a map at line 1 column 0")
    end = f"at line 1 column {len(text)}"
    if "method" not in request:
        raise _Refused(2, f"Invalid request: missing field `method` {end}")
    if request["method"] not in METHODS:
        variants = ", ".join(f"`{method}`" for method in METHODS)
        raise _Refused(2, f"Invalid request: unknown variant `{request['method']}`, expected one of {variants} {end}")
    request_id = request.get("id")
    if not _valid_id(request_id):
        raise _Refused(2, "Invalid request: request ID must be an integer, an alphanumeric string, or null")
    return request, request_id


def _valid_id(request_id: Any) -> bool:
    if isinstance(request_id, str):
        return _ID(request_id) is not None
    if isinstance(request_id, bool):
        return False
    return request_id is None or (isinstance(request_id, int) and -_INT64 <= request_id < _INT64)


def _names(params: Any) -> tuple[str, ...]:
    if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
        raise _Refused(2, "Invalid request: params must be a list of stream names")
    return _distinct(params)


def _property(params: Any, most: int, request_id: Any) -> None:
    """Check that the parameters name the one property there is."""
    if not isinstance(params, list) or not params or not isinstance(params[0], str):
        raise _Refused(2, "Invalid request: property name must be a string")
    if len(params) > most:
        raise _Refused(2, "Invalid request: too many parameters")
    if params[0] != "combined":
        raise _Refused(0, "Unknown property", id=request_id)


def _result(result: Any, request_id: Any) -> bytes:
    return _json({"result": result, "id": request_id})


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
