"""A feed's status, made anew from what is observed and decided; equal to the one before where nothing changed.

What does not live here: what the single conditions say (parts, flow), their bookkeeping (conditions), and events
(notices).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from marketfeed_operator.causes import presentable
from marketfeed_operator.handover import HandOver, Move
from marketfeed_operator.objects import COMPONENT, COMPONENT_INGESTOR, FEED_LABEL, Manifest
from marketfeed_operator.observed import Observed
from marketfeed_operator.outcome import Outcome
from marketfeed_operator.plan import Plan
from marketfeed_operator.status import conditions, flow, parts
from marketfeed_operator.status.flow import Figures, coarse
from marketfeed_operator.status.workloads import Workload
from marketfeed_operator.wording import approve_command

_MOVES_SHOWN = 10
_SENTENCES_SHOWN = 20
_BROKEN = " (let go early)"
_MUCH = 0.2  # of the larger figure
_LAG_STEP_S = 0.5  # a smaller change of lag is none
_LAG_LIMITS_S = (10.0, 60.0)  # crossing one is worth a write, however small the step


def make(observed: Observed, outcome: Outcome, now: datetime, status_s: float) -> Mapping[str, Any]:
    """Return the whole new status (see the schema of `status`).

    Without a plan the status keeps what it said before, beside why there is none; before the first plan every condition
    is Unknown. Figures that change little, or sooner than `status_s` after the last, are left as they were.
    """
    old: Mapping[str, Any] = observed.feed.get("status") or {}
    generation = int(observed.feed["metadata"].get("generation") or 0)
    if outcome.problem is not None:
        given = conditions.written([conditions.invalid(presentable(outcome.problem, 1000))], old, generation, now)
        return {**old, "observedGeneration": generation, "conditions": given}
    if outcome.plan is None:
        given = conditions.written([], old, generation, now)
        return {"observedGeneration": -1, **old, "conditions": given}
    return _full(observed, outcome, outcome.plan, now, status_s)


def figures_due_s(observed: Observed, outcome: Outcome, now: datetime, status_s: float) -> float | None:
    """Return after how many seconds figures may be written that changed much too soon; None where none wait."""
    if outcome.plan is None or outcome.plan.suspended:
        return None
    before = (observed.feed.get("status") or {}).get("sampled")
    after = _figures(flow.figures(observed, outcome.plan, now))
    if not before or not after or not _changed_much(before, after):
        return None
    return max(0.0, status_s - _age_s(before["at"], now))


def _full(observed: Observed, outcome: Outcome, plan: Plan, now: datetime, status_s: float) -> Manifest:
    old: Mapping[str, Any] = observed.feed.get("status") or {}
    generation = int(observed.feed["metadata"].get("generation") or 0)
    topics_ready, topics = parts.topics(observed, outcome, plan)
    ingest_ready, shards = parts.ingest(observed, outcome, plan)
    sinks_ready, sinks = parts.sinks(observed, outcome, plan)
    analytics_ready, analytics = parts.analytics(observed, outcome, plan)
    # Nobody judges the streaming job of a paused feed: what was said of it stays.
    unjudged = outcome.paused and plan.analytics is not None and outcome.analytics is None
    found = [
        topics_ready,
        ingest_ready,
        flow.data_flowing(observed, outcome, plan, old, now),
        flow.complete(observed, plan, old, now),
        sinks_ready,
        *([] if unjudged else [analytics_ready]),
        parts.suspended(observed, plan),
    ]
    status = {
        "observedGeneration": generation,
        "conditions": _with_ready(found, observed, outcome, plan, now),
        "symbols": len({stream.symbol for shard in plan.shards for stream in shard.streams}),
        "shards": _shards(plan, shards),
        "topics": topics,
        "sinks": sinks,
        "sinksSummary": f"{sum(sink['ready'] >= sink['desired'] > 0 for sink in sinks)}/{len(sinks)}",
        "analytics": old.get("analytics", analytics) if unjudged else analytics,
        "sampled": _sampled(old.get("sampled"), observed, plan, now, status_s),
        **_hand_over(old, outcome.hand_over, now),
        "approval": _approval(outcome),
        "warnings": [presentable(text) for text in (*plan.warnings, *outcome.releasing)][:_SENTENCES_SHOWN],
    }
    return {name: value for name, value in status.items() if value not in (None, [])}


def _with_ready(
    found: list[conditions.Condition], observed: Observed, outcome: Outcome, plan: Plan, now: datetime
) -> list[Manifest]:
    """Return all conditions; Ready lifts the words that the others are written with, so it changes when they do."""
    old: Mapping[str, Any] = observed.feed.get("status") or {}
    generation = int(observed.feed["metadata"].get("generation") or 0)
    given = {one["type"]: one for one in conditions.written(found, old, generation, now)}
    summary = conditions.ready(
        [given[type_] for type_ in conditions.NEEDED],
        paused=outcome.paused,
        suspended=plan.suspended,
        approval=_approval_sentence(observed, outcome),
    )
    return conditions.written([summary, *found], old, generation, now)


def _shards(plan: Plan, found: list[Workload]) -> Manifest:
    """Return how many shards there are; a suspended feed has none that is ready."""
    ready = 0 if plan.suspended else sum(one.ready for one in found)
    return {
        "desired": len(plan.shards),
        "ready": ready,
        "streams": sum(len(shard.streams) for shard in plan.shards),
        "summary": f"{ready}/{len(plan.shards)}",
        "selector": f"{COMPONENT}={COMPONENT_INGESTOR},{FEED_LABEL}={plan.feed}",
    }


def _approval(outcome: Outcome) -> Manifest | None:
    if not outcome.held_back or outcome.approval is None:
        return None
    changes = [presentable(difference.sentence) for difference in outcome.held_back[:_SENTENCES_SHOWN]]
    return {"hash": outcome.approval, "changes": changes}


def _approval_sentence(observed: Observed, outcome: Outcome) -> str | None:
    waiting = _approval(outcome)
    if waiting is None:
        return None
    metadata = observed.feed["metadata"]
    command = approve_command(metadata["name"], metadata.get("namespace"), waiting["hash"])
    first = waiting["changes"][0]
    more = f" (and {len(outcome.held_back) - 1} more)" if len(outcome.held_back) > 1 else ""
    return f"what would destroy data waits for approval: {first}{more}. To allow it: {command}"


def _sampled(
    before: Mapping[str, Any] | None, observed: Observed, plan: Plan, now: datetime, status_s: float
) -> Mapping[str, Any] | None:
    """Return the figures to show: those of before, until they are both old enough and much different."""
    if plan.suspended:
        return None
    after = _figures(flow.figures(observed, plan, now))
    if not after:
        return before
    if not before or not after.keys() <= before.keys():
        return {**(before or {}), **after, "at": conditions.time(now)}
    due = _age_s(before["at"], now) >= status_s and _changed_much(before, after)
    return {**before, **after, "at": conditions.time(now)} if due else before


def _figures(found: Figures) -> dict[str, Any]:
    """Return the figures as they are shown: coarse, and only those that are known."""
    lag_s = found.lag_s
    shown = {
        "messagesPerSecond": None if found.messages_per_second is None else coarse(found.messages_per_second),
        "lagSeconds": None if lag_s is None else (round(lag_s, 1) if lag_s < _LAG_LIMITS_S[0] else round(lag_s)),
        "openGaps": None if found.missing is None else coarse(found.missing),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _changed_much(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    if not after.keys() <= before.keys():
        return True
    lags = before.get("lagSeconds", 0.0), after.get("lagSeconds", before.get("lagSeconds", 0.0))
    if any(min(lags) < limit <= max(lags) for limit in _LAG_LIMITS_S):
        return True
    small = {"lagSeconds"} if abs(lags[0] - lags[1]) < _LAG_STEP_S else set()
    return any(_differ(before[name], after[name]) for name in after.keys() - small)


def _differ(before: float, after: float) -> bool:
    return (before == 0) != (after == 0) or abs(after - before) >= _MUCH * max(abs(before), abs(after), 1e-9)


def _hand_over(old: Mapping[str, Any], found: HandOver | None, now: datetime) -> dict[str, Any]:
    """Return the hand-over that is under way, and the one that ended last.

    `moving` is the most streams that were on their way at once, so that it can be said in the end how many have moved;
    `moves` names some: those that had to be let go too early, which are kept for the end, and some under way.
    """
    before, last = old.get("handOver"), old.get("lastHandOver")
    if found is not None and (found.moving or found.broken):
        return {"handOver": _under_way(before or {}, found, now), "lastHandOver": last}
    if not before or found is None:
        return {"handOver": before, "lastHandOver": last}
    ended = {
        "at": conditions.time(now),
        "seconds": round(max(0.0, _age_s(before["since"], now))),
        "moved": before["moving"],
        "broken": sum(_BROKEN in move for move in before["moves"]),
    }
    return {"lastHandOver": ended}


def _under_way(before: Mapping[str, Any], found: HandOver, now: datetime) -> Manifest:
    kept = [move for move in before.get("moves") or () if _BROKEN in move]
    broken = dict.fromkeys([*kept, *(_shown(move) + _BROKEN for move in found.broken)])
    return {
        "since": before.get("since") or conditions.time(now),
        "moving": max(before.get("moving", 0), len(found.moving) + len(broken)),
        "moves": [*broken, *map(_shown, found.moving)][:_MOVES_SHOWN],
    }


def _shown(move: Move) -> str:
    return f"{move.stream}: {move.source} -> {move.target}"


def _age_s(time: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(time)).total_seconds()
