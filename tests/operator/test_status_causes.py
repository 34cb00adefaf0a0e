"""What is wrong with a feed's pods, data or spec stands in its status and events, in words that help, and goes again.

Nodes and services are stand-ins; the conditions are those that a person sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

from controlplane import ControlPlane
from helpers import wait_until
from operators import SOON_S, USER, Feeds, OperatorProcess
from released import all_go
from replicas import LATE_S, REPLICAS, replica, writes
from standins.runner import Standins

DSN = "postgresql://writer:hunter2@db:5432/marketfeed"
GEO = "no connection to binance: HTTP 451: the venue does not serve this country; use another endpoint or region"


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with a component's pods, and what is to be said of it."""

    component: str
    fail: Mapping[str, Any]
    condition: str
    reason: str
    words: str
    also: Mapping[str, str] = field(default_factory=dict)  # other conditions, and their reasons


TROUBLES = (
    Trouble(
        "consumer",
        {"cause": "ImagePullBackOff"},
        "SinksReady",
        "ImagePullBackOff",
        "marketfeed/services:test cannot be pulled",
    ),
    Trouble(
        "consumer",
        {"cause": "CrashLoopBackOff", "message": f"marketfeed: no table trades at {DSN}"},
        "SinksReady",
        "CrashLoopBackOff",
        "exit code 1: marketfeed: no table trades at postgresql://***@db:5432/marketfeed",
    ),
    Trouble(
        "consumer",
        {
            "cause": "CrashLoopBackOff",
            "exit_code": 2,
            "message": "marketfeed: MARKETFEED_DSN cannot be read: no such file",
        },
        "SinksReady",
        "BadConfiguration",
        "MARKETFEED_DSN cannot be read: no such file",
    ),
    Trouble(
        "consumer",
        {"cause": "CrashLoopBackOff", "container": "migrate", "message": "marketfeed: permission denied for schema"},
        "SinksReady",
        "MigrationFailed",
        "permission denied for schema",
    ),
    Trouble("consumer", {"cause": "OOMKilled"}, "SinksReady", "OOMKilled", "raise its limit"),
    Trouble(
        "consumer",
        {"cause": "NotReady", "message": "starting: no Kafka broker answers at kafka:9092 within 5 s"},
        "SinksReady",
        "KafkaUnreachable",
        "no Kafka broker answers at kafka:9092",
    ),
    Trouble(
        "ingestor",
        {"cause": "CrashLoopBackOff", "message": "marketfeed: out of luck"},
        "IngestReady",
        "CrashLoopBackOff",
        "out of luck",
        {"DataFlowing": "NotRunning"},
    ),
    Trouble(
        "ingestor",
        {"cause": "NotReady", "message": GEO},
        "DataFlowing",
        "GeoBlocked",
        "the venue does not serve this country",
        {"IngestReady": "GeoBlocked"},
    ),
    Trouble(
        "ingestor",
        {"cause": "NotReady", "message": "no frame for 61.0 s"},
        "DataFlowing",
        "Stale",
        "no frame for",
        {"IngestReady": "Stale"},
    ),
)


def pods(feeds: Feeds, component: str) -> str:
    """Return the selector of this test's pods of a component."""
    uid = (feeds.get("marketfeed", "spot") or {})["metadata"]["uid"]
    return f"marketfeed.dev/feed-uid={uid},app.kubernetes.io/component={component}"


@contextmanager
def failing(standins: Standins, selector: str, **failure: Any) -> Iterator[None]:
    """Let something be wrong with these pods until the block ends."""
    standins.kubelet.fail(selector, **failure)
    try:
        yield
    finally:
        standins.kubelet.heal(selector)


def events(feeds: Feeds) -> str:
    """Return the events that `kubectl describe` shows of the feed."""
    text = feeds.kubectl("describe", "mf", "spot")
    return text[text.index("Events:") :]


def await_event(feeds: Feeds, reason: str, words: str) -> None:
    """Wait until an event with this reason and these words is shown."""

    def shown() -> bool:
        return any(reason in line and words in line for line in events(feeds).splitlines())

    wait_until(shown, SOON_S, f"the event {reason}: {words}", every_s=0.2)


