"""What a person would want to be told when a feed's status changes: events, in words.

What does not live here: making a status (status) and posting events (the shell). Figures alone make no event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from marketfeed_operator.objects import Manifest
from marketfeed_operator.spark import STARTED_AGAIN
from marketfeed_operator.status import conditions
from marketfeed_operator.status.conditions import PASSING
from marketfeed_operator.wording import count, shortened

_LONGEST_MESSAGE = 1024  # of an event (events.k8s.io/v1, `note`)
_MOVES_SHOWN = 3  # the status names more

_GOOD = {
    "TopicsReady": "every topic is ready",
    "IngestReady": "every ingestor runs",
    "SinksReady": "every consumer runs",
    "AnalyticsReady": "the streaming job runs",
}
_NO_NEWS = PASSING | {"Suspended"}


@dataclass(frozen=True, slots=True)
class Notice:
    """One event: `reason` is CamelCase, `message` for people."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def transitions(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Notice, ...]:
    """Return what to tell about the way from one status to the next, each thing once."""
    found = (*_suspension(old, new), *_approval(old, new), *_topics(old, new), *_parts(old, new), *_data(old, new))
    found = (*found, *_proof(old, new), *_moves(old, new), *_nudge(old, new), *_summary(old, new))
    first = {(notice.reason, notice.message): notice for notice in reversed(found)}
    return tuple(dict.fromkeys(first[notice.reason, notice.message] for notice in found))


def _notice(type_: Literal["Normal", "Warning"], reason: str, message: str) -> Notice:
    return Notice(type_, reason, shortened(message, _LONGEST_MESSAGE))


def _condition(status: Mapping[str, Any], type_: str) -> Manifest:
    return conditions.of(status, type_) or {}


def _flip(old: Mapping[str, Any], new: Mapping[str, Any], type_: str) -> tuple[Manifest, Manifest] | None:
    """Return both states of a condition whose status or reason changed."""
    before, after = _condition(old, type_), _condition(new, type_)
    same = (before.get("status"), before.get("reason")) == (after.get("status"), after.get("reason"))
    return None if same or not after else (before, after)


def _bad(after: Manifest) -> bool:
    return after["status"] == "False" and after["reason"] not in _NO_NEWS


def _summary(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Notice]:
    """Tell of the whole; what made it unready is told of the part that it is."""
    before, after = _condition(old, "Ready"), _condition(new, "Ready")
    reason, message = after.get("reason"), after.get("message", "")
    if reason == "InvalidSpec" and message != before.get("message"):
        yield _notice("Warning", reason, message)
    elif reason == "Paused" and before.get("reason") != reason:
        yield _notice("Normal", reason, message)
    elif after.get("status") == "True" and before.get("status") != "True":
        yield _notice("Normal", "Ready", message)
    elif before.get("status") == "True" and reason in PASSING:
        yield _notice("Normal", "NotReady", f"{reason}: {message}")


def _parts(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Notice]:
    for type_, sentence in _GOOD.items():
        flip = _flip(old, new, type_)
        if flip is None:
            continue
        before, after = flip
        if _bad(after):
            if type_ != "TopicsReady" or not any(_topics({}, new)):  # told topic by topic
                yield _notice("Warning", after["reason"], after["message"])
        elif after["status"] == "True" and before.get("status") == "False" and _bad(before):
            yield _notice("Normal", type_, f"{sentence} again")


def _topics(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Notice]:
    known = {(topic["name"], topic.get("reason")) for topic in old.get("topics") or () if not topic["ready"]}
    for topic in new.get("topics") or ():
        reason = topic.get("reason", "")
        if not topic["ready"] and reason not in _NO_NEWS and (topic["name"], reason) not in known:
            yield _notice("Warning", reason, f"topic {topic['name']}: {topic.get('message', '')}")


def _data(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Notice]:
    flip = _flip(old, new, "DataFlowing")
    if flip is None:
        return
    before, after = flip
    if before.get("status") == "True" and after["status"] == "False" and after["reason"] != "Suspended":
        yield _notice("Warning", "DataStopped", f"{after['reason']}: {after['message']}")
    elif _bad(after):
        yield _notice("Warning", after["reason"], after["message"])
    elif after["status"] == "True" and before.get("status") != "True":
        yield _notice("Normal", "DataFlowing", after["message"])


def _proof(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Notice]:
    flip = _flip(old, new, "Complete")
    if flip is None:
        return
    before, after = flip
    if after["status"] == "False":
        yield _notice("Warning", "GapsFound", after["message"])
    elif before.get("status") == "False" and after["status"] == "True":
        yield _notice("Normal", "GapsClosed", after["message"])


def _moves(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Notice]:
    begun = new.get("handOver")
    if begun and not old.get("handOver"):
        shown = begun["moves"][:_MOVES_SHOWN]
        more = f" and {rest} more" if (rest := begun["moving"] - len(shown)) > 0 else ""
        yield _notice(
            "Normal", "HandOverStarted", f"{count(begun['moving'], 'stream')} to move: {', '.join(shown)}{more}"
        )
    done = new.get("lastHandOver")
    if done and done != old.get("lastHandOver"):
        yield _finished(done, (old.get("handOver") or {}).get("moves") or ())


def _finished(done: Mapping[str, Any], moves: Any) -> Notice:
    pairs = {move.partition(": ")[2].partition(" (")[0] for move in moves}
    way = ""
    if len(pairs) == 1:
        source, _, target = next(iter(pairs)).partition(" -> ")
        way = f" from {source} to {target}"
    message = f"moved {count(done['moved'], 'stream')}{way} in {done['seconds']} s"
    if not done["broken"]:
        return _notice("Normal", "HandOverFinished", message)
    lost = f"{message}; {count(done['broken'], 'stream')} stood still on the way, because no shard had room for them"
    return _notice("Warning", "HandOverBroken", lost)


def _suspension(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Notice]:
    before, after = _condition(old, "Suspended"), _condition(new, "Suspended")
    if after.get("status") == "True" and before.get("status") != "True":
        yield _notice("Normal", "Suspended", after["message"])
    elif _resumed(before, after):
        yield _notice("Normal", "Resumed", "the feed runs again")


def _resumed(before: Manifest, after: Manifest) -> bool:
    stopped = before.get("status") == "True" or before.get("reason") == "Stopping"
    return stopped and after.get("reason") == "NotSuspended"


def _approval(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Notice]:
    before, after = old.get("approval") or {}, new.get("approval") or {}
    if before and not after:
        yield _notice("Normal", "ApprovalSettled", "no change waits for approval any more")
    elif after and after.get("hash") != before.get("hash"):
        changes = "; ".join(after["changes"])
        yield _notice("Warning", "ApprovalNeeded", f"waits for approval {after['hash']}: {changes}")


def _nudge(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Notice]:
    before, after = _condition(old, "AnalyticsReady"), _condition(new, "AnalyticsReady")
    message = str(after.get("message", ""))
    if STARTED_AGAIN in message and message != before.get("message"):
        yield _notice("Warning", "AnalyticsRestarted", message)
