"""What the services' own figures say: whether data flows, whether all of it is stored, and how fast.

What does not live here: asking the services (sampler), and how often figures are written (status).

What a sample's `stats` must hold to count here, all of it optional:
- an ingestor's: `last_message_age_s`, s since the last message, and `messages_per_second`, which the sampler adds from
  the totals of its last two looks: one sample alone tells no rate;
- a consumer's: `lag_seconds` with `assigned_partitions` (it knows the lag of its own partitions only), and `proof`:
  `window_s`, `missing`, `expected`, `stored` and `unprovable_streams` of the whole database, or null.
A sample's `problem` is the reason that the service's `/health` gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import floor, log10
from typing import Any

from marketfeed_operator.causes import presentable
from marketfeed_operator.observed import Observed, Sample
from marketfeed_operator.outcome import Outcome
from marketfeed_operator.plan import Consumer, Plan
from marketfeed_operator.rules import DATABASES
from marketfeed_operator.status.conditions import Condition, Status, of
from marketfeed_operator.status.symptoms import reason_of
from marketfeed_operator.status.workloads import pods_of, running, samples_of

FLOWING_S = 60.0
"""A message within so long says that data flows; where it is quiet for longer, the service itself must say so."""
CURRENT_S = 180.0
"""An older sample says nothing any more."""

_BEST_FIRST: tuple[Status | None, ...] = ("True", "Unknown", "False", None)


@dataclass(frozen=True, slots=True)
class Figures:
    """What the whole feed does at the moment; None where nobody said."""

    messages_per_second: float | None = None
    lag_s: float | None = None
    missing: int | None = None


@dataclass(frozen=True, slots=True)
class _Flow:
    """What is said of one shard; `status` None: no news."""

    status: Status | None
    reason: str
    text: str


def data_flowing(observed: Observed, outcome: Outcome, plan: Plan, old: Mapping[str, Any], now: datetime) -> Condition:
    """Return DataFlowing: True while every shard's data moves. A shard without news is as it was.

    Nothing is to be said of a shard without streams: more shards were asked for than the streams need.
    """
    if plan.suspended:
        return Condition("DataFlowing", "False", "Suspended", "spec.suspend is true")
    before = of(old, "DataFlowing") or {}
    flows = [(shard.name, _shard(observed, outcome, shard.name, now)) for shard in plan.shards if shard.streams]
    for status in ("False", "Unknown"):
        bad = [(name, flow) for name, flow in flows if flow.status == status]
        if bad:
            return _not_flowing(bad)
    silent = any(flow.status is None for _, flow in flows)
    if silent and before.get("status") != "True":
        return Condition("DataFlowing", "Unknown", "NotSampled", "the ingestors have not been asked yet")
    return Condition("DataFlowing", "True", "Flowing", "data flows through every shard")


def complete(observed: Observed, plan: Plan, old: Mapping[str, Any], now: datetime) -> Condition:
    """Return Complete: True when every record that ids can prove is stored, as the consumers' proofs say."""
    stores = [consumer for consumer in plan.consumers if consumer.type in DATABASES]
    if not stores:
        return _incomplete("NotStored", "no sink is a database: nothing is stored that could be proven")
    if plan.suspended:
        return _incomplete("Suspended", "spec.suspend is true: nothing is checked")
    proofs = {consumer.sink: _proof(observed, consumer, now) for consumer in stores}
    known = {sink: proof for sink, proof in proofs.items() if proof is not None}
    gaps = {sink: missing for sink, proof in known.items() if (missing := _count(proof, "missing")) > 0}
    if gaps:
        return _gaps(gaps, known)
    if len(known) == len(proofs):
        return _proven(known)
    before = of(old, "Complete") or {}
    heard = {store.sink for store in stores if any(_stats(observed, store.name, now))}
    if before.get("status") in ("True", "False") and heard == known.keys():
        # The others were not heard of, as after a start of ours; they have not taken anything back.
        return Condition("Complete", before["status"], before["reason"], before["message"])
    return _incomplete("NotSampled", "the consumers have not proven anything yet")


def figures(observed: Observed, plan: Plan, now: datetime) -> Figures:
    """Return the feed's figures: rates added up, the longest lag, all records that are missing."""
    ingestors = [stats for shard in plan.shards for stats in _stats(observed, shard.name, now)]
    consumers = [stats for consumer in plan.consumers for stats in _stats(observed, consumer.name, now)]
    stores = [consumer for consumer in plan.consumers if consumer.type in DATABASES]
    proofs = [proof for consumer in stores if (proof := _proof(observed, consumer, now)) is not None]
    rates = _numbers(stats.get("messages_per_second") for stats in ingestors)
    lags = _numbers(stats.get("lag_seconds") for stats in consumers if stats.get("assigned_partitions"))
    return Figures(
        messages_per_second=sum(rates) if rates else None,
        lag_s=max(lags, default=None),
        missing=sum(_count(proof, "missing") for proof in proofs) if proofs else None,
    )