def status_writes(plane: ControlPlane, feeds: Feeds, since: datetime) -> int:
    """Return how often the operator has written the statuses of this test's feeds."""
    return sum(
        item.namespace == feeds.namespace and item.resource == "marketfeeds/status"
        for item in plane.writes(USER, since)
    )


def test_what_is_wrong_with_pods_is_lifted_told_and_goes_again(feeds: Feeds, standins: Standins) -> None:
    """Each trouble stands in its condition and in Ready with reason and message, makes an event, and goes."""
    feeds.apply()
    feeds.wait("Ready")
    for trouble in TROUBLES:
        with failing(standins, pods(feeds, trouble.component), **trouble.fail):
            found = feeds.wait(trouble.condition, "False", trouble.reason)
            assert trouble.words in found["message"]
            for condition, reason in trouble.also.items():
                feeds.wait(condition, "False", reason)
            feeds.wait("Ready", "False", trouble.reason)
            await_event(feeds, trouble.reason, trouble.words)
        feeds.wait(trouble.condition)
        feeds.wait("Ready")
    assert "hunter2" not in feeds.kubectl("get", "marketfeeds,events", "-o", "yaml")


def test_a_usual_start_warns_of_nothing(feeds: Feeds) -> None:
    """What passes by itself while a feed starts, changes and is suspended makes no Warning."""
    feeds.apply()
    feeds.wait("Ready")
    feeds.apply(symbols=["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"])
    wait_until(lambda: feeds.status()["symbols"] == 4, SOON_S, "the change", every_s=0.2)
    feeds.wait("Ready")
    feeds.apply(suspend=True)
    feeds.wait("Suspended")
    feeds.apply()
    feeds.wait("Ready")
    await_event(feeds, "Ready", "all that the feed asks for")
    assert "Warning" not in events(feeds)


def test_a_missing_key_and_a_full_cluster_are_named(feeds: Feeds, standins: Standins) -> None:
    """A Secret without the key, and a pod that no node takes: the kubelet's and the scheduler's words are lifted."""
    sink = {"name": "timescale", "type": "timescaledb", "secretRef": {"name": "timescale", "key": "url"}}
    feeds.apply(sinks=[sink])
    found = feeds.wait("SinksReady", "False", "CreateContainerConfigError")
    assert "couldn't find key url" in found["message"]
    feeds.secret(url=DSN)
    feeds.wait("Ready")
    with failing(standins, pods(feeds, "ingestor"), cause="Unschedulable"):
        feeds.kubectl("delete", "pod", "--selector=app.kubernetes.io/component=ingestor", "--wait=false")
        found = feeds.wait("IngestReady", "False", "Unschedulable")
        assert "0/1 nodes are available" in found["message"]
        feeds.wait("DataFlowing", "False", "NotRunning")
    feeds.wait("Ready")


def test_a_roll_out_that_does_not_come_is_told_while_the_old_pod_goes_on(feeds: Feeds, standins: Standins) -> None:
    """A new template whose pods do not start: IngestReady is False, and data flows through the pod of before."""
    feeds.apply()
    feeds.wait("Ready")
    (old,) = feeds.items("pods", "app.kubernetes.io/component=ingestor")
    selector = f"{pods(feeds, 'ingestor')},trial=yes"
    with failing(standins, selector, cause="CrashLoopBackOff", message="marketfeed: no such option"):
        feeds.apply(ingest={"podTemplate": {"metadata": {"labels": {"trial": "yes"}}}})
        found = feeds.wait("IngestReady", "False", "CrashLoopBackOff")
        assert "no such option" in found["message"]
        assert feeds.condition("DataFlowing")["status"] == "True"
        assert feeds.status()["shards"]["summary"] == "0/1"
        assert old["metadata"]["name"] in feeds.kubectl("get", "pods", "-o", "name")
    feeds.wait("Ready")


def test_data_that_stops_and_records_that_are_missing_are_seen_and_forgotten(feeds: Feeds, standins: Standins) -> None:
    """Without messages DataFlowing is False, without an answer Unknown.

    A gap in the proof makes Complete False, leaves the feed Ready, and closes.
    """
    feeds.apply()
    feeds.wait("Ready")
    feeds.wait("Complete")
    ingestors, consumers = pods(feeds, "ingestor"), pods(feeds, "consumer")
    try:
        standins.kubelet.stats(ingestors, messages_per_second=0.0, last_message_age_s=None)
        feeds.wait("DataFlowing", "False", "NoData")
        await_event(feeds, "DataStopped", "no message yet")
        wait_until(lambda: feeds.status()["sampled"]["messagesPerSecond"] == 0, SOON_S, "the rate", every_s=0.2)
    finally:
        standins.kubelet.stats(ingestors)
    feeds.wait("DataFlowing")
    standins.kubelet.silence(ingestors)
    try:
        found = feeds.wait("DataFlowing", "Unknown", "NotAnswering")
        assert "the operator cannot ask its pod" in found["message"]
    finally:
        standins.kubelet.speak(ingestors)
    feeds.wait("Ready")
    proof = {"window_s": 300, "checked_at": 0, "expected": 500, "stored": 497, "unprovable_streams": 1, "missing": 3}
    try:
        standins.kubelet.stats(consumers, proof=proof)
        found = feeds.wait("Complete", "False", "Gaps")
        assert found["message"].startswith("3 records of the last 5 min are missing in sink timescale")
        assert feeds.condition("Ready")["status"] == "True"
        assert feeds.status()["sampled"]["openGaps"] == 3
        await_event(feeds, "GapsFound", "3 records")
    finally:
        standins.kubelet.stats(consumers)
    feeds.wait("Complete", "True", "Proven")
    await_event(feeds, "GapsClosed", "is stored")


def test_the_time_of_a_transition_is_that_of_the_status_and_generations_are_true(
    feeds: Feeds, standins: Standins
) -> None:
    """Another reason with the same status keeps the time; a change of the spec is answered for by every condition."""
    feeds.apply()
    feeds.wait("Ready")
    consumers = pods(feeds, "consumer")
    with failing(standins, consumers, cause="OOMKilled"):
        began = feeds.wait("SinksReady", "False", "OOMKilled")["lastTransitionTime"]
        later = datetime.fromisoformat(began) + timedelta(seconds=1.2)
        wait_until(lambda: datetime.now(UTC) > later, SOON_S, "the next second", every_s=0.1)
        standins.kubelet.fail(consumers, "CrashLoopBackOff", "marketfeed: another reason")
        assert feeds.wait("SinksReady", "False", "CrashLoopBackOff")["lastTransitionTime"] == began
    assert feeds.wait("SinksReady")["lastTransitionTime"] > began
    applied = feeds.apply(symbols=["BTCUSDT"])
    feeds.wait("Ready")
    generation = applied["metadata"]["generation"]
    assert generation > 1
    assert feeds.status()["observedGeneration"] == generation
    assert {item["observedGeneration"] for item in feeds.status()["conditions"]} == {generation}


def test_a_spec_that_only_the_operator_can_refuse_is_answered_once_and_changes_nothing(
    feeds: Feeds, control_plane: ControlPlane, operator: OperatorProcess
) -> None:
    """Too few shards: Ready is False with the remedy, nobody retries, what runs goes on; mended, the feed goes on."""
    feeds.apply()
    feeds.wait("Ready")
    before = {(item["kind"], item["metadata"]["name"], item["metadata"]["uid"]) for item in _near(feeds)}
    feeds.apply(symbols=["BTCUSDT", "ETHUSDT"], ingest={"shards": 1, "streamsPerShard": 2})
    found = feeds.wait("Ready", "False", "InvalidSpec")
    assert "raise spec.ingest.shards to 2 or spec.ingest.streamsPerShard to 4" in found["message"]
    await_event(feeds, "InvalidSpec", "raise spec.ingest.shards to 2")
    since, errors = datetime.now(UTC), operator.metric("marketfeed_operator_reconciles_total", result="error")
    _sample(operator, 4)
    assert status_writes(control_plane, feeds, since) == 0
    assert operator.metric("marketfeed_operator_reconciles_total", result="error") == errors
    assert {(item["kind"], item["metadata"]["name"], item["metadata"]["uid"]) for item in _near(feeds)} == before
    assert feeds.condition("IngestReady")["status"] == "True"
    feeds.apply(symbols=["BTCUSDT", "ETHUSDT"], ingest={"shards": 2, "streamsPerShard": 2})
    feeds.wait("Ready")
    assert feeds.status()["shards"]["summary"] == "2/2"


def _near(feeds: Feeds) -> list[dict[str, Any]]:
    return feeds.items("deployments,configmaps,pods", "marketfeed.dev/feed=spot")