def coarse(number: float) -> int:
    """Return a number with two significant digits; what is more than nothing is at least 1."""
    if number <= 0:
        return 0
    return max(1, round(round(number, 1 - floor(log10(number)))))


def _shard(observed: Observed, outcome: Outcome, name: str, now: datetime) -> _Flow:
    flows = [_sample(sample) for sample in _current(samples_of(observed, name), now)]
    best = min(flows, key=lambda flow: _BEST_FIRST.index(flow.status), default=None)
    if best is not None and (best.status == "True" or not _taking_over(outcome, name)):
        return best
    if not _taking_over(outcome, name) and not any(map(running, pods_of(observed, name))):
        return _Flow("False", "NotRunning", "no ingestor runs")
    return _Flow(None, "NotSampled", "it has not been asked yet")


def _taking_over(outcome: Outcome, name: str) -> bool:
    """Tell whether streams are on their way to the shard: they still flow through the one before."""
    return outcome.hand_over is not None and any(move.target == name for move in outcome.hand_over.moving)


def _sample(sample: Sample) -> _Flow:
    if sample.stats is None:
        text = presentable(sample.problem or "does not answer")
        return _Flow("Unknown", "NotAnswering", f"the operator cannot ask its pod, which {text}")
    rate, age_s = sample.stats.get("messages_per_second"), sample.stats.get("last_message_age_s")
    moves = bool(rate) or (age_s is not None and age_s <= FLOWING_S)
    if sample.problem is None:
        # Longer silence is the venue's quiet: the service knows the pace of its streams, and finds no fault.
        return (
            _Flow("True", "Flowing", "") if moves or age_s is not None else _Flow("False", "NoData", "no message yet")
        )
    reason = reason_of(sample.problem)
    if reason == "Subscribing" and moves:
        return _Flow("True", "Flowing", "")
    return _Flow("False", reason, presentable(sample.problem))


def _not_flowing(bad: list[tuple[str, _Flow]]) -> Condition:
    name, flow = bad[0]
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    status = flow.status or "Unknown"
    return Condition("DataFlowing", status, flow.reason, f"shard {name}: {flow.text}{more}", quotes=True)


def _incomplete(reason: str, message: str) -> Condition:
    return Condition("Complete", "Unknown", reason, message)


def _gaps(gaps: Mapping[str, int], proofs: Mapping[str, Mapping[str, Any]]) -> Condition:
    sink = max(gaps, key=lambda name: gaps[name])
    window = _window(proofs[sink])
    message = f"{coarse(gaps[sink])} records of {window} are missing in sink {sink}: marketfeed verify lists them"
    return Condition("Complete", "False", "Gaps", message)


def _proven(proofs: Mapping[str, Mapping[str, Any]]) -> Condition:
    if not any(_count(proof, "expected") for proof in proofs.values()):
        return _incomplete("Unprovable", "no stored stream has ids that could prove it complete")
    unprovable = max(_count(proof, "unprovable_streams") for proof in proofs.values())
    also = f"; {unprovable} streams have no ids that prove anything" if unprovable else ""
    window = _window(next(iter(proofs.values())))
    message = f"every record of {window} that the venue numbered is stored{also}"
    return Condition("Complete", "True", "Proven", message)


def _proof(observed: Observed, consumer: Consumer, now: datetime) -> Mapping[str, Any] | None:
    """Return the latest proof that any consumer of the sink has made; each looks at the whole database."""
    found = [
        stats["proof"] for stats in _stats(observed, consumer.name, now) if isinstance(stats.get("proof"), Mapping)
    ]
    return max(found, key=lambda proof: str(proof.get("checked_at") or ""), default=None)


def _count(proof: Mapping[str, Any], name: str) -> int:
    value = proof.get(name)
    return len(value) if isinstance(value, list | tuple) else int(value or 0)


def _window(proof: Mapping[str, Any]) -> str:
    seconds = proof.get("window_s")
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds and seconds >= 2 * size:
            return f"the last {seconds / size:.0f} {unit}"
    return "the time that is looked at"


def _stats(observed: Observed, name: str, now: datetime) -> Iterator[Mapping[str, Any]]:
    return (sample.stats for sample in _current(samples_of(observed, name), now) if sample.stats is not None)


def _current(samples: Iterable[Sample], now: datetime) -> list[Sample]:
    return [sample for sample in samples if now.timestamp() - sample.at <= CURRENT_S]


def _numbers(values: Iterable[Any]) -> list[float]:
    return [float(value) for value in values if isinstance(value, int | float)]