def test_a_status_of_everything_at_once_is_stored_as_it_was_written(
    feeds: Feeds, standins: Standins, control_plane: ControlPlane, operator: OperatorProcess
) -> None:
    """Hand-over, approval and analytics together: nothing is pruned, so the operator does not write it again."""
    feeds.apply(analytics={})
    feeds.wait("Ready")
    new = f"{pods(feeds, 'ingestor')},marketfeed.dev/shard=spot-ingestor-1"
    standins.kubelet.hold(new)
    try:
        moved = feeds.topics(f"{feeds.namespace}-2")
        feeds.apply(analytics={}, ingest={"streamsPerShard": 3}, deletionPolicy="Delete", kafka={"topics": moved})
        wait_until(lambda: {"handOver", "approval"} <= feeds.status().keys(), SOON_S, "both", every_s=0.2)
        feeds.wait("Ready", "False", "ApprovalNeeded")
        stored = feeds.status()
        assert stored["analytics"]
        assert stored["handOver"]["moves"]
        assert stored["approval"]["changes"]
        _settle(feeds, operator)
        since = datetime.now(UTC)
        _sample(operator, 6)
        assert status_writes(control_plane, feeds, since) == 0
    finally:
        standins.kubelet.release(new)


def _sample(operator: OperatorProcess, times: int) -> None:
    """Wait until the operator has read its pods so many times more."""
    seen = operator.metric("marketfeed_operator_samples_total")
    wait_until(
        lambda: operator.metric("marketfeed_operator_samples_total") >= seen + times, SOON_S, "samples", every_s=0.3
    )


def _settle(feeds: Feeds, operator: OperatorProcess) -> None:
    """Wait until the rate is known, which takes two samples of each pod, and six samples bring no change."""

    def calm() -> bool:
        before = feeds.status()
        _sample(operator, 6)
        return bool(before["sampled"]["messagesPerSecond"]) and feeds.status() == before

    wait_until(calm, LATE_S, "the status to settle", every_s=0.1)
    operator.assert_alive()


def test_figures_are_written_when_they_changed_much_and_not_too_often(
    quiet_control_plane: ControlPlane, quiet_feeds: Feeds, tmp_path: Path
) -> None:
    """Figures that jump with each sample are written every status_s at most; small changes are not written at all."""
    every_s = 3.0
    with (
        Standins(quiet_control_plane.kubeconfig) as nodes,
        replica(quiet_control_plane, tmp_path, REPLICAS[0], status_s=every_s),
    ):
        quiet_feeds.apply(deletionPolicy="Delete")
        quiet_feeds.wait("Ready")
        ingestors = pods(quiet_feeds, "ingestor")

        def figures(rate: float) -> None:
            nodes.kubelet.stats(ingestors, messages_per_second=rate)

        def written() -> list[datetime]:
            return [
                item.at
                for item in writes(quiet_control_plane, REPLICAS[0], since)
                if (item.namespace, item.resource) == (quiet_feeds.namespace, "marketfeeds/status")
            ]

        def vary(*rates: float, until: Callable[[], bool]) -> None:
            turn = cycle(rates)

            def varied() -> bool:
                figures(next(turn))
                return until()

            wait_until(varied, LATE_S, f"what {rates} lead to", every_s=0.7)

        figures(1000.0)
        wait_until(lambda: _rate(quiet_feeds) == 1000, LATE_S, "the first rate", every_s=0.2)
        since = datetime.now(UTC)
        vary(100.0, 3000.0, until=lambda: len(written()) >= 3)
        gaps = [after - before for before, after in pairwise(written())]
        assert min(gaps).total_seconds() >= every_s - 1  # a status tells its time to the second
        figures(1000.0)
        wait_until(lambda: _rate(quiet_feeds) == 1000, LATE_S, "the last rate", every_s=0.2)
        since = datetime.now(UTC)
        vary(1100.0, 950.0, until=lambda: datetime.now(UTC) > since + timedelta(seconds=every_s + 2))
        assert written() == []
        quiet_feeds.kubectl("delete", "mf", "spot")
        all_go(quiet_feeds)


def _rate(feeds: Feeds) -> float | None:
    found: float | None = (feeds.status().get("sampled") or {}).get("messagesPerSecond")
    return found
